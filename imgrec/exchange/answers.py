"""The answers to many queries as one Parquet file, a row for each query and match, written as they come."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from imgrec.exchange.parquet import utf8
from imgrec.gallery.results import Match

RAW = ("query", "path")
"""Columns whose names that are not UTF-8 have their bytes in another one, `query_bytes` and `path_bytes`."""


class AnswersFile(contextlib.AbstractContextManager["AnswersFile"]):
    """A Parquet file that is being written.

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
