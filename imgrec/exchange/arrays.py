"""NumPy and CSV: a folder with a memory-mappable array for each space, `records.csv`, and `space.json`."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from imgrec.batches import chunks
from imgrec.errors import UsageError
from imgrec.exchange.contents import (
    BLOCK,
    FIELDS,
    LABEL,
    OPTIONAL,
    About,
    Block,
    Form,
    Reader,
    Rows,
    as_vectors,
    cells,
)
from imgrec.kinds import Vectors

RECORDS, SPACE = "records.csv", "space.json"

TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
"""How CSV is opened: names that are not UTF-8 survive as their bytes."""


class Numpy(Form):
    """A folder with `vectors.npy`, whose rows are those of `records.csv`."""

    suffix: ClassVar[str] = ""
    vectors: ClassVar[str] = "vectors"
    files: ClassVar[re.Pattern[str]] = re.compile(rf"{re.escape(RECORDS)}|{re.escape(SPACE)}|vectors.*\.npy")

    def write(self, to: Path, about: About, blocks: Iterator[Block]) -> None:
        """Write a folder; see `Form`."""
        to.mkdir()
        (to / SPACE).write_text(json.dumps(about.to_json(), indent=2), encoding="utf-8")
        with ExitStack() as stack:
            # With its own line ends, csv quotes both of their characters, which a name may have.
            table = csv.writer(stack.enter_context((to / RECORDS).open("w", **TEXT)))
            table.writerow(["path", LABEL, *list(FIELDS)[1:]])
            arrays = {each: stack.enter_context((to / f"{each.name}.npy").open("wb")) for each in about.columns}
            for column, file in arrays.items():
                _write_header(file, 0, column.dim)
            count = 0
            for block in blocks:
                table.writerows(cells(record).values() for record in block.records)
                for column, file in arrays.items():
                    file.write(np.ascontiguousarray(block.vectors[column.name], "<f4").data)
                count += len(block.records)
            for column, file in arrays.items():
                file.seek(0)
                _write_header(file, count, column.dim)


def _write_header(file: BinaryIO, count: int, dim: int) -> None:
    """The header of an array, which has as many bytes for any count."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, dim)}
    np.lib.format.write_array_header_1_0(file, header)


class Arrays(Reader):
    """Arrays in a folder, and the CSV file of their rows; see `contents.Reader`."""

    def __init__(self, folder: Path, arrays: Sequence[Path]) -> None:
        tables = sorted(folder.glob("*.csv"))
        named = [each for each in tables if each.name == RECORDS or each.stem == arrays[0].stem] or tables
        if len(named) != 1:
            listed = ", ".join(each.name for each in named) or "none"
            raise UsageError(
                f"{folder} has to have one CSV file of the arrays' rows, {RECORDS} say, and has {listed}"
            )
        (self._table,) = named
        self._arrays = {each.stem: each for each in arrays}
        self.files = [self._table, *arrays]
        self.about = None
        if (folder / SPACE).is_file():
            self.about = _about(folder / SPACE)
        with self._opened() as rows:
            self._header = [name.removeprefix("\ufeff") for name in next(rows, [])]  # as Excel begins a file
        if self.about and not set(FIELDS) <= set(self._header):
            raise UsageError(f"{self._table} lacks columns of a record: it has {', '.join(self._header)}")

    def vector_columns(self) -> list[str]:
        """The names of the arrays; see `Reader`."""
        return list(self._arrays)

    def path_columns(self) -> list[str]:
        """The columns of the CSV file; see `Reader`."""
        return self._header

    def read(self, paths: str, vectors: Sequence[str]) -> Iterator[Rows]:
        """All rows; see `Reader`."""
        arrays = {name: self._array(name) for name in vectors}
        first, at = 1, {name: self._header.index(name) for name in [paths, *(FIELDS if self.about else ())]}
        with self._opened() as rows:
            for some in chunks(itertools.islice(rows, 1, None), BLOCK):
                if uneven := next((row for row in some if len(row) != len(self._header)), None):
                    raise UsageError(
                        f"{self._table}: a row has {len(uneven)} cells and the header {len(self._header)}: "
                        f"{','.join(uneven):.60}"
                    )
                cut = slice(first - 1, first - 1 + len(some))
                yield Rows(
                    first,
                    [row[at[paths]] for row in some],
                    {name: [self._cell(name, row[at[name]]) for row in some] for name in at if name != paths},
                    {name: as_vectors(array[cut], str(self._arrays[name])) for name, array in arrays.items()},
                )
                first += len(some)
        for name, array in arrays.items():
            if len(array) != first - 1:
                raise UsageError(
                    f"{self._arrays[name]} has {len(array):,} rows, and {self._table.name} {first - 1:,}"
                )

    def _array(self, name: str) -> Vectors:
        file = self._arrays[name]
        try:
            array: Vectors = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, EOFError, ValueError) as error:
            raise UsageError(f"{file} cannot be read as an array: {error}") from None
        if array.ndim != 2:
            raise UsageError(f"{file} has the shape {array.shape}, not that of vectors: rows and values")
        return array

    def _cell(self, name: str, cell: str) -> Any:
        if name in OPTIONAL and not cell:
            return None
        try:
            return FIELDS[name](cell)
        except ValueError:
            raise UsageError(f"{self._table}: {name} is {cell!r:.60}, not a number") from None

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Iterator[list[str]]]:
        try:
            with self._table.open(**TEXT) as file:
                yield csv.reader(file)
        except (OSError, csv.Error) as error:
            raise UsageError(f"{self._table} cannot be read: {error}") from None


def _about(file: Path) -> About:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from None
    return About.from_json(data, file)
