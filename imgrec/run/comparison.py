"""Differences between runs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imgrec.run.console import flat
from imgrec.run.record import read_record, read_results

SETTINGS = ("stage", "choices", "configuration", "directory", "gallery", "inputs", "plugins", "versions", "git")
"""Keys of a record that may explain different results."""

ALREADY_TOLD = re.compile(r"choices\.stage|gallery\.spaces\[\d+\]\.(extractor|options|identity)\b.*")

MEASURED = ("counts", "timings", "seconds")
"""Keys of a record that are results."""

OF_AN_ITEM = re.compile(r"\[\d+\]\.")
"""Marks keys of single items, such as one match, which are not compared as figures."""


def compare(folders: Sequence[str | os.PathLike[str]]) -> dict[str, dict[str, list[Any]]]:
    """Compare runs.

    Args:
        folders: the folders of the runs.

    Returns:
        `differs`: configuration, data and versions that are not equal in all runs; `figures`: all numbers in the
        results, times included. Both map dotted keys to one value per run, None where a run has no such value.

    Raises:
        UsageError: one of the folders is not a run's.
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
        if not OF_AN_ITEM.search(key) and any(map(is_number, values))
    }
    return {"differs": differs, "figures": figures}


def _aligned(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The values of all runs by key, in order of first appearance."""
    keys = {key: None for each in runs for key in each}
    return {key: [each.get(key) for each in runs] for key in keys}


def is_number(value: object) -> bool:
    """Whether a value is a number; booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def names_of(folders: Sequence[str | os.PathLike[str]]) -> list[str]:
    """The shortest unique suffixes of the folders' paths.

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
    """The pictures that at least two runs have, by name: one per run, None where it is missing."""
    found = [{file.name: file for file in Path(folder).glob("*.png")} for folder in folders]
    return {
        name: files
        for name, files in sorted(_aligned(found).items())
        if sum(file is not None for file in files) > 1
    }
