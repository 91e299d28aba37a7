"""Folds: whatever learns from labels, or moves vectors, does so without the images that are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from imgrec.errors import UsageError
from imgrec.evaluation.queries import Queries
from imgrec.gallery.gallery import Gallery
from imgrec.kinds import Component, Reranker

FOLDS = 5


@dataclass(frozen=True)
class HeldOut:
    """Galleries of the same images to ask, in none of which anything has learned from its queries."""

    galleries: Sequence[Gallery]

    gallery_of: Sequence[int]
    """For each query, which of the galleries is asked."""

    @property
    def gallery(self) -> Gallery:
        """Any of them: all have the same images and similarity."""
        return self.galleries[0]

    @property
    def folds(self) -> int | None:
        """How many folds the images were divided into; None if one gallery answers all queries."""
        return len(self.galleries) if len(self.galleries) > 1 else None

    def of(self, numbers: Sequence[int]) -> Iterator[tuple[Gallery, list[int]]]:
        """Each gallery and those of some queries that it is asked."""
        for fold, gallery in enumerate(self.galleries):
            if own := [number for number in numbers if self.gallery_of[number] == fold]:
                yield gallery, own


def held_out(gallery: Gallery, queries: Queries, rerank: Reranker | None, seed: int) -> HeldOut:
    """A gallery ready to be asked: once as it is, or in folds if something in it learns from the queries.

    Learning is from labels, or smoothing: vectors that were moved towards a query would be found by it too easily.
    Altered copies are not in the gallery, so that nothing moves towards them.

    Args:
        gallery: of the images that may be found.
        queries: with labels, if anything learns from them.
        rerank: if given, the reranker of all queries.
        seed: of the folds.

    Raises:
        UsageError: something learns from labels, and there are none, or too few without those of a fold.
    """
    everything = HeldOut([gallery], [0] * len(queries.asked))
    learners, is_smoothed = _learners(gallery, rerank), any(term.smoothing for term in gallery.similarity.terms)
    if not learners and (not is_smoothed or queries.alterations):
        return everything
    if queries.grouped_by != "by_class":
        raise UsageError(
            f"{learners[0].name} learns from labels, and there are none: "
            "they are the names of two folders or more, or in labels=FILE.csv"
        )
    labels = {r.digest: label for r, label in zip(gallery.records[::-1], queries.keys[::-1], strict=True)}
    asked = [record.digest for record in queries.records]
    if queries.is_apart:
        copies = labels.keys() & set(asked)
        return HeldOut([gallery.without_learning_from(copies)], everything.gallery_of) if copies else everything
    fold_of = folds(labels, seed)
    galleries = [
        gallery.without_learning_from(digest for digest, each in fold_of.items() if each == fold)
        for fold in range(FOLDS)
    ]
    try:
        for each in galleries:
            _ = each.projections
    except UsageError as error:
        raise UsageError(
            f"{error}, without the fifth of the images that is asked for: have more, or others asked with queries="
        ) from error
    return HeldOut(galleries, [fold_of[digest] for digest in asked])


def folds(label_of: Mapping[str, str], seed: int) -> dict[str, int]:
    """Divide contents at random into `FOLDS` folds of one size, with equal shares of each label.

    Args:
        label_of: the label of each content, by its digest.
        seed: of the division, which depends on nothing else.

    >>> sorted(folds({"a1": "a", "a2": "a", "b1": "b"}, seed=0).values())
    [0, 1, 2]
    """

    def order(digest: str) -> tuple[str, bytes]:
        return label_of[digest], hashlib.sha256(f"{seed} {digest}".encode()).digest()

    return {digest: i % FOLDS for i, digest in enumerate(sorted(label_of, key=order))}


def _learners(gallery: Gallery, rerank: Reranker | None) -> list[Component]:
    """What learns from labels among the components that answer."""
    used: list[Component | None] = [*(term.projection for term in gallery.similarity.terms), rerank]
    return [each for each in used if each is not None and each.supervised]
