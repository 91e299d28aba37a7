"""Filters: which images of a gallery count, said by options."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from imgrec import images
from imgrec.errors import UsageError
from imgrec.gallery.results import Filter, label_of
from imgrec.kinds import Record
from imgrec.options import Options, check_option_names, option, option_names

Test = Callable[[Record], bool]


@dataclass(kw_only=True)
class Narrowing(Options):
    """The options of a filter. A stage that takes them inherits from it; from Python they are a mapping.

    >>> hats = filter_of({"label": "hat", "taken": "2024-01..2024-06"})
    >>> hats(Record("/photos/hat/1.jpg", "00ff", 1234, 0, taken="2024-05-31T18:04:09"))
    True
    """

    among: Any = option(
        None, path=True, help="only images whose whole path is like */hat/*; or a list of patterns"
    )
    label: Any = option(None, text=True, help="only images whose folder has this name; or a list of names")
    taken: str | None = option(
        None, text=True, help="only photographs of this time: 2024, 2024-05-31, 2024-01..2024-06, 2024-06.."
    )
    min_side: int | None = option(None, minimum=1, help="only images whose shorter side has so many pixels")
    folder: Any = option(None, path=True, help="only images below this folder; or a list of folders")

    @property
    def where(self) -> Where | None:
        """The filter that these options make; None if none is given.

        Raises:
            UsageError: an option cannot be understood.
        """
        given = {spec.name: getattr(self, spec.name) for spec in fields(Narrowing)}
        given = {name: value for name, value in given.items() if value is not None}
        return Where(given) if given else None


class Where:
    """A predicate on records: all of the given options at once."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = dict(given)
        self._tests = {name: TESTS[name](value) for name, value in given.items()}

    def __call__(self, record: Record) -> bool:
        """Whether an image counts."""
        return all(test(record) for test in self._tests.values())

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.given.items())

    def refusal(self, records: Iterable[Record]) -> UsageError:
        """The error that says that no image is left, and how many each option leaves."""
        held = list(records)
        left = [f"{name}={self.given[name]} leaves {sum(map(test, held)):,}" for name, test in self._tests.items()]
        unknown = sum(record.width is None for record in held) if self.given.keys() & {"min_side", "taken"} else 0
        hint = f"; the sizes of {unknown:,} are not known: ingest them again" if unknown else ""
        return UsageError(f"no image is left: of {len(held):,}, {', '.join(left)}{hint}")


def filter_of(where: Filter | Mapping[str, Any] | None, name: str = "where") -> Filter | None:
    """A filter: a function of a record as it is, or what options make, `{"label": "hat"}`.

    Raises:
        UsageError: it is neither, or an option is unknown or cannot be understood.
    """
    if where is None or callable(where):
        return where
    if not isinstance(where, Mapping):
        raise UsageError(
            f"{name} takes a function of a record, lambda record: '/hat/' in record.path, or options, "
            f"{{'label': 'hat'}}, not {where!r:.60}"
        )
    check_option_names(name, option_names(Narrowing), where)
    return Narrowing(**where).where


def _several(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]


def _among(value: Any) -> Test:
    patterns = [re.compile(fnmatch.translate(each)).match for each in _several(value)]
    return lambda record: any(is_like(record.path) for is_like in patterns)


def _label(value: Any) -> Test:
    names = set(_several(value))
    return lambda record: label_of(record.path) in names


def _folder(value: Any) -> Test:
    roots = {images.absolute(each) for each in _several(value)}
    return lambda record: images.is_inside(record.path, roots)


def _min_side(value: int) -> Test:
    def is_large(record: Record) -> bool:
        return record.width is not None and record.height is not None and min(record.width, record.height) >= value

    return is_large


EARLIEST = "0001-01-01T00:00:00"
"""Completes a time that is given in part."""

LENGTHS = (4, 7, 10, 13, 16, 19)
"""Characters of a time to the year, month, day, hour, minute and second."""


def _taken(value: str) -> Test:
    first, dots, last = (part.strip() for part in str(value).partition(".."))
    last = last if dots else first
    if not (first or last):
        raise UsageError(f"taken={value} names no time: 2024, 2024-05-31, 2024-01..2024-06 or 2024-06..")
    for part in filter(None, (first, last)):
        try:
            if len(part) not in LENGTHS:
                raise ValueError
            datetime.fromisoformat(part + EARLIEST[len(part) :])
        except ValueError:
            raise UsageError(f"taken={value}: {part} is no time like 2024, 2024-05 or 2024-05-31") from None
    if last and first[: len(last)] > last:
        raise UsageError(f"taken={value} begins after its end: the earlier time comes first")

    def is_between(record: Record) -> bool:
        taken = record.taken
        return taken is not None and taken >= first and (not last or taken[: len(last)] <= last)

    return is_between


TESTS: dict[str, Callable[[Any], Test]] = {
    "among": _among,
    "label": _label,
    "taken": _taken,
    "min_side": _min_side,
    "folder": _folder,
}
"""What makes each option a test of a record."""
