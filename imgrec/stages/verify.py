"""verify: checks a gallery and repairs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from imgrec.errors import ImgrecError
from imgrec.kinds import Stage, Store
from imgrec.options import component, option
from imgrec.run import Run, table, to_json
from imgrec.verification import Finding, verify


@dataclass(kw_only=True)
class Verify(Stage):
    """Check a gallery: database, rows, vectors, files by their digests, derived files, backup; and repair it."""

    positional: ClassVar[str | None] = None

    sample: int | None = option(
        1000, minimum=1, help="read at most so many files, chosen by seed, and compare their digests; null: all"
    )
    fix: bool = option(False, help="put right what can be derived; the next ingest extracts what was dropped")
    format: str = option("table", choices=("table", "json"), help="of the result on stdout")
    store: Store = component("store")
    backup: Store | None = component("backup")

    def execute(self, run: Run) -> None:
        """Check, repair if asked to, print a table, and write all problems to `results.json`.

        Raises:
            ImgrecError: problems remain.
        """
        with run.timed("verify"):
            findings = verify(
                self.store, self.backup, sample=self.sample, fix=self.fix, seed=self.seed, show_progress=True
            )
        rows = [
            {"check": each.check, "looked_at": each.looked_at, "wrong": len(each.wrong), "fixed": each.fixed}
            for each in findings
        ]
        result = {
            "store": self.store.location,
            "checks": [{**row, "lines": each.wrong} for row, each in zip(rows, findings, strict=True)],
        }
        run.counts.update({each.check: each.left for each in findings})
        run.write_json("results.json", result)
        run.print(to_json(result) if self.format == "json" else _as_table(findings))
        if left := [each.check for each in findings if each.left]:
            how = "fix=true repairs what can be derived"
            if self.fix:
                how = "what is left cannot be derived: restore a backup into a new store.path=, or ingest anew"
            raise ImgrecError(f"{self.store.location} is not sound ({', '.join(left)}): {how}")


def _as_table(findings: Sequence[Finding]) -> str:
    rows = [[each.check, each.looked_at, len(each.wrong), each.fixed, _example(each.wrong)] for each in findings]
    return table(rows, header=["check", "looked at", "wrong", "fixed", "what is wrong"])


def _example(wrong: Sequence[str]) -> str:
    more = f" (and {len(wrong) - 1:,} more)" if len(wrong) > 1 else ""
    return f"{wrong[0]}{more}" if wrong else ""
