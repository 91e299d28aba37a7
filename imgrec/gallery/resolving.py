"""Resolving: from what is looked for to its vectors in a gallery."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from imgrec import images
from imgrec.errors import UsageError
from imgrec.extraction import extract, extract_text
from imgrec.gallery.query import Known, Query, Resolved, Text
from imgrec.gallery.similarity import Similarity, Term
from imgrec.gallery.texts import check_takes_text
from imgrec.kinds import Form, Store, Vectors

log = logging.getLogger(__name__)


def resolve(query: Query, store: Store, similarity: Similarity) -> Resolved:
    """Resolve a query: its vectors come from the store if it has the contents, else they are extracted.

    Raises:
        UsageError: a picture does not exist or cannot be read, an extractor cannot be built or takes no text, or a
            term has no vector.
    """
    known = [_known(each, store, similarity) for each in query.items]
    vectors = {term.name: _stacked(known, term) for term in similarity.terms}
    contents: list[str | None] = [each.digest for each in known]
    if query.combine == "mean" and len(known) > 1:
        vectors = {term.name: _mean(vectors[term.name], term) for term in similarity.terms}
        contents = [None]
    pictures = [each for each in query.items if isinstance(each, str)]
    digests = frozenset(each.digest for each in known if each.digest)
    left_out = frozenset[str]() if query.include_self else digests
    return Resolved(vectors, contents, digests, left_out, pictures[0] if pictures else None)


def _known(item: str | Known | Text, store: Store, similarity: Similarity) -> Known:
    if isinstance(item, Known):
        return item
    if isinstance(item, Text):
        check_takes_text(store, similarity)
        return Known({term.name: extract_text(term.ready_extractor(), item.text) for term in similarity.terms})
    return _of_picture(item, store, similarity)


def _stacked(known: Sequence[Known], term: Term) -> Vectors:
    if not all(term.name in each.vectors for each in known):
        raise UsageError(f"the query has no vector for {term.name or 'the only term'} of the gallery")
    vectors = [np.asarray(each.vectors[term.name], dtype=np.float32) for each in known]
    if len({each.shape for each in vectors}) > 1 or vectors[0].ndim != 1:
        raise UsageError(
            f"the query's vectors have other lengths: {', '.join(str(each.shape) for each in vectors)}"
        )
    if not all(np.isfinite(each).all() for each in vectors):
        raise UsageError("the query's vectors have values that are not finite")
    return np.stack(vectors)


def _mean(vectors: Vectors, term: Term) -> Vectors:
    """The mean vector, `float32 (1, dim)`; of unit vectors if the metric compares these."""
    given = term.metric.as_euclidean(vectors) if term.metric.form is Form.UNIT else vectors
    mean: Vectors = given.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
    return mean


def _of_picture(path: str, store: Store, similarity: Similarity) -> Known:
    if not path:
        raise UsageError("query is empty: name a picture")
    if (file := images.state(path)) is None:
        raise UsageError(f"query {path!r} does not exist")
    if file.problem == images.NOT_REGULAR:
        raise UsageError(f"query {path!r} is a folder or device, not a picture")
    try:
        data, digest = images.read(path)
        return Known({term.name: _vector(path, data, digest, store, term) for term in similarity.terms}, digest)
    except images.UnreadableImageError as error:
        raise UsageError(f"query {path!r} cannot be read: {error}") from None


def _vector(path: str, data: bytes, digest: str, store: Store, term: Term) -> Vectors:
    _, found = store.vectors(term.space, [digest])
    if not len(found):
        extractor = term.ready_extractor()
        with images.warned.heard() as warnings:
            image = images.decode(data, extractor.side)
        for warning in warnings:
            log.warning("query %r is read with damage: %s", path, warning)
        found = extract(extractor, [image], [path])
    vector: Vectors = found[0]
    return vector
