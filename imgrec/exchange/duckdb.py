"""A folder for DuckDB: a Parquet file, and the script that makes a table of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from imgrec.exchange.contents import About, Block, Form
from imgrec.exchange.parquet import Parquet

TABLE, SCRIPT = "images.parquet", "load.sql"


class DuckDB(Form):
    """A folder with `load.sql`, which `duckdb gallery.db < load.sql` runs there."""

    suffix: ClassVar[str] = ""
    vectors: ClassVar[str] = Parquet.vectors
    files: ClassVar[re.Pattern[str]] = re.compile(rf"{re.escape(TABLE)}|{re.escape(SCRIPT)}")

    def write(self, to: Path, about: About, blocks: Iterator[Block]) -> None:
        """Write a folder; see `Form`."""
        to.mkdir()
        Parquet().write(to / TABLE, about, blocks)
        # DuckDB reads lists of one length as lists of any, and its distances want arrays.
        arrays = ", ".join(
            f"{_quoted(each.name)}::FLOAT[{each.dim}] AS {_quoted(each.name)}" for each in about.columns
        )
        one = _quoted(about.columns[0].name)
        script = f"""-- In this folder: duckdb gallery.db < {SCRIPT}
CREATE OR REPLACE TABLE images AS SELECT * REPLACE ({arrays}) FROM '{TABLE}';

-- The five images nearest to one, by its path: FROM nearest('/photos/a.jpg');
CREATE OR REPLACE MACRO nearest(one) AS TABLE
    SELECT other.path, array_distance(other.{one}, this.{one}) AS distance
    FROM images AS this, images AS other WHERE this.path = one AND other.path != one
    ORDER BY distance, other.path LIMIT 5;
"""
        (to / SCRIPT).write_text(script, encoding="utf-8")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
