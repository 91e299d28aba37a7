"""A gallery's own images as queries: which are near to each other, and how far from their nearest ones."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from imgrec.gallery.narrowing import Where
from imgrec.gallery.query import Resolved
from imgrec.gallery.results import Filter
from imgrec.gallery.rows import GalleryRows
from imgrec.gallery.selection import Selected, varied
from imgrec.gallery.spacing import nearness
from imgrec.kinds import Doubles, Record
from imgrec.search import exact
from imgrec.search.exact import Mask
from imgrec.search.pruning import Rows

ASKED = 1_000
"""Images of a gallery that are asked for their own nearest ones."""


class OwnImages(GalleryRows):
    """What is known of the images of a gallery among themselves: the base of `Gallery`."""

    @functools.cached_property
    def sample(self) -> Rows:
        """Rows to be asked for, chosen as if at random."""
        return self._first(np.flatnonzero(self._usable), ASKED)

    @property
    def contents(self) -> int:
        """How many images, copies not counted."""
        return int(np.count_nonzero(self._usable))

    @functools.cached_property
    def nearness(self) -> tuple[float, str]:
        """The distance up to which images are near-duplicates, and why; see `spacing.nearness`."""
        return nearness(self.fields, self.sample, self._usable)

    def near(self, rows: Rows, distance: float, usable: Mask | None = None) -> list[Rows]:
        """For each of some rows those within a distance, itself among them, nearest first.

        Args:
            rows: of images.
            distance: at least 0.
            usable: `bool (n,)`: the rows that may be found; None for all.
        """
        asked = [np.array(field.of(rows)) for field in self.fields]
        return [
            near
            for near, _ in exact.within(self.fields, asked, distance, self._usable if usable is None else usable)
        ]

    def asked_for(self, rows: Rows, left_out: Sequence[Rows]) -> list[Resolved]:
        """Queries for images of some rows, as if asked for by their pictures, each not to find some rows."""
        by_term = zip(self.similarity.terms, self._stored_of(rows), strict=True)
        vectors = {term.name: some for term, some in by_term}
        asked = []
        for i, (row, others) in enumerate(zip(rows.tolist(), left_out, strict=True)):
            digest, *digests = (each.decode() for each in self._digests[[row, *others]].tolist())
            own = {name: some[i : i + 1] for name, some in vectors.items()}
            asked.append(Resolved(own, [digest], frozenset([digest]), frozenset([digest, *digests])))
        return asked

    @property
    def learns(self) -> bool:
        """Whether anything in it learned from the labels of its images, or moved towards their vectors."""
        return any(term.smoothing for term in self.similarity.terms) or any(
            each.reducer.supervised for each in self.projections.values()
        )

    @property
    def revisions(self) -> list[str] | None:
        """What its vectors depend on in the store, changes of it included; None if that is not known."""
        found = [self._store.revision(term.space) for term in self.similarity.terms]
        return None if self._where is not None or None in found else [each for each in found if each]

    @property
    def cache_folder(self) -> Path | None:
        """Where what is known of it may be kept; None if nowhere."""
        return self._store.cache_folder

    def _varied(self, found: Selected, k: int, diversity: float) -> Selected:
        """A varied choice of k, see `selection.varied`."""
        vectors = [field.of(found.rows) for field in self.fields]

        def apart(i: int) -> Doubles:
            total = np.zeros(len(found.rows))
            by_term = exact.measured_by(self.fields, [some[i] for some in vectors], found.rows)
            for field, distances in zip(self.fields, by_term, strict=True):
                total += field.weight * distances
            return total

        return found.of(varied(found.distances, apart, k, diversity))

    def _allowed(self, among: Filter | None) -> Mask:
        """Which rows have a file that may be found."""
        if among is None:
            return np.array(self._usable)
        mask = np.zeros(len(self._usable), np.bool_)
        mask[self._rows_of([record for record in self.records if among(record)])] = True
        if isinstance(among, Where) and not mask.any():
            raise among.refusal(self.records)
        return mask

    def _records_of(self, rows: Collection[int], among: Filter | None) -> dict[int, list[Record]]:
        """The files of each row that has any."""
        row_of = {self._digests[row].decode(): row for row in rows}
        found: dict[int, list[Record]] = {}
        for record in self._store.records(digests=list(row_of)):
            is_here = not record.missing and (self._where is None or self._where(record))
            if is_here and (among is None or among(record)):
                found.setdefault(row_of[record.digest], []).append(record)
        return found

    def _in_order(self, found: Selected, among: Filter | None) -> Selected:
        """Some rows nearest first, ties in the order of paths."""
        if found.is_ordered:
            return found
        records = self._records_of(found.rows.tolist(), among)
        first = [min((each.path for each in records.get(row, ())), default="") for row in found.rows.tolist()]
        order = sorted(range(len(first)), key=lambda i: (found.distances[i], first[i]))
        return Selected(found.rows[order], found.distances[order], found.near, is_ordered=True)
