"""failures: the files that could not be read, and why."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from imgrec.kinds import Failure, Stage, Store
from imgrec.options import component, option
from imgrec.run import Run, table, to_json

COLUMNS = ("path", "reason", "time")


@dataclass(kw_only=True)
class Failures(Stage):
    """List the files that could not be read, with the reason and when they were tried."""

    positional: ClassVar[str | None] = None
    keeps_record: ClassVar[bool] = False

    format: str = option("table", choices=("table", "csv", "json"), help="of the result on stdout")
    store: Store = component("store")

    def execute(self, run: Run) -> None:
        """Print the failures sorted by path, and write `failures.csv` and `results.json`."""
        with self.store as store:
            rows = [_row(each) for each in sorted(store.failures(), key=lambda failure: failure.path)]
        run.counts.update(failed=len(rows), reasons=len({row["reason"] for row in rows}))
        text = _as_csv(rows)
        (run.folder / "failures.csv").write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
        run.write_json("results.json", {"store": self.store.location, "failures": rows})
        if self.format == "json":
            run.print(to_json(rows))
        elif self.format == "csv":
            run.print(text.removesuffix("\n"))
        else:
            run.print(self._as_table(rows))

    def _as_table(self, rows: Sequence[Mapping[str, str]]) -> str:
        if not rows:
            return f"{self.store.location}: no file has failed"
        cells = [[row["time"], row["reason"], row["path"]] for row in rows]
        counts = Counter(row["reason"] for row in rows).most_common()
        message = "; ".join(f"{count:,} {reason}" for reason, count in counts)
        return f"{self.store.location}: {message}\n\n{table(cells, header=['tried', 'reason', 'path'])}"


def _row(failure: Failure) -> dict[str, str]:
    tried = datetime.fromtimestamp(failure.time, UTC).isoformat(timespec="seconds")
    return dict(zip(COLUMNS, (failure.path, failure.reason, tried), strict=True))


def _as_csv(rows: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
