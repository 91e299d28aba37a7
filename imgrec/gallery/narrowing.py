"""Filters: which images of a gallery count, said by options."""

from __future__ import annotations

import fnmatch
import functools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    def given(self) -> dict[str, Any]:
        """The options that are given, by name."""
        values = {spec.name: getattr(self, spec.name) for spec in fields(Narrowing)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def about(self) -> dict[str, Any]:
        """What results tell of the filter; nothing where there is none, as before there were any."""
        return {"where": self.given} if self.given else {}

    @property
    def where(self) -> Where | None:
        """The filter that these options make; None if none is given.

        Raises:
            UsageError: an option cannot be understood.
        """
        return Where(self.given) if self.given else None


class Where:
    """A predicate on records: all of the given options at once.

    Raises:
        UsageError: an option cannot be understood.
    """

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
        hints = [HINTS[name](held) for name in self.given if name in HINTS]
        return UsageError(
            "; ".join([f"no image is left: of {len(held):,}, {', '.join(left)}", *filter(None, hints)])
        )


def both(first: Filter | None, second: Filter | None) -> Filter | None:
    """What passes two filters."""
    if first is None or second is None:
        return first or second
    return lambda record: first(record) and second(record)


def narrowed(records: Sequence[Record], where: Filter | None) -> Sequence[Record]:
    """The records that pass a filter.

    Raises:
        UsageError: none does; it says how many each option leaves.
    """
    left = records if where is None else [record for record in records if where(record)]
    if where is not None and not left:
        error = f"no image is left: where= leaves none of {len(records):,}"
        raise where.refusal(records) if isinstance(where, Where) else UsageError(error)
    return left


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


def _several(name: str, value: Any) -> list[str]:
    """One text or several; numbers are taken as text, since folders may be called 2024."""
    given = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    texts = [str(each) for each in given if isinstance(each, str | int | os.PathLike)]
    if not all(texts) or not texts or len(texts) < len(given):
        raise UsageError(f"{name} takes a text or a list of some, none of them empty, not {value!r:.60}")
    return texts


def _among(value: Any) -> Test:
    patterns = [re.compile(fnmatch.translate(each)).match for each in _several("among", value)]
    return lambda record: any(is_like(record.path) for is_like in patterns)


def _label(value: Any) -> Test:
    names = set(_several("label", value))
    return lambda record: label_of(record.path) in names


def _folder(value: Any) -> Test:
    """Below a folder by its path as it was ingested, or where links lead."""
    roots = {images.absolute(each) for each in _several("folder", value)}
    real = {each if "://" in each else os.path.realpath(each) for each in roots}
    real_folder = functools.lru_cache(100_000)(os.path.realpath)

    def is_below(record: Record) -> bool:
        if images.is_inside(record.path, roots):
            return True
        return "://" not in record.path and images.is_inside(real_folder(os.path.split(record.path)[0]), real)

    return is_below


def _min_side(value: int) -> Test:
    def is_large(record: Record) -> bool:
        return record.width is not None and record.height is not None and min(record.width, record.height) >= value

    return is_large


EARLIEST = "0001-01-01T00:00:00"
"""Completes a time that is given in part."""

LENGTHS = (4, 7, 10, 13, 16, 19)
"""Characters of a time to the year, month, day, hour, minute and second."""


def _taken(value: str) -> Test:
    first, dots, last = (re.sub(r"(?<=-\d\d) (?=\d)", "T", part.strip()) for part in value.partition(".."))
    last = last if dots else first
    if not (first or last):
        raise UsageError(f"taken={value} names no time: 2024, 2024-05-31, 2024-01..2024-06 or 2024-06..")
    for part in filter(None, (first, last)):
        try:
            whole = part + EARLIEST[len(part) :]
            if len(part) not in LENGTHS or datetime.fromisoformat(whole).isoformat() != whole:
                raise ValueError
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


def _unknown(name: str, what: str) -> Callable[[list[Record]], str]:
    def hint(records: list[Record]) -> str:
        unknown = sum(getattr(record, name) is None for record in records)
        return f"{what} of {unknown:,} is not known" if unknown else ""

    return hint


def _labels(records: list[Record]) -> str:
    counts = Counter(label_of(record.path) for record in records)
    shown = ", ".join(label for label, _ in counts.most_common(10))
    return f"labels are names of folders: {shown}{', ...' if len(counts) > 10 else ''}" if counts else ""


HINTS: dict[str, Callable[[list[Record]], str]] = {
    "label": _labels,
    "among": lambda _: "among= takes patterns of whole paths, like '*/hat/*'",
    "taken": _unknown("taken", "the time"),
    "min_side": _unknown("width", "the size"),
}
"""What may be the reason that an option leaves no image."""
