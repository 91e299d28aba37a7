"""A gallery: one store seen through one space, and the neighbours of a query in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from imgrec import index, registry, search
from imgrec.contracts import Extractor, Record, Space, Store, Vectors
from imgrec.errors import UsageError
from imgrec.options import default_values, written


@dataclass(frozen=True)
class Match:
    """One neighbour of a query."""

    rank: int
    """From 1, the nearest."""

    path: str
    distance: float
    """By the metric asked for, computed in float64."""

    label: str
    """The name of the folder that the image lies in."""


def label_of(path: str) -> str:
    """The label of an image: the name of its folder.

    >>> label_of("/photos/hat/1.jpg")
    'hat'
    """
    return Path(path).parent.name


# --- which space --------------------------------------------------------------------------------------------


def choose_space(
    store: Store, wanted: str | None = None, extractor: Extractor | Mapping[str, Any] | None = None
) -> Space:
    """The space of a store that is meant: by key or its beginning, by extractor, or the only one.

    Args:
        store: the store, open.
        wanted: a space's key, the beginning of one, or the name of an extractor.
        extractor: an extractor, as configured, matched by identity; or options to change on the recorded one.

    Raises:
        UsageError: there is none, it is not there, or several could be meant; the line lists them. Or the options
            to change are none of the extractor's, or would make another space.
    """
    spaces = store.spaces()
    if not spaces:
        raise UsageError(f"the gallery {store.location} is empty: fill it with `imgrec ingest FOLDER`")
    listed = "; ".join(map(describe, spaces))
    if isinstance(extractor, Extractor):
        try:
            asked = Space.of(extractor)
        except UsageError as error:
            raise UsageError(f"{error}. Or choose one of the gallery's own with space=: {listed}") from error
        if asked not in spaces:
            raise UsageError(
                f"the gallery {store.location} has no vectors of {describe(asked)}; it has {listed}. "
                f"Leave extractor= out, choose space=, or ingest with this extractor first"
            )
        return asked
    if wanted is not None:
        spaces = [s for s in spaces if s.key == wanted] or [s for s in spaces if s.key.startswith(wanted)]
        if not spaces:
            raise UsageError(f"the gallery {store.location} has no space {wanted!r}; it has {listed}")
    if len(spaces) > 1:
        raise UsageError(f"the gallery {store.location} has several spaces, choose one with space=: {listed}")
    if extractor:
        _check_overrides(spaces[0], extractor)
    return spaces[0]


def _check_overrides(space: Space, overrides: Mapping[str, Any]) -> None:
    changed = registry.build("extractor", space.extractor, **{**space.options, **overrides})
    harmless = {spec.name for spec in fields(changed) if not spec.metadata.get("changes_vectors", True)}
    if not harmless.issuperset(overrides):
        check_identity(space, changed)  # may load a model, so not for device= or batch_size=


def describe(space: Space) -> str:
    """A space in a line: its key, and the options that differ from the extractor's defaults.

    >>> describe(Space.of(registry.build("extractor", "colour", bins=4)))
    'colour-... (bins=4)'
    """
    return space.key + (f" ({', '.join(changed)})" if (changed := _changed(space)) else "")


def _changed(space: Space) -> list[str]:
    """The options that set a space apart from its extractor as it is by default."""
    plugin = registry.available("extractor").get(space.extractor)
    if plugin is None:
        return [f"{name}={written(value)}" for name, value in space.options.items()]
    usual = {name: written(value) for name, value in default_values(plugin.cls).items()}
    harmless = {spec.name for spec in fields(plugin.cls) if not spec.metadata.get("changes_vectors", True)}
    options = {name: written(value) for name, value in space.options.items() if name not in harmless}
    return [f"{name}={value}" for name, value in options.items() if value != usual.get(name)]


def title(space: Space, longest: int = 60) -> str:
    """A space for a picture's margin: the extractor, and the options that set it apart, files left out.

    >>> title(Space.of(registry.build("extractor", "colour", bins=4)))
    'colour, bins=4'
    """
    plugin = registry.available("extractor").get(space.extractor)
    paths = {spec.name for spec in fields(plugin.cls) if spec.metadata.get("path")} if plugin else set()
    parts = [each for each in _changed(space) if each.partition("=")[0] not in paths]
    text = ", ".join([space.extractor, *parts])
    return text if len(text) <= longest else text[: longest - 1] + "…"


def extractor_of(space: Space, overrides: Mapping[str, Any] | None = None) -> Extractor:
    """The extractor that filled a space, as it was configured then, some options changed.

    Raises:
        UsageError: it cannot be built here, or what it extracts now would be another space.
    """
    if space.extractor not in registry.available("extractor"):
        raise UsageError(
            f"the gallery's space {space.key} is of the extractor {space.extractor}, which is not installed here"
        )
    try:
        extractor = registry.build("extractor", space.extractor, **{**space.options, **(overrides or {})})
        check_identity(space, extractor)
    except UsageError as error:
        raise UsageError(f"space {space.key}: {error}") from error
    return extractor


def check_identity(space: Space, extractor: Extractor) -> None:
    """Refuse an extractor whose vectors belong to another space.

    Raises:
        UsageError: naming what differs.
    """
    now = Space.of(extractor)
    if now != space:
        changed = [
            f"{name} was {space.identity.get(name)!r} and is {now.identity.get(name)!r}"
            for name in {**space.identity, **now.identity}
            if space.identity.get(name) != now.identity.get(name)
        ]
        raise UsageError(
            f"the gallery's space {space.key} and the extractor's {now.key} cannot be compared: "
            f"{'; '.join(changed)}. Put that back, or ingest anew"
        )


# --- neighbours ---------------------------------------------------------------------------------------------


class Gallery:
    """The images of one store in one space, ready to be searched; the store stays open while it is used.

    Copies of an image share a vector: a row is a content, which any number of files may have. Files that were
    missing at the last ingest are left out.
    """

    def __init__(self, store: Store, space: Space) -> None:
        self.space = space
        self._store = store
        self._index = index.load(store, space)

    def __len__(self) -> int:
        """How many images, copies counted."""
        return self._index.images

    @property
    def fingerprint(self) -> str:
        """What tells whether another gallery has the same contents; see `index.fingerprint`."""
        return self._index.fingerprint

    @property
    def vectors(self) -> Vectors:
        """`float32 (contents, dim)`."""
        return self._index.vectors

    def records(self) -> list[Record]:
        """All images, in the order of their paths."""
        held = set(self._index.digests.tolist())
        found = (r for r in self._store.records() if not r.missing and r.digest.encode() in held)
        return sorted(found, key=lambda record: record.path)

    def rows(self, records: Sequence[Record]) -> Vectors:
        """The vectors of records, row by row."""
        row_of = {digest: row for row, digest in enumerate(self._index.digests.tolist())}
        return self.vectors[[row_of[record.digest.encode()] for record in records]]

    def neighbours(
        self, query: Vectors, k: int, metric: str = "euclidean", *, leave_out: str | None = None
    ) -> list[Match]:
        """The k images nearest to a query, exactly: nearest first, equal distances in the order of paths.

        Args:
            query: `float32 (dim,)`, of the gallery's space.
            k: how many; fewer where the gallery has fewer.
            metric: one of `search.METRICS`.
            leave_out: the digest of a content not to be found: mostly the query itself.

        Raises:
            UsageError: k below 1, or a metric that there is not or that these vectors do not allow.
        """
        (found,) = self.neighbours_of_many(query[None], k, metric, leave_out=[leave_out])
        return found

    def neighbours_of_many(
        self,
        queries: Vectors,
        k: int,
        metric: str = "euclidean",
        *,
        leave_out: Sequence[str | None] | None = None,
    ) -> list[list[Match]]:
        """As `neighbours`, for many queries at once: the same matches in less time.

        Args:
            queries: `float32 (m, dim)`.
            k: how many for each.
            metric: one of `search.METRICS`.
            leave_out: for each query the digest of a content that it shall not find, or None.

        Raises:
            UsageError: as `neighbours`.
        """
        if k < 1:
            raise UsageError(f"k is at least 1, not {k}")
        if metric not in search.METRICS:
            raise UsageError(f"metric is one of {', '.join(search.METRICS)}, not {metric!r}")
        if self.vectors.size and queries.shape[1:] != self.vectors.shape[1:]:
            raise UsageError(
                f"the query has {queries.shape[1:]} values, and the gallery's vectors {self.vectors.shape[1:]}"
            )
        left_out = list(leave_out) if leave_out is not None else [None] * len(queries)
        usable = np.array(self._index.usable)
        while True:
            found = search.nearest_of_many(
                self.vectors,
                queries,
                k + 1 if any(left_out) else k,  # the one that is left out may be found as well
                metric,
                usable,
                compressed=self._index.compressed,
            )
            nearest = [self._without(*each, digest, k) for each, digest in zip(found, left_out, strict=True)]
            rows = {row for rows, _ in nearest for row in rows.tolist()}
            records = self._records_of(rows)
            gone = [row for row in rows if row not in records]
            if not gone:
                return [_matches(rows, distances, records, k) for rows, distances in nearest]
            usable[gone] = False  # forgotten since the index was loaded

    def _without(
        self, rows: search.Rows, distances: search.Doubles, digest: str | None, k: int
    ) -> tuple[search.Rows, search.Doubles]:
        """The k nearest rows that do not have a content, and all that tie with the k-th."""
        if digest is not None:
            others = self._index.digests[rows] != digest.encode()
            rows, distances = rows[others], distances[others]
        near = distances <= distances[k - 1] if len(rows) > k else slice(None)
        return rows[near], distances[near]

    def _records_of(self, rows: Collection[int]) -> dict[int, list[Record]]:
        """The files of each row that has any."""
        row_of = {self._index.digests[row].decode(): row for row in rows}
        found: dict[int, list[Record]] = {}
        for record in self._store.records(digests=list(row_of)):
            if not record.missing:
                found.setdefault(row_of[record.digest], []).append(record)
        return found


def _matches(
    rows: search.Rows, distances: search.Doubles, records: Mapping[int, Sequence[Record]], k: int
) -> list[Match]:
    """The k nearest files of rows, equal distances in the order of paths."""
    found = sorted(
        (distance, record.path)
        for row, distance in zip(rows.tolist(), distances.tolist(), strict=True)
        for record in records[row]
    )
    return [
        Match(rank, path, distance, label_of(path)) for rank, (distance, path) in enumerate(found[:k], start=1)
    ]
