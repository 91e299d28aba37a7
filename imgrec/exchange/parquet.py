"""Parquet: a row an image, vectors as lists of one length, what they are of in the schema's metadata.

A name that is not UTF-8 has its bytes in the column `path_bytes`, which is null otherwise, and U+FFFD in `path`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

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
from imgrec.gallery.results import Match
from imgrec.installation import install_command
from imgrec.kinds import Vectors

if TYPE_CHECKING:
    import pyarrow

KEY = b"imgrec"
"""The name in the schema's metadata."""

BYTES = "path_bytes"

BUFFER = 1 << 20
"""Bytes of each column that are read ahead, instead of a whole row group's."""


def needs_pyarrow() -> None:
    """Refuse to go on without the library.

    Raises:
        UsageError: with the command that installs it.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise UsageError(f"Parquet needs pyarrow: {install_command('imgrec[parquet]')}") from None


class Parquet(Form):
    """A Parquet file, as pandas, Polars, DuckDB and Spark read it."""

    suffix: ClassVar[str] = ".parquet"
    vectors: ClassVar[str] = "vector"
    files: ClassVar[re.Pattern[str]] = re.compile(r"(?!)")

    def write(self, to: Path, about: About, blocks: Iterator[Block]) -> None:
        """Write a file; see `Form`."""
        needs_pyarrow()
        import pyarrow
        from pyarrow import parquet

        types = {str: pyarrow.string(), int: pyarrow.int64()}
        columns = {"path": str, LABEL: str, **FIELDS}
        fields = [pyarrow.field(name, types[kind], nullable=name in OPTIONAL) for name, kind in columns.items()]
        fields.append(pyarrow.field(BYTES, pyarrow.binary()))
        fields += [pyarrow.field(each.name, pyarrow.list_(pyarrow.float32(), each.dim)) for each in about.columns]
        schema = pyarrow.schema(fields, {KEY: json.dumps(about.to_json()).encode()})
        with parquet.ParquetWriter(
            to, schema, compression="zstd", use_dictionary=[LABEL], write_statistics=list(columns)
        ) as writer:
            for block in blocks:
                rows = [cells(record) for record in block.records]
                arrays = [
                    pyarrow.array([_text(row[name]) for row in rows], schema.field(name).type) for name in columns
                ]
                arrays.append(pyarrow.array([utf8(row["path"])[1] for row in rows], pyarrow.binary()))
                for each in about.columns:
                    values = pyarrow.array(block.vectors[each.name].ravel())
                    arrays.append(pyarrow.FixedSizeListArray.from_arrays(values, each.dim))
                # A row group each: batches would be held back until a million rows are full.
                writer.write_table(pyarrow.table(arrays, schema=schema))


def _text(value: Any) -> Any:
    """A value with what is not UTF-8 in it replaced."""
    return utf8(value)[0] if isinstance(value, str) else value


def utf8(name: str) -> tuple[str, bytes | None]:
    """A name with what is not UTF-8 in it replaced, and in that case its bytes."""
    raw = os.fsencode(name)
    try:
        return raw.decode(), None
    except UnicodeDecodeError:
        return raw.decode(errors="replace"), raw


class ParquetFiles(Reader):
    """Parquet files of one schema, one after the other; see `contents.Reader`."""

    def __init__(self, files: Sequence[Path]) -> None:
        needs_pyarrow()
        self.files = files
        with _errors_of(files[0]):
            from pyarrow import parquet

            self._schema: pyarrow.Schema = parquet.read_schema(files[0])
        self.about = _about(self._schema, files[0])
        for file in files[1:]:
            with _errors_of(file):
                if not parquet.read_schema(file).equals(self._schema, check_metadata=True):
                    raise UsageError(f"{file} has other columns than {files[0].name}")
        if self.about and any(name not in self._schema.names for name in FIELDS):
            raise UsageError(f"{files[0]} lacks columns of a record, or was changed: it has {self._columns()}")

    def _columns(self) -> str:
        return ", ".join(self._schema.names)

    def vector_columns(self) -> list[str]:
        """The columns of lists; see `Reader`."""
        from pyarrow import types

        lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
        return [each.name for each in self._schema if any(is_list(each.type) for is_list in lists)]

    def path_columns(self) -> list[str]:
        """The columns of text; see `Reader`."""
        from pyarrow import types

        texts = (types.is_string, types.is_large_string, types.is_dictionary, types.is_binary)
        return [each.name for each in self._schema if any(is_text(each.type) for is_text in texts)]

    def read(self, paths: str, vectors: Sequence[str]) -> Iterator[Rows]:
        """All rows; see `Reader`."""
        from pyarrow import parquet

        others = [*FIELDS, BYTES] if self.about else []
        wanted = list(dict.fromkeys([paths, *(name for name in others if name in self._schema.names), *vectors]))
        if any("." in name for name in wanted):  # which would be a path into a structure
            wanted = self._schema.names
        first = 1
        for file in self.files:
            with _errors_of(file), parquet.ParquetFile(file, buffer_size=BUFFER) as opened:
                for batch in opened.iter_batches(BLOCK, columns=wanted):
                    found = {name: batch.column(name) for name in wanted}
                    raw = found[BYTES].to_pylist() if BYTES in others and BYTES in found else [None] * len(batch)
                    given = found[paths].to_pylist()
                    yield Rows(
                        first,
                        [_path(*each) for each in zip(given, raw, strict=True)],
                        {name: found[name].to_pylist() for name in FIELDS if name in others and name != "path"},
                        {name: _vectors(found[name], f"{file}: {name}", first) for name in vectors},
                    )
                    first += len(batch)


def _path(text: Any, raw: Any) -> str:
    """A path from its text or its bytes; empty if there is none."""
    given = raw if raw is not None else text
    return os.fsdecode(given) if isinstance(given, bytes) else str(given or "")


def _vectors(column: Any, where: str, first: int) -> Vectors:
    """A column of lists of one length as vectors; `first` is the number of its first row."""
    from pyarrow import compute

    lengths = compute.list_value_length(column).fill_null(0).to_numpy()
    dim = int(lengths[0]) if len(lengths) else 0
    if len(others := np.flatnonzero(lengths != dim)) or not dim:
        row = int(others[0]) if len(others) else 0
        raise UsageError(f"{where} has {lengths[row]} values in row {first + row}, and not as many as in others")
    values = column.flatten().to_numpy(zero_copy_only=False)
    return as_vectors(values.reshape(-1, dim), where)


def _about(schema: pyarrow.Schema, file: Path) -> About | None:
    if KEY not in (schema.metadata or {}):
        return None
    try:
        data = json.loads(schema.metadata[KEY])
    except (ValueError, RecursionError) as error:
        raise UsageError(f"what {file} says of its vectors is damaged: {error}") from None
    return About.from_json(data, file)


@contextlib.contextmanager
def _errors_of(file: Path) -> Iterator[None]:
    """Turn errors of pyarrow into a line that names the file."""
    from pyarrow import ArrowException

    try:
        yield
    except (OSError, ArrowException) as error:
        raise UsageError(f"{file} cannot be read as Parquet: {str(error).splitlines()[0]}") from None


# --- answers ------------------------------------------------------------------------------------------------

RAW = ("query", "path")
"""Columns whose names that are not UTF-8 have their bytes in another one, `query_bytes` and `path_bytes`."""


class AnswersFile(contextlib.AbstractContextManager["AnswersFile"]):
    """The answers to many queries in a Parquet file, a row for each query and match, written as they come.

    Args:
        file: to be made.
        parts: the names of a fusion's terms; each has a column with its share of the distance, `share_NAME`.
    """

    def __init__(self, file: Path, parts: Sequence[str]) -> None:
        import pyarrow
        from pyarrow import parquet

        text, number = pyarrow.string(), pyarrow.float64()
        columns = {"query": text, "rank": pyarrow.int64(), "distance": number}
        columns |= {f"share_{name}": number for name in parts}
        columns |= {"variant": text, "label": text, "path": text, "copies": pyarrow.list_(text)}
        columns |= {f"{name}_bytes": pyarrow.binary() for name in RAW}
        self._parts, self._schema = parts, pyarrow.schema(columns)
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the file with what was written so far."""
        self._writer.close()

    def write(self, answers: Iterable[tuple[str, Sequence[Match]]]) -> None:
        """Append the matches of some queries, given by their paths."""
        import pyarrow

        rows = list(self._rows(answers))
        self._writer.write_table(pyarrow.Table.from_pylist(rows, schema=self._schema))

    def _rows(self, answers: Iterable[tuple[str, Sequence[Match]]]) -> Iterator[dict[str, Any]]:
        for query, matches in answers:
            for match in matches:
                row: dict[str, Any] = {
                    "query": query,
                    "rank": match.rank,
                    "distance": match.distance,
                    **{f"share_{name}": match.shares[name] for name in self._parts},
                    "variant": match.variant,
                    "label": utf8(match.label)[0],
                    "path": match.path,
                    "copies": [utf8(path)[0] for path in match.copies],
                }
                for name in RAW:
                    row[name], row[f"{name}_bytes"] = utf8(row[name])
                yield row
