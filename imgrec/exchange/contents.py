"""What a file of vectors holds, whatever its form: a row an image, vectors in columns, and what these are of."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from imgrec.errors import UsageError
from imgrec.gallery.recorded import is_fusion_spec
from imgrec.gallery.results import label_of
from imgrec.kinds import Record, Space, Vectors
from imgrec.options import allowed_types, type_hints

FORMAT = 1
"""The version of what imgrec writes, in `About`."""

BLOCK = 16_384
"""Rows in memory at a time: with 1,024 values each 64 MB."""

FIELDS: dict[str, type] = {
    spec.name: allowed_types(type_hints(Record)[spec.name])[0]
    for spec in dataclasses.fields(Record)
    if spec.name != "missing"  # what is missing is not exported
}
"""The columns of a record, `path` first, and their types: `str` or `int`."""

OPTIONAL = frozenset(name for name in FIELDS if type(None) in allowed_types(type_hints(Record)[name]))

LABEL = "label"
"""The column beside them that is for readers; it follows from the path."""


@dataclass(frozen=True)
class Column:
    """Vectors of one space."""

    name: str
    """That of the column, or of the file without its suffix."""

    term: str
    """Its name in a fusion; empty outside of one."""

    dim: int
    space: Space
    """What they are said to be of."""


@dataclass(frozen=True)
class About:
    """What an exported file says of its vectors."""

    columns: tuple[Column, ...]
    fusion: Mapping[str, Any] | None = None
    """What the store recorded of a fusion of them."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; the inverse of `from_json`."""
        return {"format": FORMAT, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, data: Any, file: Path) -> About:
        """What `to_json` made data of; `file` is named in errors.

        Raises:
            UsageError: it is of a newer imgrec, or damaged.
        """
        try:
            if data["format"] > FORMAT:
                raise UsageError(f"{file} is of a newer imgrec: update this one")
            columns = [
                Column(str(each["name"]), str(each["term"]), int(each["dim"]), Space.from_json(each["space"]))
                for each in data["columns"]
            ]
            fusion = data["fusion"]
            spaces = {each.term: each.space.key for each in columns}
            if not columns or len({each.name for each in columns}) < len(columns):
                raise ValueError("it names no columns, or one twice")
            if fusion is not None and not (is_fusion_spec(fusion) and fusion["spaces"] == spaces):
                raise ValueError("its fusion is not of its columns")
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"what {file} says of its vectors is damaged: {error}") from None
        return cls(tuple(columns), fusion)


@dataclass(frozen=True)
class Block:
    """Some images in the order of their paths, with their vectors by the names of columns."""

    records: Sequence[Record]
    vectors: Mapping[str, Vectors]


class Form(Protocol):
    """A way to write files of vectors."""

    suffix: ClassVar[str]
    """Of the file's name; empty if it is a folder."""

    vectors: ClassVar[str]
    """What the only column of vectors is called; those of a fusion have their term's name behind."""

    files: ClassVar[re.Pattern[str]]
    """The names of the files in its folder."""

    def write(self, to: Path, about: About, blocks: Iterator[Block]) -> None:
        """Write a file or folder that does not exist yet."""


@dataclass(frozen=True)
class Rows:
    """Some rows of a file."""

    first: int
    """The number of the first, from 1."""

    paths: Sequence[str]
    """As they are written there."""

    fields: Mapping[str, Sequence[Any]]
    """The other columns of a record, of an exported file; empty for another one."""

    vectors: dict[str, Vectors] = field(default_factory=dict)
    """By column `float32 (n, dim)`."""


class Reader(Protocol):
    """A file or folder of vectors, ready to be read any number of times."""

    about: About | None
    """What it says of itself; None if imgrec did not write it."""

    files: Sequence[Path]
    """All that it consists of, in order."""

    def vector_columns(self) -> list[str]:
        """The names of columns that may hold vectors."""

    def path_columns(self) -> list[str]:
        """The names of columns that may hold paths."""

    def read(self, paths: str, vectors: Sequence[str]) -> Iterator[Rows]:
        """All rows, `BLOCK` at a time, with the column of paths and some columns of vectors."""


def cells(record: Record) -> dict[str, Any]:
    """A record as a row: its path, its label, and what else is known."""
    values = {name: getattr(record, name) for name in FIELDS}
    return {"path": values.pop("path"), LABEL: label_of(record.path), **values}


def as_vectors(values: np.ndarray[Any, Any], where: str) -> Vectors:
    """Rows of numbers as vectors.

    Raises:
        UsageError: these are no numbers.
    """
    if values.ndim != 2 or not values.shape[1] or values.dtype.kind not in "fiu":
        raise UsageError(f"{where} has {values.dtype} of shape {values.shape}, not vectors of numbers")
    with np.errstate(over="ignore"):  # what is too large is refused as not finite
        vectors: Vectors = np.ascontiguousarray(values, dtype=np.float32)
    return vectors
