"""What some roots have, as an ingest goes through it: counted first, and listed once where that is slow."""

from __future__ import annotations

import itertools
import json
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TypeVar

from imgrec.batches import chunks
from imgrec.images import suffixes
from imgrec.images.exclusion import Exclusion
from imgrec.images.reasons import NOT_OPENED
from imgrec.images.sources import each, find, source_of, state
from imgrec.kinds import ImageFile, Source

T = TypeVar("T")

TOLD = 256
"""Paths after which is told how many have been seen."""

IN_MEMORY = 2**24
"""Bytes of what was listed that are kept in memory; more are in a temporary file."""


class Listing:
    """The photographs under some roots, as `find` has them; each loop goes through all of them.

    Nothing elsewhere is asked for twice: a root that is a file is as its state says, and a source that has paths
    no sooner than sizes and times is listed once, since a bucket of a million keys takes a thousand requests.
    Others, local folders above all, are asked for paths now, and for the rest in each loop.

    Args:
        roots: absolute.
        exclusion: what is left out.
        advance: told how many paths have been seen since the last call.

    Raises:
        UsageError: as by `Exclusion`.
        ImgrecError: a source cannot be listed.
    """

    def __init__(
        self, roots: Sequence[str], exclusion: Exclusion, advance: Callable[[int], object] = lambda _: None
    ) -> None:
        self.total = 0
        """How many there are."""

        self.passed_over = dict[str, int]()
        """By suffix how many pictures are passed over, which nothing here reads."""

        self.present = list[str]()
        """The roots that are there and can be opened; the others are left out."""

        self._exclusion, self._advance = exclusion, advance
        there = filter(_is_there, zip(roots, each(state, roots), strict=True))
        self._parts: list[Iterable[ImageFile]] = [
            self._files(some) if is_file else self._below(source, [root for root, _ in some])
            for (source, is_file), some in itertools.groupby(there, _kind)
        ]

    def __iter__(self) -> Iterator[ImageFile]:
        return itertools.chain.from_iterable(self._parts)

    def _files(self, roots: Iterable[tuple[str, ImageFile | None]]) -> Iterable[ImageFile]:
        """Roots that are files, as their states say."""

        def is_taken(path: str) -> bool:
            self.present.append(path)
            return self._counts(path, frozenset([path]))

        return _Kept.of(file for path, file in self._seen(roots) if file and is_taken(path))

    def _below(self, source: Source, roots: Sequence[str]) -> Iterable[ImageFile]:
        self.present += roots
        searched, named = source.skipping(self._exclusion), frozenset(roots)
        if not _has_paths_sooner(source):
            return _Kept.of(file for file in self._seen(searched.find(roots)) if self._counts(file.path, named))
        for path in self._seen(searched.paths(roots)):
            self._counts(path, named)
        return _Found(roots, self._exclusion)

    def _seen(self, some: Iterable[T]) -> Iterator[T]:
        for part in chunks(some, TOLD):
            self._advance(len(part))
            yield from part

    def _counts(self, path: str, named: frozenset[str]) -> bool:
        """Whether a path counts as a photograph; it is counted then."""
        if self._exclusion(path):
            return False
        if path in named or suffixes.is_read(path):
            self.total += 1
            return True
        suffix = suffixes.suffix_of(path)
        self.passed_over[suffix] = self.passed_over.get(suffix, 0) + 1
        return False


def _is_there(root: tuple[str, ImageFile | None]) -> bool:
    return root[1] is not None and not (root[1].problem or "").startswith(NOT_OPENED)


def _kind(root: tuple[str, ImageFile | None]) -> tuple[Source, bool]:
    """The source of a root that is there, and whether it is a file and nothing else."""
    source, file = source_of(root[0]), root[1]
    return source, _has_paths_sooner(source) and file is not None and file.problem is None


def _has_paths_sooner(source: Source) -> bool:
    return type(source).paths is not Source.paths


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
        file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - below
        for some in chunks(files, 1024):
            file.write(json.dumps([list(vars(each).values()) for each in some]).encode() + b"\n")
        kept = cls(file)
        weakref.finalize(kept, file.close)
        return kept

    def __iter__(self) -> Iterator[ImageFile]:
        """For one loop at a time."""
        self.file.seek(0)
        for line in self.file:
            yield from itertools.starmap(ImageFile, json.loads(line))
