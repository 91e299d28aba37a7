"""Typicality: whether a match is as near as images of a gallery are to each other.

For a sample of the gallery's images the distance to the nearest other one is known, as if each were asked for.
A query of the same kind comes as one more of them, so that the share of those that are at least as far is a
conformal p-value: V. Vovk, A. Gammerman and G. Shafer, Algorithmic Learning in a Random World, 2005; as a test
for outliers S. Bates, E. Candès, L. Lei, Y. Romano and M. Sesia, Testing for outliers with conformal p-values,
Annals of Statistics 51 (2023). Of good queries at most a share alpha has one below alpha, however distances are
distributed.

Near-copies in the gallery are left out, since a query has none: with them the distances would be too small.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgrec.batches import chunks
from imgrec.kinds import Doubles, Reranker
from imgrec.search import files

if TYPE_CHECKING:
    from imgrec.gallery.gallery import Gallery
    from imgrec.gallery.query import Resolved

log = logging.getLogger(__name__)

FORMAT = 1
"""The version of the cached files."""

AT_ONCE = 64
"""Images that are asked for together."""

FOLDS = 5
"""Where something was learned from images, or moved towards them, a fifth of the gallery is held out at a time."""


@dataclass(frozen=True)
class Typical:
    """The distances of a gallery's images from their own nearest ones."""

    distances: Doubles
    """`float64 (n,)`, sorted."""

    def of(self, distances: Doubles) -> Doubles:
        """The typicality of matches, above 0, at most 1: of the sample and the query, the share at least as far.

        >>> Typical(np.array([1.0, 2.0, 2.0])).of(np.array([0.0, 2.0, 2.5])).tolist()
        [1.0, 0.75, 0.25]
        """
        farther = len(self.distances) - np.searchsorted(self.distances, distances, side="left")
        shares: Doubles = (1 + farther) / (1 + len(self.distances))
        return shares


def typical(gallery: Gallery, rerank: Reranker | None, alpha: float) -> Typical:
    """The typical distances of a gallery, from the cache or measured now, and then cached.

    Args:
        gallery: with its similarity and index.
        rerank: of queries: the images are asked for with it too.
        alpha: for a warning, if they are too few for a typicality below it.
    """
    folder = _folder(gallery, rerank)
    found = None if folder is None else _read(folder)
    if found is None:
        found = _measured(gallery, rerank)
        log.info("typical distances are those of %s images", f"{len(found):,}")
        if folder is not None:
            with contextlib.suppress(OSError):  # the disk may be full or read-only
                _keep(folder, found)
    if 1 / (1 + len(found)) >= alpha:
        log.warning("threshold=auto refuses nothing: alpha=%g takes more images than these %d", alpha, len(found))
    return Typical(found)


def _measured(gallery: Gallery, rerank: Reranker | None) -> Doubles:
    rows = gallery.sample
    asked = gallery.asked_for(rows, gallery.near(rows, gallery.nearness[0]))
    if not gallery.learns:
        return _nearest(gallery, asked, rerank)
    folds = -(-FOLDS * len(rows) // max(1, gallery.contents))  # one, of a large gallery
    found = []
    for some in (asked[fold::folds] for fold in range(folds)):
        others = gallery.without_learning_from(digest for each in some for digest in each.digests)
        found.append(_nearest(others, some, rerank))
    return np.sort(np.concatenate(found)) if found else np.empty(0)


def _nearest(gallery: Gallery, asked: Sequence[Resolved], rerank: Reranker | None) -> Doubles:
    """The distance of each query's nearest image, of those that find any, sorted."""
    by_number = sorted(asked, key=lambda query: len(query.left_out))  # what is left out is looked for too
    found = [gallery.search(some, 1, rerank=rerank) for some in chunks(by_number, AT_ONCE)]
    return np.sort([matches[0].distance for each in found for matches in each if matches])


# --- the cache --------------------------------------------------------------------------------------------------


def _folder(gallery: Gallery, rerank: Reranker | None) -> Path | None:
    """Where the distances of the store's revision are cached; None if none can be."""
    cache, revisions = gallery.cache_folder, gallery.revisions
    if cache is None or revisions is None:
        return None
    compared = {
        "format": FORMAT,
        "terms": [
            (space.key, term.metric.name, term.weight)
            for space, term in zip(gallery.spaces, gallery.similarity.terms, strict=True)
        ],
        "index": {**about, "exact": None, "measured": None} if (about := gallery.about_index()) else None,
        "rerank": rerank and [rerank.name, rerank.plain_options()],
    }
    return cache / "typical" / f"{gallery.key}-{_digest(compared)}" / _digest(revisions)


def _digest(what: object) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def _keep(folder: Path, distances: Doubles) -> None:
    with files.put_in_place(folder) as aside, (aside / "distances.npy").open("wb") as file:
        np.save(file, distances)
        file.flush()
        os.fsync(file.fileno())
    files.clear_others(folder)


def _read(folder: Path) -> Doubles | None:
    """The cached distances; None if there are none, or they are damaged."""
    if not folder.exists():
        return None
    try:
        found = np.load(folder / "distances.npy", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        log.warning("the typical distances in %s are measured again: %s", folder, error)
        return None
    is_sound = found.ndim == 1 and found.dtype == np.float64 and np.isfinite(found).all()
    if not is_sound or (found < 0).any() or (np.diff(found) < 0).any():
        log.warning("the typical distances in %s are measured again: they were changed", folder)
        return None
    return found  # type: ignore[no-any-return]
