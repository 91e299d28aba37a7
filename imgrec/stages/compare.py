"""compare: runs side by side."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from imgrec.errors import UsageError
from imgrec.kinds import Stage
from imgrec.options import option, written
from imgrec.run import Run, table
from imgrec.run.comparison import compare, is_number, names_of, pictures_of
from imgrec.run.viewer import Opens

DIGEST = re.compile(r"[0-9a-f]{64}")

PICTURE = "compare.png"


@dataclass(kw_only=True)
class Compare(Opens, Stage):
    """Put runs side by side: what of their configuration differs, their figures, and their pictures."""

    positional: ClassVar[str | None] = "runs"
    takes_several: ClassVar[bool] = True

    runs: Any = option(path=True, help="folders of runs, two or more: [RUN,RUN]")

    def execute(self, run: Run) -> None:
        """Print differences and figures, and draw the pictures that several runs have side by side."""
        folders = [self.runs] if isinstance(self.runs, str) else list(self.runs)
        if len(folders) < 2:
            raise UsageError(f"compare takes two runs or more, and these are {len(folders)}: {self.runs}")
        compared = compare(folders)
        run.counts.update({name: len(rows) for name, rows in compared.items()})
        names = names_of(folders)
        result = {"runs": [os.path.abspath(folder) for folder in folders], **compared}
        run.write_json("compare.json", result)
        for heading, rows in compared.items():
            cells = [[key, *_cells(values)] for key, values in rows.items()]
            run.print(table(cells, [heading, *names]) if rows else f"{heading}: none")
            run.print("")
        if pictures := pictures_of(folders):
            from imgrec.drawing.comparison import side_by_side

            with run.timed("draw"):
                side_by_side(names, pictures, run.folder / PICTURE)
            run.note(f"side by side in {run.folder / PICTURE}")
            self.show(run, run.folder / PICTURE)
        elif self.open:
            run.note("open=true shows nothing: these runs have no pictures of the same name")


def _cells(values: Sequence[Any]) -> list[str]:
    """Format values, numbers with their difference from the first run's.

    >>> _cells([0.5, 0.625, None])
    ['0.5', '0.625 (+0.125)', '']
    """
    first, cells = values[0], []
    for value in values:
        text = f"{value:.6g}" if isinstance(value, float) else "" if value in (None, {}, []) else written(value)
        text = text[:12] if DIGEST.fullmatch(text) else text
        is_other = is_number(value) and is_number(first) and value != first
        cells.append(f"{text} ({value - first:+.4g})" if is_other else text)
    return cells
