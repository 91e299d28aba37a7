"""The rows of a gallery, each a content, and their vectors for each term of a similarity."""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from imgrec.errors import UsageError
from imgrec.gallery import fitted, smoothing
from imgrec.gallery.fitted import FittedReducer
from imgrec.gallery.results import Filter, label_of
from imgrec.gallery.similarity import Similarity, Term
from imgrec.gallery.smoothing import Smoothed
from imgrec.kinds import Form, Index, Record, Space, Store, Vectors
from imgrec.search import exact, files, indexes, tables
from imgrec.search.approximate import ApproximateSearch
from imgrec.search.exact import Mask, VectorField
from imgrec.search.pruning import Rows
from imgrec.search.tables import Source, VectorTable

log = logging.getLogger(__name__)

SAMPLE = 256
"""Images from which the usual distance in a space is computed."""


DERIVED = ("_loaded", "_tables", "fields", "approximate", "exact_because", "nearness")
"""Cached properties that depend on which contents were learned from."""

OF_TERMS = ("_stored", "_alignment", "_usable", "records", "_row_of", "sample")
"""Further cached properties that depend on which terms there are."""


class Loaded(NamedTuple):
    """A term's vectors as they are compared."""

    table: VectorTable
    projection: FittedReducer | None
    source: Source
    """Where they come from."""

    revision: str | None
    """The store's."""


class GalleryRows:
    """The rows of a gallery, without searching: the base of `Gallery`."""

    def __init__(
        self, store: Store, similarity: Similarity, where: Filter | None = None, index: Index | None = None
    ) -> None:
        self.similarity, self._index = similarity, index
        self._label_of: Callable[[str], str] = label_of
        self._held_out: frozenset[bytes] = frozenset()
        self._store, self._where = store, where
        if where is None:
            _ = self.fields  # loaded now, not at first use: the store may change

    @property
    def label_of(self) -> Callable[[str], str]:
        """The callback that labels a path, for supervised projections; by default it returns the folder's name.

        Raises:
            UsageError: it is set when such a projection is already fitted.
        """
        return self._label_of

    @label_of.setter
    def label_of(self, label_of: Callable[[str], str]) -> None:
        if "_loaded" in vars(self) and any(each.reducer.supervised for each in self.projections.values()):
            raise UsageError(
                "a supervised projection is already fitted: open the gallery with where=, which fits lazily"
            )
        self._label_of = label_of

    def without_learning_from(self, digests: Iterable[str]) -> Self:
        """This gallery, but nothing in it learns from the labels of some contents, or moves towards their vectors.

        They stay, and may be found. What learns or moves does so by the others, at first use.
        """
        other = copy.copy(self)
        other._held_out = frozenset(digest.encode() for digest in digests)
        other._where = self._where or (lambda _: True)  # with a filter, nothing that was learned is cached
        for name in DERIVED:
            vars(other).pop(name, None)
        return other

    def under(self, similarity: Similarity) -> Self:
        """This gallery under another metric or other weights, of its terms or some; no vector is loaded again.

        Args:
            similarity: whose terms are of this gallery's spaces and projections, by name, and are not smoothed.
        """
        other = copy.copy(self)
        other.similarity = similarity
        loaded = {term.name: each for term, each in zip(self.similarity.terms, self._loaded, strict=True)}
        names = [term.name for term in similarity.terms]
        for name in DERIVED if names == list(loaded) else (*DERIVED, *OF_TERMS):
            vars(other).pop(name, None)
        vars(other)["_loaded"] = [loaded[name] for name in names]
        return other

    # --- what is compared -----------------------------------------------------------------------------------

    @functools.cached_property
    def _stored(self) -> list[VectorTable]:
        """For each term the vectors that the store holds, not projected."""
        return [files.load(self._store, term.space) for term in self.similarity.terms]

    @functools.cached_property
    def _loaded(self) -> list[Loaded]:
        """For each term its vectors as they are compared, and what made them."""
        found = (
            self._fitted_here()
            if self._where is not None
            else [self._load(term) for term in self.similarity.terms]
        )
        if all(term.is_projected_if_larger for term in self.similarity.terms) and not any(
            each.projection for each in found
        ):
            raise UsageError(
                "projection= has no effect: no part has more dimensions than projection.n_components="
            )
        return found

    def _load(self, term: Term) -> Loaded:
        if term.projection is None:
            found = self._as_loaded(term, files.load(self._store, term.space), None)
        else:
            projection, table = fitted.load(
                self._store,
                term.space,
                term.projection,
                self._labels_of,
                term.projected_from,
                only_if_larger=term.is_projected_if_larger,
            )
            found = self._as_loaded(term, table, projection)
        if isinstance(found.source, Smoothed):
            found = found._replace(table=smoothing.load(found.source))
        return found

    def _as_loaded(self, term: Term, table: VectorTable, projection: FittedReducer | None) -> Loaded:
        """A term's vectors with their source; they are not smoothed yet."""
        whole = files.whole(self._store, term.space)
        source = fitted.source_of(self._store, term.space, projection) if projection else whole
        if term.smoothing is not None:
            source = Smoothed.of(source, table, term.smoothing, term.metric)
        return Loaded(table, projection, source, self._store.revision(term.space))

    def _fitted_here(self) -> list[Loaded]:
        """`_loaded` of a gallery with a filter: projections are fitted and vectors smoothed on its own files."""
        found: list[Loaded] = []
        for term, table in zip(self.similarity.terms, self._stored, strict=True):
            usable = np.isin(table.digests, list(self._scope))
            loaded = self._as_loaded(term, *self._projected_here(term, table, usable))
            if isinstance(loaded.source, Smoothed):
                among = usable & ~np.isin(table.digests, list(self._held_out))
                loaded = loaded._replace(table=smoothing.smoothed(loaded.source, usable, among))
            found.append(loaded)
        return found

    def _projected_here(
        self, term: Term, table: VectorTable, usable: Mask
    ) -> tuple[VectorTable, FittedReducer | None]:
        is_small = term.is_projected_if_larger and fitted.is_small(table.vectors, term.projection)
        if term.projection is None or is_small or usable.sum() < term.projected_from:
            return table, None
        if term.projection.supervised and self._held_out:
            usable = usable & ~np.isin(table.digests, list(self._held_out))
        rows = table.digests, table.vectors
        reducer = copy.copy(term.projection)  # galleries that learn from other labels share the similarity
        made = fitted.fit(reducer, term.space, *rows, self._labels_of, usable)
        return fitted.project(made, table), made

    @property
    def projections(self) -> dict[str, FittedReducer]:
        """The fitted projections by the names of terms; a single term is named ''."""
        by_term = zip(self.similarity.terms, self._loaded, strict=True)
        return {term.name: each.projection for term, each in by_term if each.projection is not None}

    @functools.cached_property
    def _tables(self) -> list[VectorTable]:
        return self._stored if self._where is not None else [each.table for each in self._loaded]

    @functools.cached_property
    def _alignment(self) -> tuple[npt.NDArray[np.bytes_], list[Rows | None]]:
        by_table = [each.digests for each in self._tables]
        digests, rows = _aligned(by_table)
        most = max(map(len, by_table))
        if lacking := most - len(digests):
            log.warning(
                "%s of %s images lack a vector in a part of the fusion, and are not found: ingest again",
                f"{lacking:,}",
                f"{most:,}",
            )
        return digests, rows

    @property
    def _digests(self) -> npt.NDArray[np.bytes_]:
        """`(rows,)`: the content of each row."""
        return self._alignment[0]

    @functools.cached_property
    def _usable(self) -> Mask:
        by_term = zip(self._tables, self._alignment[1], strict=True)
        there = [table.usable if rows is None else table.usable[rows] for table, rows in by_term]
        if self._where is not None:
            there.append(np.isin(self._digests, list(self._scope)))
        return np.logical_and.reduce(there)  # type: ignore[no-any-return]

    @functools.cached_property
    def _scope(self) -> set[bytes]:
        """The contents of the files that pass the gallery's filter."""
        where = self._where or (lambda _: True)
        return {r.digest.encode() for r in self._store.records() if not r.missing and where(r)}

    def _labels_of(self, digests: Sequence[str]) -> list[str]:
        """The labels of contents, for what learns from them; of copies in several folders the first path counts.

        Raises:
            ValueError: one of them must not be learned from.
        """
        if not self._held_out.isdisjoint(digest.encode() for digest in digests):
            raise ValueError("the labels of these contents must not be learned from")
        paths: dict[str, str] = {}
        for record in self._store.records(digests=digests):
            if self._where is None or self._where(record):
                paths[record.digest] = min(paths.get(record.digest, record.path), record.path)
        return [self._label_of(paths[digest]) for digest in digests]

    @functools.cached_property
    def fields(self) -> list[VectorField]:
        """What is searched: one field a term; in a fusion, weights are divided by the term's usual distance.

        The usual distance is the median among the images with the first digests, as good as a random sample.
        """
        by_term = zip(self.similarity.terms, self._loaded, self._alignment[1], strict=True)
        fields = [
            VectorField(table.vectors, term.metric, 1.0, rows, table.pruning)
            for term, (table, *_), rows in by_term
        ]
        if not any(term.is_scaled for term in self.similarity.terms):
            return fields
        counted = np.arange(len(self._digests)) if self._where is None else np.flatnonzero(self._usable)
        chosen = self._first(counted, SAMPLE)
        for field in fields:
            field.metric.check(field.of(chosen))
        return [
            replace(field, weight=term.weight / exact.usual_distance(field.of(chosen), field.metric))
            if term.is_scaled
            else field
            for field, term in zip(fields, self.similarity.terms, strict=True)
        ]

    def _first(self, rows: Rows, count: int) -> Rows:
        """Those of the first digests, which are as good as chosen at random, and always the same."""
        return rows[np.argsort(self._digests[rows], kind="stable")[:count]]

    @functools.cached_property
    def exact_because(self) -> str | None:
        """Why an index that was asked for is not used at all; None if it is, or there is none."""
        if self._index is None:
            return None
        for term in self.similarity.terms:
            if term.metric.form is Form.NONE:
                return f"metric={term.metric.name} has no Euclidean form"
        count = np.count_nonzero(self._usable)
        if count <= self._index.exact_up_to:
            return f"among {count:,} images all are looked at (index.exact_up_to={self._index.exact_up_to})"
        return None

    @functools.cached_property
    def approximate(self) -> ApproximateSearch | None:
        """The search by indexes; None if the search is exact."""
        if self._index is None:
            return None
        if self.exact_because:
            log.warning("index=%s is not used: %s, so the search is exact", self._index.name, self.exact_because)
            return None
        found = []
        for term, (table, projection, source, revision) in zip(self.similarity.terms, self._loaded, strict=True):
            is_whole = self._where is None or (projection is None and term.smoothing is None)
            is_kept = is_whole and revision == self._store.revision(term.space)
            found.append(indexes.load(self._index, source, table, term.metric, is_kept=is_kept))
        return ApproximateSearch(self.fields, found)

    # --- what it is -----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many images, copies counted."""
        if self._where is None and all(rows is None for rows in self._alignment[1]):
            return self._tables[0].images
        return len(self.records)

    @property
    def fingerprint(self) -> str:
        """Identifies the gallery's contents; see `tables.fingerprint`."""
        if self._where is None and all(rows is None for rows in self._alignment[1]):
            return self._tables[0].fingerprint
        return tables.fingerprint(self._digests[self._usable])

    @property
    def spaces(self) -> list[Space]:
        """The space of each term, after projection and smoothing if there are any."""
        found = []
        for term, (_, projection, *_) in zip(self.similarity.terms, self._loaded, strict=True):
            space = projection.space if projection else term.space
            found.append(smoothing.space_of(space, term.smoothing, term.metric) if term.smoothing else space)
        return found

    @property
    def key(self) -> str:
        """The key for results: that of the fusion, or of the only space as `spaces` has it."""
        return self.similarity.key or self.spaces[0].key

    @property
    def vectors(self) -> Vectors:
        """The vectors of the only term as they are compared, `float32 (contents, dim)`."""
        (loaded,) = self._loaded
        return loaded.table.vectors

    def about(self) -> dict[str, Any]:
        """What a run records of the similarity: projections, smoothing, index and a fusion's terms; JSON data."""
        about: dict[str, Any] = {}
        if self.similarity.names:
            about["parts"] = {
                term.name: {
                    "space": space.key,
                    "weight": term.weight,
                    "metric": term.metric.name,
                    "usual_distance": term.weight / field.weight,
                }
                for term, space, field in zip(self.similarity.terms, self.spaces, self.fields, strict=True)
            }
        if self.projections:
            about["projection"] = self.about_projections()
        if moved := self.about_smoothing():
            about["smoothing"] = moved
        if (index := self.about_index()) is not None:
            about["index"] = index
        return about

    def says_approximate(self) -> str | None:
        """A line that says that searches were approximate, and what they find; None if they were exact."""
        if self._index is None or self.approximate is None:
            return None
        told = [
            f"{each['recall']:.4f} of the nearest {each['nearest']}, at least {each['at_least']:.4f}"
            for each in self.approximate.about()
            if each["effort"] is not None
        ]
        return f"approximate, by index={self._index.name}: it finds {'; '.join(told)}" if told else None

    def about_index(self) -> dict[str, Any] | None:
        """What a run records of the index that was asked for; JSON data. `exact` says why it is not used."""
        if self._index is None:
            return None
        search, how = self.approximate, {"index": self._index.name, **self._index.plain_options()}
        if search is None:
            return {**how, "exact": self.exact_because, "measured": []}
        return {**how, "exact": search.exact_because, "measured": search.about()}

    def about_projections(self) -> dict[str, Any] | None:
        """What a run records of projections, by the names of terms or of the only one; JSON data."""
        about = {name: each.about() for name, each in self.projections.items()}
        return about if self.similarity.names else about.get("")

    def about_smoothing(self) -> dict[str, Any] | None:
        """What a run records of smoothing, which is that of all terms; JSON data."""
        moved = self.similarity.terms[0].smoothing
        return smoothing.about(moved) if moved else None

    # --- all of it ------------------------------------------------------------------------------------------

    @functools.cached_property
    def records(self) -> list[Record]:
        """All images, in the order of their paths."""
        held, where = set(self._digests[self._usable].tolist()), self._where or (lambda _: True)
        found = (r for r in self._store.records() if not r.missing and r.digest.encode() in held and where(r))
        return sorted(found, key=lambda record: record.path)

    @functools.cached_property
    def _row_of(self) -> dict[bytes, int]:
        return {digest: row for row, digest in enumerate(self._digests.tolist())}

    def _rows_of(self, records: Sequence[Record]) -> Rows:
        return np.array([self._row_of[record.digest.encode()] for record in records], dtype=np.intp)

    def stored_vectors(self, records: Sequence[Record]) -> dict[str, Vectors]:
        """By the names of terms, row-aligned vectors of records, as the store has them."""
        found = self._stored_of(self._rows_of(records))
        return {term.name: vectors for term, vectors in zip(self.similarity.terms, found, strict=True)}

    def _stored_of(self, chosen: Rows) -> list[Vectors]:
        by_term = zip(self._stored, self._alignment[1], strict=True)
        return [table.vectors[chosen if rows is None else rows[chosen]] for table, rows in by_term]

    def points(self, records: Sequence[Record]) -> Vectors:
        """The vectors of records as one matrix, for a map: those of a fusion are scaled and put side by side.

        Raises:
            UsageError: the metric of a fusion's term has no Euclidean form.
        """
        chosen = self._rows_of(records)
        return self.side_by_side([field.of(chosen) for field in self.fields])

    def side_by_side(self, vectors: Sequence[Vectors]) -> Vectors:
        """Vectors of all terms as they are compared as one matrix `float32 (n, dim)`; see `points`."""
        by_term = list(zip(self.similarity.terms, self.fields, vectors, strict=True))
        for term, _, _ in by_term:
            if term.is_scaled and term.metric.form is Form.NONE:
                raise UsageError(
                    f"a map of a fusion puts vectors side by side, and metric={term.metric.name} of {term.name} "
                    f"has no Euclidean form: extractor.metrics.{term.name}=euclidean, or space= for one part"
                )
        scaled = [
            field.metric.as_euclidean(some) * np.float32(field.weight) if term.is_scaled else some
            for term, field, some in by_term
        ]
        return np.hstack(scaled)


def _aligned(digests: Sequence[npt.NDArray[np.bytes_]]) -> tuple[npt.NDArray[np.bytes_], list[Rows | None]]:
    """The contents that all terms have, in the order of the first, and each term's rows; None if all are equal."""
    first = digests[0]
    if all(np.array_equal(each, first) for each in digests[1:]):
        return first, [None] * len(digests)
    common = functools.reduce(np.intersect1d, digests)
    rows = []
    for each in digests:
        order = np.argsort(each)
        rows.append(order[np.searchsorted(each, common, sorter=order)])
    order = np.argsort(rows[0])
    return first[rows[0][order]], [each[order] for each in rows]
