"""compare: runs side by side."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from imgrec.errors import UsageError
from imgrec.kinds import Stage
from imgrec.options import option, written
from imgrec.run import Run, flat, read_record, read_results, table

SETTINGS = ("stage", "choices", "configuration", "directory", "gallery", "inputs", "plugins", "versions", "git")
"""Parts of a record that may explain why results differ."""

ALREADY_TOLD = re.compile(r"choices\.stage|gallery\.spaces\[\d+\]\.(extractor|options|identity)\b.*")

MEASURED = ("counts", "timings", "seconds")
"""Parts of a record that are results."""

OF_AN_ITEM = re.compile(r"\[\d+\]\.")
"""In keys of what belongs to one of many, as a match does: pictures show it better."""

DIGEST = re.compile(r"[0-9a-f]{64}")

PICTURE = "compare.png"


@dataclass(kw_only=True)
class Compare(Stage):
    """Put runs side by side: what of their configuration differs, their figures, and their pictures."""

    positional: ClassVar[str | None] = "runs"
    takes_several: ClassVar[bool] = True

    runs: Any = option(path=True, help="folders of runs, two or more: [RUN,RUN]")

    def execute(self, run: Run) -> None:
        """Print what differs and all figures, and draw each picture that several runs have."""
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
            run.print(str(run.folder / PICTURE))


def compare(folders: Sequence[str | os.PathLike[str]]) -> dict[str, dict[str, list[Any]]]:
    """What tells runs apart.

    Args:
        folders: the runs'.

    Returns:
        `differs`: of configuration, data and versions what is not the same in all runs; `figures`: all numbers
        among the results, times included. Each by a dotted key, one value a run, None where a run has no such
        value.

    Raises:
        UsageError: one of the folders is no run's.
    """
    records = [read_record(folder) for folder in folders]
    settings = [flat({name: record.get(name) for name in SETTINGS}) for record in records]
    differs = {
        key: values
        for key, values in _aligned(settings).items()
        if not ALREADY_TOLD.fullmatch(key)
        and any(value != values[0] for value in values)
        and any(value not in (None, {}, []) for value in values)
    }
    measured = [
        {**flat(read_results(folder)), **flat({name: record.get(name) for name in MEASURED})}
        for folder, record in zip(folders, records, strict=True)
    ]
    figures = {
        key: values
        for key, values in _aligned(measured).items()
        if not OF_AN_ITEM.search(key) and any(map(_is_number, values))
    }
    return {"differs": differs, "figures": figures}


def _aligned(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The values of all runs by key, in the order in which keys first come."""
    keys = {key: None for each in runs for key in each}
    return {key: [each.get(key) for each in runs] for key in keys}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cells(values: Sequence[Any]) -> list[str]:
    """Values as they are written, numbers with what sets them apart from the first run's.

    >>> _cells([0.5, 0.625, None])
    ['0.5', '0.625 (+0.125)', '']
    """
    first, cells = values[0], []
    for value in values:
        text = f"{value:.6g}" if isinstance(value, float) else "" if value in (None, {}, []) else written(value)
        text = text[:12] if DIGEST.fullmatch(text) else text
        is_other = _is_number(value) and _is_number(first) and value != first
        cells.append(f"{text} ({value - first:+.4g})" if is_other else text)
    return cells


def names_of(folders: Sequence[str | os.PathLike[str]]) -> list[str]:
    """The shortest ends of the folders' paths that tell all of them apart.

    >>> names_of(["outputs/sweeps/a/0", "outputs/sweeps/a/1"]), names_of(["x/a/0", "x/b/0"])
    (['0', '1'], ['a/0', 'b/0'])
    """
    parts = [Path(folder).absolute().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        names = [os.path.join(*each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [os.fspath(folder) for folder in folders]


def pictures_of(folders: Sequence[str | os.PathLike[str]]) -> dict[str, list[Path | None]]:
    """The pictures that at least two runs have: by name, one a run, None where it has none of the name."""
    found = [{file.name: file for file in Path(folder).glob("*.png")} for folder in folders]
    return {
        name: files
        for name, files in sorted(_aligned(found).items())
        if sum(file is not None for file in files) > 1
    }
