"""Resolving: from what is looked for to its vectors in a gallery."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

import numpy as np

from imgrec import images
from imgrec.errors import UsageError
from imgrec.extraction import extract
from imgrec.gallery import colours, elsewhere
from imgrec.gallery.query import Known, Picture, Query, Resolved
from imgrec.gallery.similarity import Similarity, Term
from imgrec.kinds import Form, Store, Vectors

log = logging.getLogger(__name__)


def resolve(query: Query, store: Store, similarity: Similarity) -> Resolved:
    """Resolve a query: its vectors come from the store if it has the contents, else they are extracted.

    Raises:
        UsageError: a picture does not exist or cannot be read, an extractor cannot be built, or a term has no
            vector.
    """
    items = [_fetched(each) if isinstance(each, str) else each for each in query.items]
    colour_term = colours.checked_term(query, similarity)
    terms = [term for term in similarity.terms if term is not colour_term]
    known = [each if isinstance(each, Known) else _of_picture(each, store, terms) for each in items]
    vectors = {term.name: _stacked(known, term) for term in terms}
    contents: list[str | None] = [each.digest for each in known]
    if query.combine == "mean" and len(known) > 1:
        vectors = {term.name: _mean(vectors[term.name], term) for term in terms}
        contents = [None]
    shown: list[str | Picture] = [each for each in items if not isinstance(each, Known)]
    if query.colours is not None and colour_term is not None:
        asked = colours.parsed(query.colours)
        contents = [None] * max(1, len(contents))  # a variant is of no content alone
        vectors[colour_term.name] = np.repeat(colours.vector(asked, colour_term)[None], len(contents), axis=0)
        shown.append(Picture(colours.swatches(asked), colours.caption(asked)))
    digests = frozenset(each.digest for each in known if each.digest)
    left_out = frozenset[str]() if query.include_self else digests
    return Resolved(vectors, contents, digests, left_out, shown[0] if shown else None)


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


def _fetched(path: str) -> str | Picture:
    return elsewhere.fetched(path) if elsewhere.is_fetched(path) else path


def _of_picture(item: str | Picture, store: Store, terms: Sequence[Term]) -> Known:
    name = item if isinstance(item, str) else item.name
    if isinstance(item, str):
        _check_file(item)
    try:
        if isinstance(item, str):
            data, digest = images.read(item)
        else:
            data, digest = item.data, hashlib.sha256(item.data).hexdigest()
        return Known({term.name: _vector(name, data, digest, store, term) for term in terms}, digest)
    except images.UnreadableImageError as error:
        raise UsageError(f"query {name!r} cannot be read: {error}") from None


def _check_file(path: str) -> None:
    if not path:
        raise UsageError("query is empty: name a picture")
    if (file := images.state(path)) is None:
        raise UsageError(f"query {path!r} does not exist")
    if file.problem == images.NOT_REGULAR:
        raise UsageError(f"query {path!r} is a folder or device, not a picture")
    if "://" in path and file.problem:
        raise UsageError(f"query {path!r} {file.problem}")


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
