"""A gallery: one store seen through one space, and the neighbours of a query in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgrec import registry
from imgrec.contracts import Extractor, Record, Space, Store, Vectors, as_euclidean
from imgrec.errors import UsageError
from imgrec.options import written

Doubles = npt.NDArray[np.float64]

FLOAT = np.finfo(np.float32)

METRICS = ("euclidean", "cosine", "manhattan", "hellinger")
"""Euclidean; cosine: 1 - cosine similarity, and 1 where a vector is zero; manhattan: sum of absolute differences;
hellinger: Euclidean distance of the square roots of shares, over the square root of 2."""


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
    usual = {name: written(value) for name, value in registry.defaults(plugin.cls).items()}
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
    """The images of one store in one space, ready to be searched.

    Copies of an image share a vector: `vectors` has a row for each content, `records_of` the files of a row.
    Files that were missing at the last ingest are left out.
    """

    def __init__(self, store: Store, space: Space) -> None:
        self.space = space
        digests, self.vectors = store.vectors(space)
        row_of = {digest: row for row, digest in enumerate(digests)}
        self.records_of: list[list[Record]] = [[] for _ in digests]
        for record in store.records():
            if not record.missing and (row := row_of.get(record.digest)) is not None:
                self.records_of[row].append(record)

    def __len__(self) -> int:
        """How many images, copies counted."""
        return sum(map(len, self.records_of))

    def records(self) -> list[Record]:
        """All images, in the order of their paths."""
        return sorted((record for records in self.records_of for record in records), key=lambda r: r.path)

    def rows(self, records: Sequence[Record]) -> Vectors:
        """The vectors of records, row by row."""
        row_of = {records[0].digest: row for row, records in enumerate(self.records_of) if records}
        return self.vectors[[row_of[record.digest] for record in records]]

    def neighbours(
        self, query: Vectors, k: int, metric: str = "euclidean", *, leave_out: str | None = None
    ) -> list[Match]:
        """The k images nearest to a query, exactly: nearest first, equal distances in the order of paths.

        Args:
            query: `float32 (dim,)`, of the gallery's space.
            k: how many; fewer where the gallery has fewer.
            metric: one of `METRICS`.
            leave_out: the digest of a content not to be found: mostly the query itself.

        Raises:
            UsageError: k below 1, or a metric that there is not or that these vectors do not allow.
        """
        if k < 1:
            raise UsageError(f"k is at least 1, not {k}")
        if metric not in METRICS:
            raise UsageError(f"metric is one of {', '.join(METRICS)}, not {metric!r}")
        if self.vectors.size and query.shape != self.vectors.shape[1:]:
            raise UsageError(
                f"the query has {query.shape} values, and the gallery's vectors {self.vectors.shape[1:]}"
            )
        usable = np.array(
            [bool(records) and records[0].digest != leave_out for records in self.records_of], dtype=bool
        )
        rows, distances = nearest(self.vectors, query, k, metric, usable)
        found = sorted(
            (distance, record.path)
            for row, distance in zip(rows.tolist(), distances.tolist(), strict=True)
            for record in self.records_of[row]
        )
        return [
            Match(rank, path, distance, label_of(path)) for rank, (distance, path) in enumerate(found[:k], start=1)
        ]


def nearest(
    vectors: Vectors, query: Vectors, k: int, metric: str, usable: npt.NDArray[np.bool_] | None = None
) -> tuple[npt.NDArray[np.intp], Doubles]:
    """The rows nearest to a query and their distances, exactly; all that tie with the k-th are among them.

    A scan in float32 finds candidates: every row that its rounding errors leave in question. Their distances are
    then computed directly in float64, so that the expanded square's cancellation never shows.

    Args:
        vectors: `float32 (n, dim)`.
        query: `float32 (dim,)`.
        k: how many rows at least, where there are as many.
        metric: one of `METRICS`.
        usable: `bool (n,)`: rows that may be found; None for all.

    Returns:
        Rows and distances, nearest first.

    >>> rows, distances = nearest(np.eye(3, dtype=np.float32), np.array([1, 0, 0], np.float32), 1, "euclidean")
    >>> rows.tolist(), distances.tolist()
    ([0], [0.0])
    """
    candidates = np.arange(len(vectors)) if usable is None else np.flatnonzero(usable)
    if not len(candidates):
        return candidates, np.empty(0)
    scan = _scan_manhattan if metric == "manhattan" else _scan_squares
    with np.errstate(over="ignore", invalid="ignore"):
        lower, upper = scan(vectors, query, metric)
    if usable is not None:
        lower, upper = lower[candidates], upper[candidates]
    # Values whose squares overflow leave no bounds: then every row is a candidate.
    if k < len(candidates) and np.isfinite(upper).all():
        limit = np.partition(upper, k - 1)[k - 1]
        candidates = candidates[lower <= limit]
    measure, target = _DISTANCES[metric], query.astype(np.float64)
    blocks = [candidates[start : start + 8192] for start in range(0, len(candidates), 8192)]
    distances = np.concatenate([measure(vectors[block].astype(np.float64), target) for block in blocks])
    order = np.argsort(distances, kind="stable")
    return candidates[order], distances[order]


def _scan_squares(vectors: Vectors, query: Vectors, metric: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Bounds, from below and above, of what orders rows as their distances do: |x|^2 - 2 x.q."""
    if metric == "hellinger":
        vectors, query = as_euclidean(vectors, metric), as_euclidean(query[None], metric)[0]
    products = vectors @ query
    squares = np.einsum("ij,ij->i", vectors, vectors)
    # A dot product of n terms, summed in any order, is off by at most n eps |x||q| (Higham, Accuracy and Stability
    # of Numerical Algorithms, 3.1), and 2|x||q| <= |x|^2 + |q|^2.
    n, square = len(query) + 8, query @ query
    eps, tiny = n * float(FLOAT.eps), n * float(FLOAT.tiny)  # tiny: where squares underflow
    if metric == "cosine":
        least = tiny / eps
        sound = (squares > least) & np.isfinite(squares) & (least < square < np.inf)  # the others may lie anywhere
        scores = 1 - np.divide(
            products, np.sqrt(squares) * np.sqrt(square), out=np.zeros_like(squares), where=sound
        )
        error = np.where(sound, 2 * eps, 2)
        return scores - error, scores + error
    scores = squares - 2 * products
    error = eps * (squares + square) + tiny
    return scores - error, scores + error


def _scan_manhattan(vectors: Vectors, query: Vectors, _: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    scores = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), 1024):  # the differences of 1,024 rows stay in the cache
        scores[start : start + 1024] = np.abs(vectors[start : start + 1024] - query).sum(axis=1)
    error = (len(query) + 8) * (FLOAT.eps * scores + FLOAT.tiny)
    return scores - error, scores + error


def _euclidean(points: Doubles, query: Doubles) -> Doubles:
    result: Doubles = np.linalg.norm(points - query, axis=1)
    return result


def _cosine(points: Doubles, query: Doubles) -> Doubles:
    # Half the square of the distance of unit vectors: exactly zero for equal ones, where 1 - cosine is not.
    lengths, length = np.linalg.norm(points, axis=1), np.linalg.norm(query)
    differences = points / np.where(lengths > 0, lengths, 1)[:, None] - query / (length or 1)
    distances = np.square(differences).sum(axis=1) / 2
    return np.where((lengths > 0) & (length > 0), distances, 1.0)


def _manhattan(points: Doubles, query: Doubles) -> Doubles:
    result: Doubles = np.abs(points - query).sum(axis=1)
    return result


def _hellinger(points: Doubles, query: Doubles) -> Doubles:
    def roots(vectors: Doubles) -> Doubles:
        totals = vectors.sum(axis=-1, keepdims=True)
        result: Doubles = np.sqrt(vectors / np.where(totals > 0, totals, 1))
        return result

    return _euclidean(roots(points), roots(query)) / np.float64(np.sqrt(2))


_DISTANCES: dict[str, Callable[[Doubles, Doubles], Doubles]] = {
    "euclidean": _euclidean,
    "cosine": _cosine,
    "manhattan": _manhattan,
    "hellinger": _hellinger,
}
