"""The contract of rerankers."""

from __future__ import annotations

import numpy as np

from imgrec.kinds import Reranker, Vectors
from imgrec.testing import kit
from imgrec.testing.kit import Check, require

DIM = 8


def check_reranker(reranker: Reranker) -> None:
    """Check that a reranker keeps its contract.

    Args:
        reranker: an instance, with the options to test, of a class defined at module level.

    Raises:
        ContractError: any check failed.

    >>> import imgrec
    >>> check_reranker(imgrec.build("reranker", "query_expansion"))
    """
    kit.run(f"reranker {reranker.name}", CHECKS, reranker)


def _asked(count: int = 5) -> tuple[Vectors, Vectors]:
    """A query and its neighbours, with some negative values."""
    rng = np.random.default_rng(0)
    query = rng.normal(size=DIM).astype(np.float32)
    return query, (query + rng.normal(size=(count, DIM)) / 4).astype(np.float32)


def _expanded(reranker: Reranker, query: Vectors, nearest: Vectors) -> Vectors:
    made = kit.rebuilt(reranker).expand(query, nearest)
    form = f"{made.dtype} {made.shape}" if isinstance(made, np.ndarray) else type(made).__name__
    require(form == f"float32 ({DIM},)", f"{form} for a query of {DIM} values")
    require(np.isfinite(made).all(), "values that are not finite")
    return made


def result_is_a_vector(reranker: Reranker) -> None:
    """`expand` returns float32 (dim,), finite, for a query and its neighbours."""
    _expanded(reranker, *_asked())


def one_neighbour_is_enough(reranker: Reranker) -> None:
    """One neighbour is enough, as a gallery may have one image."""
    try:
        _expanded(reranker, *_asked(1))
    except Exception as error:
        require(False, f"{type(error).__name__}: {error}")


def zeros_are_taken(reranker: Reranker) -> None:
    """The result is finite even if the query or a neighbour is zero."""
    query, nearest = _asked()
    with np.errstate(all="ignore"):
        for given in ((np.zeros_like(query), nearest), (query, np.zeros_like(nearest))):
            _expanded(reranker, *given)


def nothing_negative_is_made(reranker: Reranker) -> None:
    """If neither the query nor a neighbour has negative values, the result has none, so histograms stay valid."""
    query, nearest = map(np.abs, _asked())
    require(_expanded(reranker, query, nearest).min() >= 0, "negative values")


def the_same_is_said_again(reranker: Reranker) -> None:
    """The same query and neighbours always give the same result, to the last bit."""
    first, second = (_expanded(reranker, *_asked()) for _ in range(2))
    require(np.array_equal(first, second), "another result")


def vectors_stay_as_they_are(reranker: Reranker) -> None:
    """The vectors passed in are not modified."""
    given = _asked()
    kit.rebuilt(reranker).expand(*given)
    require(all(map(np.array_equal, given, _asked())), "they were changed")


def options_come_through_yaml(reranker: Reranker) -> None:
    """Options are unchanged after a round trip through YAML."""
    kit.check_options(reranker)


def module_is_light(reranker: Reranker) -> None:
    """Importing the module and building the reranker imports no heavy library before its first use."""
    kit.check_light(reranker)


CHECKS = tuple(
    map(
        Check,
        (
            result_is_a_vector,
            one_neighbour_is_enough,
            zeros_are_taken,
            nothing_negative_is_made,
            the_same_is_said_again,
            vectors_stay_as_they_are,
            options_come_through_yaml,
            module_is_light,
        ),
    )
)
