"""A run: its record and its output."""

from __future__ import annotations

from imgrec.run.console import flat, progress, table, to_json
from imgrec.run.record import (
    DIFF,
    RECORD,
    RESULTS,
    Run,
    git_commit,
    git_diff,
    read_record,
    read_results,
    version_of,
)

__all__ = [
    "DIFF",
    "RECORD",
    "RESULTS",
    "Run",
    "flat",
    "git_commit",
    "git_diff",
    "progress",
    "read_record",
    "read_results",
    "table",
    "to_json",
    "version_of",
]
