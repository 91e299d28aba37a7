"""Projections: reducers that are fitted on a gallery before it is searched, and the spaces that they make.

Fitted reducers are cached in the store's `cache_folder`, by space, reducer and options. The cache may be deleted
at any time; fitting anew is then logged as a warning, since distances change.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgrec import registry
from imgrec.errors import ImgrecError, UsageError
from imgrec.gallery import smoothing
from imgrec.kinds import GROUPS, Reducer, Space, Store, Vectors
from imgrec.search import files
from imgrec.search.pruning import pruning_index
from imgrec.search.tables import Source, VectorTable, in_blocks

log = logging.getLogger(__name__)

FORMAT = 2
"""The version of the cached files."""

MOST_FITTED = 20_000
"""Images that a reducer is fitted on at most: more would take memory and time for nothing."""

GROWN = 1.25
"""A reducer is fitted anew when the gallery has grown by this factor."""


@dataclass(frozen=True)
class FittedReducer:
    """A fitted reducer, and the space of its output."""

    reducer: Reducer
    space: Space
    images: int
    """How many the gallery had then, copies not counted."""

    def about(self) -> dict[str, Any]:
        """For a run's record: the reducer's name and options, what it reports, and the number of images."""
        about = {"reducer": self.reducer.name, **self.reducer.plain_options(), **self.reducer.report()}
        return {**about, "images": self.images}


def fit(
    reducer: Reducer,
    space: Space,
    digests: npt.NDArray[np.bytes_],
    vectors: Vectors,
    labels_of: Callable[[Sequence[str]], list[str]],
    usable: npt.NDArray[np.bool_] | None = None,
) -> FittedReducer:
    """Fit a reducer on a gallery's vectors; their order does not matter.

    Args:
        reducer: not fitted yet.
        space: that of the vectors.
        digests: `(n,)`, the content of each row.
        vectors: `float32 (n, dim)`. Of more than `MOST_FITTED` those with the first digests are taken, which is as
            good as a random sample.
        labels_of: returns the labels of digests; called for a supervised reducer only.
        usable: `bool (n,)`: the rows that it may be fitted on; None for all.

    Raises:
        UsageError: too few vectors for the reducer, or labels that it cannot learn from.
    """
    rows = np.arange(len(digests)) if usable is None else np.flatnonzero(usable)
    chosen = rows[np.argsort(digests[rows], kind="stable")[:MOST_FITTED]]
    labels = labels_of([digest.decode() for digest in digests[chosen].tolist()]) if reducer.supervised else None
    fitted = reducer.fit(vectors[chosen], labels)
    return FittedReducer(fitted, _space_of(space, fitted), len(rows))


def _space_of(space: Space, fitted: Reducer) -> Space:
    """The space of a fitted reducer's output; its fitted state is part of the identity."""
    digest = hashlib.sha256()
    for name, array in sorted(fitted.state().items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    about = {"reducer": fitted.name, **fitted.plain_options(), "fitted": digest.hexdigest()}
    identity = {**space.identity, "projection": about}
    return Space(f"{space.key}+{fitted.name}-{digest.hexdigest()[:12]}", space.extractor, space.options, identity)


def load(
    store: Store,
    space: Space,
    reducer: Reducer,
    labels_of: Callable[[Sequence[str]], list[str]],
    least: int = 0,
    *,
    only_if_larger: bool = False,
) -> tuple[FittedReducer | None, VectorTable]:
    """The projection of a space, from the cache or fitted now, and the projected vectors.

    It is fitted if none is cached, or if the gallery has grown by a quarter since.

    Args:
        store: open.
        space: one that the store holds.
        reducer: not fitted yet.
        labels_of: see `fit`.
        least: with fewer images, copies not counted, there is no projection, and vectors are not changed.
        only_if_larger: nor are they if they have no more dimensions than the reducer leaves.

    Raises:
        UsageError: as `fit`, or the reducer makes maps only.
    """
    if reason := GROUPS["projection"].refuses(type(reducer)):
        raise UsageError(reason)
    kept = _folder(store, space, reducer)
    found = _read(kept, space, reducer) if kept else None
    if found:
        projected = files.load_from(source_of(store, space, found))
        if least <= projected.usable.sum() < GROWN * found.images:
            return found, projected
    revision, whole = store.revision(space), files.load(store, space)
    if whole.usable.sum() < least or (only_if_larger and is_small(whole.vectors, reducer)):
        return None, whole
    made = _fitted(store, space, reducer, labels_of, whole, found)
    if kept:
        with contextlib.suppress(OSError):  # the disk may be full or read-only
            _keep(made, space, kept)
            if found:
                for pattern in (f"{found.space.key}*", f"indexes/{found.space.key}*"):  # smoothed ones among them
                    for cached in kept.parent.parent.glob(pattern):
                        shutil.rmtree(cached, ignore_errors=True)
    projected = project(made, whole)
    source = source_of(store, space, made)
    if kept and revision is not None and files.is_large(source, projected):
        projected = files.keep(source, projected, revision)
    return made, projected


def is_small(vectors: Vectors, reducer: Reducer | None) -> bool:
    """Whether vectors have no more dimensions than a reducer leaves."""
    return reducer is not None and vectors.shape[1] <= reducer.n_components


def _fitted(
    store: Store,
    space: Space,
    reducer: Reducer,
    labels_of: Callable[[Sequence[str]], list[str]],
    whole: VectorTable,
    outgrown: FittedReducer | None,
) -> FittedReducer:
    """Fit as `fit` does, with a warning that it takes time or that distances change."""
    if outgrown:
        log.warning(
            "%s was fitted on %s images, and the gallery has %s now: it is fitted anew, and distances change",
            reducer.name,
            f"{outgrown.images:,}",
            f"{int(whole.usable.sum()):,}",
        )
        fresh = registry.changed(reducer, {})  # this one holds the outgrown state
        fresh.progress = reducer.progress
        reducer = fresh
    else:
        about = "" if store.cache_folder else f"; store={store.name} keeps none, so that it is fitted for each run"
        log.warning("%s is fitted on %s images%s", reducer.name, f"{int(whole.usable.sum()):,}", about)
    return fit(reducer, space, whole.digests, whole.vectors, labels_of, whole.usable)


def project(projection: FittedReducer, table: VectorTable) -> VectorTable:
    """A table with its vectors projected."""
    vectors = in_blocks(functools.partial(_transformed, projection.reducer), table.vectors)
    return replace(table, vectors=vectors, pruning=pruning_index(vectors, ()))


def project_queries(
    reducer: Reducer,
    queries: Vectors,
    contents: Sequence[str | None],
    digests: npt.NDArray[np.bytes_],
    vectors: Vectors,
) -> Vectors:
    """Project queries; a content of the gallery gets the gallery's own projected vector.

    Projected again, in another batch, it might be rounded differently, and equal contents must be at distance 0.

    Args:
        reducer: fitted.
        queries: `float32 (m, dim)`, not yet projected.
        contents: the digest of each query's content, or None if unknown.
        digests: `(n,)`, of the gallery's rows.
        vectors: `float32 (n, n_components)`: the gallery's rows, projected.
    """
    try:
        projected = np.array(_transformed(reducer, queries))
    except ValueError as error:  # such as a wrong length
        raise UsageError(f"{reducer.name} cannot project {queries.shape[1]} values of a query: {error}") from error
    wanted = {content.encode() for content in contents if content}
    row_of = {digests[row]: row for row in np.flatnonzero(np.isin(digests, list(wanted)))} if wanted else {}
    for query, content in enumerate(contents):
        if content and (row := row_of.get(content.encode())) is not None:
            projected[query] = vectors[row]
    return projected


def source_of(store: Store, space: Space, projection: FittedReducer) -> Source:
    """Where the projected vectors of a space come from."""
    return Source(store, space, projection.space.key, functools.partial(_transformed, projection.reducer))


def _transformed(reducer: Reducer, vectors: Vectors) -> Vectors:
    """Vectors projected by a fitted reducer.

    Raises:
        ImgrecError: the result is not finite; the message names the reducer and its distribution.
    """
    projected = reducer.transform(vectors)
    if not np.isfinite(projected).all():
        origin = registry.origin_of(reducer)
        raise ImgrecError(f"reducer {reducer.name} of {origin} returned values that are not finite")
    return projected


def _folder(store: Store, space: Space, reducer: Reducer) -> Path | None:
    if store.cache_folder is None:
        return None
    options = json.dumps(reducer.plain_options(), sort_keys=True)
    digest = hashlib.sha256(options.encode()).hexdigest()[:12]
    return store.cache_folder / "projections" / f"{space.key}+{reducer.name}-{digest}"


def _read(folder: Path, space: Space, reducer: Reducer) -> FittedReducer | None:
    """The cached projection; None if there is none, or it is damaged."""
    try:
        return _restored(folder, space, reducer)
    except FileNotFoundError:
        return None
    except _DamagedError as error:
        log.warning("the projection in %s is not used: %s", folder, error)
        return None


class _DamagedError(Exception):
    """Cached files are not what was written."""


def _restored(folder: Path, space: Space, reducer: Reducer) -> FittedReducer:
    """The cached projection; raises FileNotFoundError if there is none, _DamagedError if it is damaged."""
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        with (folder / "state.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            state = dict(arrays)
        if not all(np.isfinite(each).all() for each in state.values() if each.dtype.kind in "fc"):
            raise _DamagedError("its state has values that are not finite")
        restored = reducer.restore(state)
        found = FittedReducer(restored, _space_of(space, restored), about["images"])
        is_right = (about["format"], about["key"]) == (FORMAT, found.space.key)
        is_right = is_right and type(found.images) is int and found.images > 0
    except (FileNotFoundError, _DamagedError):
        raise
    except Exception as error:  # zip, NumPy, JSON and reducers raise anything on damaged files
        raise _DamagedError(f"{type(error).__name__}: {error}") from error
    if not is_right:
        raise _DamagedError("it was changed")
    return found


def _keep(made: FittedReducer, space: Space, folder: Path) -> None:
    with files.put_in_place(folder) as aside:
        state: dict[str, Any] = made.reducer.state()
        np.savez(aside / "state.npz", **state)
        about = {
            "format": FORMAT,
            "images": made.images,
            "key": made.space.key,
            "space": space.key,
            "reducer": made.reducer.name,
            "options": made.reducer.plain_options(),
        }
        (aside / "about.json").write_text(json.dumps(about), encoding="utf-8")


def check(store: Store) -> Iterator[tuple[Path, str | None]]:
    """Each cached folder of a store's projections and of their vectors, and what is wrong with it, if anything.

    Those whose reducer is not installed are skipped with a warning.
    """
    if store.cache_folder is None:
        return
    spaces = {space.key: space for space in store.spaces()}
    for folder in sorted(store.cache_folder.glob("projections/[!.]*/")):
        try:
            about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
            if (space := spaces.get(about["space"])) is None:
                yield folder, "the store has its space no more"
                continue
            reducer = registry.build("reducer", about["reducer"], **about["options"])
            found = _restored(folder, space, reducer)
        except ImgrecError as error:
            log.warning("the projection in %s is not checked: %s", folder, error)
        except (OSError, ValueError, KeyError, TypeError, _DamagedError) as error:
            yield folder, str(error) or type(error).__name__
        else:
            yield folder, None
            yield from files.check(source_of(store, space, found))
            yield from smoothing.check(source_of(store, space, found))
