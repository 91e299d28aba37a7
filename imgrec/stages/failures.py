"""failures: the files that could not be read, or were read with damage, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from imgrec.kinds import Stage, Store
from imgrec.options import component, option
from imgrec.run import Run, table
from imgrec.run.listing import FORMATS, Column, Listing

COLUMNS = ("path", "reason", "time", "outcome")

REFUSED, DAMAGED = "refused", "read with damage"
"""The outcomes: the gallery has no vectors of the file, or it has those of a damaged picture."""


@dataclass(kw_only=True)
class Failures(Stage):
    """List the files that could not be read, or were read with damage: the reason, and when they were tried."""

    positional: ClassVar[str | None] = None
    keeps_record: ClassVar[bool] = False

    format: str = option("table", choices=FORMATS, help="of the result on stdout")
    store: Store = component("store")

    def execute(self, run: Run) -> None:
        """Print the failures and damaged images, each sorted by path; write `failures.csv` and `results.json`."""
        with self.store as store:
            refused = [_row(each.path, each.reason, each.time) for each in store.failures()]
            damaged = [_row(each.path, each.warning) for each in store.records() if each.warning]
        rows = [row for each in (refused, damaged) for row in sorted(each, key=lambda row: row["path"])]
        reasons = len({row["reason"] for row in refused})
        run.counts.update(failed=len(refused), reasons=reasons, damaged=len(damaged))
        listing = Listing([Column(name) for name in COLUMNS], rows, table=self._as_table(rows))
        text = listing.text("csv")
        (run.folder / "failures.csv").write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
        run.write_json("results.json", {"store": self.store.location, "failures": rows})
        run.show(listing, self.format)

    def _as_table(self, rows: Sequence[Mapping[str, str]]) -> str:
        if not rows:
            return f"{self.store.location}: no file has failed"
        cells = [[row["time"], row["outcome"], row["reason"], row["path"]] for row in rows]
        counts = Counter(row["reason"] if row["outcome"] == REFUSED else DAMAGED for row in rows).most_common()
        message = "; ".join(f"{count:,} {reason}" for reason, count in counts)
        return f"{self.store.location}: {message}\n\n{table(cells, header=['tried', 'outcome', 'reason', 'path'])}"


def _row(path: str, reason: str, time: float | None = None) -> dict[str, str]:
    """A line of the list; of an image that was read the time is not kept."""
    tried = "" if time is None else datetime.fromtimestamp(time, UTC).isoformat(timespec="seconds")
    return dict(zip(COLUMNS, (path, reason, tried, DAMAGED if time is None else REFUSED), strict=True))
