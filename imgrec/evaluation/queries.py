"""Queries for an evaluation, and which of the answers are hits."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imgrec import images
from imgrec.batches import chunks
from imgrec.errors import UsageError
from imgrec.evaluation.alterations import ALTERATIONS
from imgrec.evaluation.labels import labels_of
from imgrec.extraction import extract
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.query import Known, Query
from imgrec.kinds import Extractor, Image, Record, Vectors
from imgrec.threads import each

ALTERED_SIDE = 512
"""Photographs to alter are decoded to at least this side; blurring larger ones takes seconds."""


@dataclass
class Queries:
    """Queries and the key by which their hits are recognised."""

    about: str
    records: Sequence[Record]
    asked: Sequence[Query]
    """One query per record."""

    wanted: Sequence[str]
    """For each query, the key of its hits."""

    keys: Sequence[str]
    """The keys of the gallery's images: labels or digests."""

    alterations: Sequence[str] = ()
    """The alteration of each query, if any."""

    is_apart: bool = False
    """Whether they are no images of the gallery."""

    @property
    def groups(self) -> Sequence[str]:
        """The alteration of each query, or else its label."""
        return self.alterations or self.wanted

    @property
    def grouped_by(self) -> str:
        """`by_alteration` or `by_class`."""
        return "by_alteration" if self.alterations else "by_class"

    @property
    def names(self) -> list[str]:
        """Display names: the group and the file's name."""
        return [f"{group}: {Path(r.path).name}" for group, r in zip(self.groups, self.records, strict=True)]


def asked_of(
    gallery: Gallery,
    extractors: Sequence[Extractor],
    *,
    labels: str = "auto",
    sample: int | None = 1000,
    apart: Gallery | None = None,
    seed: int = 0,
) -> Queries:
    """Choose queries for a gallery. Labels, if there are any, are set on the gallery as well.

    Args:
        gallery: the gallery to search.
        extractors: one for each term of its similarity.
        labels: see `labels_of`.
        sample: how many of the gallery's images, or of their altered copies, become queries; None for all.
        apart: a gallery of separate query images.
        seed: of the sample and of the alterations.

    Returns:
        The images of `apart` if given; else the gallery's own, or without labels altered copies of them.

    Raises:
        UsageError: there are no labels for the images of `apart`, or no file to alter exists.
    """
    records = gallery.records
    own = [record.path for record in records]
    if apart is not None:
        found = labels_of(own + [record.path for record in apart.records], labels)
        if found is None:
            raise UsageError("queries= needs labels: labels=folder, or a CSV file of them")
        gallery.label_of = dict(zip(own, found, strict=False)).__getitem__
        vectors = apart.stored_vectors(apart.records)
        asked = [replace(each, include_self=True) for each in known(apart.records, vectors)]
        wanted, keys = found[len(own) :], found[: len(own)]
        return Queries("a folder's images", apart.records, asked, wanted, keys, is_apart=True)
    found = labels_of(own, labels)
    rng = np.random.default_rng(seed)
    if found is None:
        count = len(own) if sample is None else max(1, sample // len(ALTERATIONS))
        chosen = [records[i] for i in np.sort(rng.permutation(len(own))[:count])]
        names = [term.name for term in gallery.similarity.terms]
        return _altered(chosen, dict(zip(names, extractors, strict=True)), seed, _digests(records))
    gallery.label_of = dict(zip(own, found, strict=True)).__getitem__
    numbers = np.sort(rng.permutation(len(own))[:sample])
    some = [records[i] for i in numbers]
    asked = known(some, gallery.stored_vectors(some))
    return Queries("each of the gallery's images", some, asked, [found[i] for i in numbers], found)


def known(records: Sequence[Record], vectors: Mapping[str, Vectors], *, is_content: bool = True) -> list[Query]:
    """Queries with known vectors.

    Args:
        records: one per query.
        vectors: row-aligned vectors of each term, `float32 (n, dim)`, before projection.
        is_content: whether the vectors are those of the records' contents, which are then excluded from results.
    """
    return [
        Query((Known({name: each[i] for name, each in vectors.items()}, record.digest if is_content else None),))
        for i, record in enumerate(records)
    ]


def relevant(gallery: Gallery, queries: Queries) -> list[int]:
    """For each query, how many of the gallery's images are hits, without those excluded from its results."""
    counts = Counter(queries.keys)
    own = Counter((record.digest, key) for record, key in zip(gallery.records, queries.keys, strict=True))
    return [
        counts[wanted] - sum(own[digest, wanted] for digest in _own_digests(query))
        for query, wanted in zip(queries.asked, queries.wanted, strict=True)
    ]


def _own_digests(query: Query) -> set[str]:
    if query.include_self:
        return set()
    return {each.digest for each in query.items if isinstance(each, Known) and each.digest}


def picture(queries: Queries, i: int, seed: int) -> Image | None:
    """The image of a query; None if its file is gone."""
    image = _decoded(queries.records[i], ALTERED_SIDE)
    if image is None or not queries.alterations:
        return image
    return _alter(image, queries.records[i], queries.alterations[i], seed)


def _altered(
    records: Sequence[Record], extractors: Mapping[str, Extractor], seed: int, keys: Sequence[str]
) -> Queries:
    """Each alteration of each image, without images whose file is gone."""
    decoded = functools.partial(_decoded, side=ALTERED_SIDE)
    kept: list[Record] = []
    vectors: dict[str, list[Vectors]] = {name: [] for name in extractors}
    for some in chunks(records, 8):
        originals = [
            (record, image) for record, image in zip(some, each(decoded, some), strict=True) if image is not None
        ]
        made = [_alter(image, record, name, seed) for record, image in originals for name in ALTERATIONS]
        names = [f"{record.path} ({name})" for record, _ in originals for name in ALTERATIONS]
        for term, extractor in extractors.items():
            if made:
                vectors[term].append(extract(extractor, made, names))
        kept += [record for record, _ in originals for _ in ALTERATIONS]
    if not kept:
        raise UsageError("none of the gallery's files is there to be altered: evaluate by labels")
    done = list(ALTERATIONS) * (len(kept) // len(ALTERATIONS))
    by_term = {term: np.concatenate(each) for term, each in vectors.items()}
    asked = known(kept, by_term, is_content=False)
    return Queries("altered copies", kept, asked, _digests(kept), keys, alterations=done)


def _alter(image: Image, record: Record, alteration: str, seed: int) -> Image:
    return ALTERATIONS[alteration](image, np.random.default_rng([seed, int(record.digest[:8], 16)]))


def _decoded(record: Record, side: int | None = None) -> Image | None:
    """A record's image; None if its file is gone or broken."""
    return decoded_for([side], record).get(side)


def decoded_for(sides: Collection[int | None], record: Record) -> dict[int | None, Image]:
    """A record's image for each of the sides; empty if its file is gone or broken."""
    with contextlib.suppress(images.UnreadableImageError), images.warned.heard():  # the ingest told of damage
        data, _ = images.read(record.path)
        return {side: images.decode(data, side) for side in sides}
    return {}


def _digests(records: Sequence[Record]) -> list[str]:
    return [record.digest for record in records]
