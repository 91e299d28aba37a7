"""Resolving: from what is looked for to its vectors in a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from imgrec.errors import UsageError
from imgrec.extraction import extract_text
from imgrec.gallery import colours, elsewhere, variants
from imgrec.gallery.pictures import Pictures
from imgrec.gallery.query import Item, Known, Query, Resolved, Shown, Text
from imgrec.gallery.similarity import Similarity, Term
from imgrec.gallery.texts import check_takes_text
from imgrec.kinds import Doubles, Form, Store, Vectors


@dataclass(frozen=True)
class Beside:
    """What counts beside the items of a query, or of many."""

    unlike: Sequence[Known]
    """What they keep away from."""

    colours: Known | None
    """Their colours, which are an item where there is no other; None without."""


def resolve(query: Query, store: Store, similarity: Similarity) -> Resolved:
    """Resolve a query: its vectors come from the store if it has the contents, else they are extracted.

    Raises:
        UsageError: a picture does not exist or cannot be read, an extractor cannot be built or takes no text, a
            term has no vector, or colours are asked of a gallery that was not opened for these.
    """
    query = replace(
        query,
        items=tuple(elsewhere.brought(each) for each in query.items),
        unlike=tuple(elsewhere.brought(each, "unlike") for each in query.unlike),
    )
    terms, _ = colours.terms_of(query, similarity)
    asked = Pictures(store, terms, query.variants)
    items = [known_item(each, store, asked, "query") for each in query.items]
    shared = beside(query, store, similarity)
    if not items and shared.colours is not None:
        items = [[shared.colours]]
    return resolved(query, items, shared, similarity)


def beside(query: Query, store: Store, similarity: Similarity) -> Beside:
    """What counts beside a query's items.

    Raises:
        UsageError: as `resolve`.
    """
    terms, of_colours = colours.terms_of(query, similarity)
    apart = Pictures(store, terms)
    return Beside(
        [known for each in query.unlike for known in known_item(each, store, apart, "unlike")],
        None if of_colours is None else colours.known(query.colours or "", of_colours),
    )


def known_item(item: Item, store: Store, pictures: Pictures, option: str) -> list[Known]:
    """The variants of an item of a query.

    Raises:
        UsageError: as `resolve`; it names the option.
    """
    if isinstance(item, Known):
        return [item]
    if isinstance(item, Text):
        check_takes_text(store, pictures.terms)
        return [Known({term.name: extract_text(term.ready_extractor(), item.text) for term in pictures.terms})]
    return pictures.one(item, option)


def resolved(query: Query, items: Sequence[Sequence[Known]], beside: Beside, similarity: Similarity) -> Resolved:
    """A query whose items are known.

    Args:
        query: how they count.
        items: for each item its variants, as many of each.
        beside: what counts beside them.
        similarity: whose terms have the vectors.

    Raises:
        UsageError: a term has no vector, or vectors of other lengths.
    """
    terms, _ = colours.terms_of(query, similarity)
    known, unlike = [each for some in items for each in some], beside.unlike
    vectors = {term.name: _stacked(known, term) for term in terms}
    contents: list[str | None] = [each.digest for each in known]
    names = variants.names(query.variants) * len(items)
    if (query.combine == "mean" and len(items) > 1) or unlike:
        count = len(items) if query.combine == "mean" else 1
        for term in terms:
            away = _stacked(unlike, term) if unlike else None
            vectors[term.name] = _moved(vectors[term.name], count, away, query.unlike_weight, term)
        contents = [None] * (len(known) // count)
        names = names[: len(contents)]
    if query.items and beside.colours is not None:
        contents = [None] * len(contents)  # a content is known by its vectors in all terms
        vectors |= {
            name: np.repeat(vector[None], len(contents), axis=0) for name, vector in beside.colours.vectors.items()
        }
    digests = frozenset(each.digest for each in known if each.digest)
    left_out = frozenset(each.digest for each in unlike if each.digest)
    return Resolved(
        vectors,
        contents,
        digests,
        left_out if query.include_self else left_out | digests,
        [*_shown(query.items), *([colours.shown(query.colours)] if query.colours else [])],
        _shown(query.unlike),
        names if query.variants else (),
        query.colours is None and not any(isinstance(each, Text) for each in (*query.items, *query.unlike)),
    )


def _shown(items: Sequence[Item]) -> list[Shown]:
    return [each for each in items if not isinstance(each, Known)]


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


def _moved(vectors: Vectors, count: int, unlike: Vectors | None, weight: float, term: Term) -> Vectors:
    """The means of a query's vectors, moved away from others; of unit vectors if the metric compares these.

    They are not projected yet: a linear projection of a mean is the mean of the projections.

    Args:
        vectors: `float32 (items x variants, dim)`, item by item.
        count: how many items are averaged.
        unlike: `float32 (any, dim)`; None: the means stay where they are.
        weight: of these, see `pushed`.
        term: whose vectors these are.
    """
    means = _comparable(vectors, term).reshape(count, -1, vectors.shape[1]).mean(axis=0)
    if unlike is not None:
        if unlike.shape[1] != vectors.shape[1]:
            raise UsageError(f"unlike has {unlike.shape[1]} values, and the query {vectors.shape[1]}")
        means = pushed(means, _comparable(unlike, term).mean(axis=0), weight)
    found: Vectors = means.astype(np.float32)
    return found


def _comparable(vectors: Vectors, term: Term) -> Doubles:
    given = term.metric.as_euclidean(vectors) if term.metric.form is Form.UNIT else vectors
    return given.astype(np.float64)


def pushed(vectors: Doubles, unlike: Doubles, weight: float) -> Doubles:
    """Vectors moved away from one, `(vector - weight * unlike) / (1 - weight)`.

    This is the method of J. Rocchio, Relevance feedback in information retrieval, 1971, without relevant images
    beside the query's own. Dividing by the sum of the weights changes no direction, and so nothing under cosine;
    under distances that compare lengths it keeps the vector among those of pictures, on the line from `unlike`
    through it. Values below 0 become 0 as his do, where neither side has any: histograms stay histograms.

    >>> pushed(np.array([[4.0, 1.0]]), np.array([0.0, 4.0]), 0.5)
    array([[8., 0.]])
    """
    moved: Doubles = (vectors - weight * unlike) / (1 - weight)
    return np.maximum(moved, 0) if vectors.min() >= 0 and unlike.min() >= 0 else moved
