"""What some roots have, as an ingest goes through it: counted first, and listed once where that is slow."""

from __future__ import annotations

import itertools
import pickle
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from imgrec.batches import chunks
from imgrec.images import suffixes
from imgrec.images.exclusion import Exclusion
from imgrec.images.sources import find, source_of
from imgrec.kinds import ImageFile, Source

IN_MEMORY = 2**24
"""Bytes of what was listed that are kept in memory; more are in a temporary file."""


class Listing:
    """The photographs under some roots, as `find` has them; each loop goes through all of them.

    A source that has paths no sooner than sizes and times is asked once: to list a bucket of a million keys takes
    a thousand requests. Others, local folders above all, are asked for paths now, and for the rest in each loop.

    Args:
        roots: absolute.
        exclusion: what is left out.

    Raises:
        UsageError: as by `Exclusion`.
        ImgrecError: a source cannot be listed.
    """

    def __init__(self, roots: Sequence[str], exclusion: Exclusion) -> None:
        self.total = 0
        """How many there are."""

        self.passed_over = dict[str, int]()
        """By suffix how many pictures are passed over, which nothing here reads."""

        self._exclusion = exclusion
        self._parts = [self._part(source, list(some)) for source, some in itertools.groupby(roots, source_of)]

    def __iter__(self) -> Iterator[ImageFile]:
        return itertools.chain.from_iterable(self._parts)

    def _part(self, source: Source, roots: Sequence[str]) -> Iterable[ImageFile]:
        searched, named = source.skipping(self._exclusion), frozenset(roots)
        if type(source).paths is Source.paths:
            return _Kept.of(file for file in searched.find(roots) if self._counts(file.path, named))
        for path in searched.paths(roots):
            self._counts(path, named)
        return _Found(roots, self._exclusion)

    def _counts(self, path: str, named: frozenset[str]) -> bool:
        """Whether a path counts as a photograph here; it is counted then."""
        if self._exclusion(path):
            return False
        if path in named or suffixes.is_read(path):
            self.total += 1
            return True
        suffix = suffixes.suffix_of(path)
        self.passed_over[suffix] = self.passed_over.get(suffix, 0) + 1
        return False


@dataclass(frozen=True)
class _Found:
    """Files that are looked for in each loop."""

    roots: Sequence[str]
    exclusion: Exclusion

    def __iter__(self) -> Iterator[ImageFile]:
        return find(self.roots, self.exclusion)


@dataclass(frozen=True)
class _Kept:
    """Files as they were listed."""

    file: IO[bytes]

    @classmethod
    def of(cls, files: Iterator[ImageFile]) -> _Kept:
        file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - see `__del__`
        for some in chunks(files, 1024):
            pickle.dump(some, file)
        return cls(file)

    def __iter__(self) -> Iterator[ImageFile]:
        """For one loop at a time."""
        end = self.file.seek(0, 2)
        self.file.seek(0)
        while self.file.tell() < end:
            yield from pickle.load(self.file)

    def __del__(self) -> None:
        self.file.close()
