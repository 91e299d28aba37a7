"""The contract of metrics."""

from __future__ import annotations

import numpy as np

from imgrec.errors import UsageError
from imgrec.kinds import Doubles, Form, Metric, Vectors
from imgrec.testing import kit
from imgrec.testing.kit import Check, require

DIM = 12

CLOSE = 1e-5
"""The relative error that a Euclidean form in float32 may have."""


def check_metric(metric: Metric) -> None:
    """Check that a metric keeps its contract.

    Args:
        metric: an instance of a class defined at module level.

    Raises:
        ContractError: any check failed.

    >>> import imgrec
    >>> check_metric(imgrec.build("metric", "hellinger"))
    """
    kit.run(f"metric {metric.name}", CHECKS, metric)


def sample(count: int = 40, seed: int = 0) -> Vectors:
    """Non-negative vectors, which every metric accepts; two are equal, one is a multiple, one is zero."""
    vectors = np.random.default_rng(seed).gamma(0.5, size=(count, DIM)).astype(np.float32)
    vectors[3], vectors[4], vectors[5] = vectors[2], 2 * vectors[2], 0
    return vectors


def _distances(metric: Metric, query: Vectors, vectors: Vectors) -> Doubles:
    found: object = metric.distances(query.astype(np.float64), vectors.astype(np.float64))
    form = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
    require(form == f"float64 ({len(vectors)},)", f"{form} for {len(vectors)} vectors")
    return found  # type: ignore[return-value]


# --- the checks ---------------------------------------------------------------------------------------------


def distances_are_numbers_from_0_on(metric: Metric) -> None:
    """`distances` returns float64 (n,) for n vectors, finite and not negative, also for zero vectors."""
    for query in sample()[:8]:
        distances = _distances(metric, query, sample())
        require(np.isfinite(distances).all() and distances.min() >= 0, f"{distances[:3]}...")


def equal_vectors_are_at_0(metric: Metric) -> None:
    """Equal vectors, also two zero vectors, have a distance of exactly 0."""
    vectors = sample()
    for i in range(len(vectors)):
        (distance,) = _distances(metric, vectors[i], vectors[i : i + 1])
        require(distance == 0, f"{distance} of {'a zero' if not vectors[i].any() else 'a'} vector from itself")


def it_goes_both_ways(metric: Metric) -> None:
    """Distances are symmetric, to 1e-9."""
    vectors = sample()
    table = np.array([_distances(metric, vector, vectors) for vector in vectors])
    require(np.allclose(table, table.T, rtol=1e-9, atol=1e-12), f"{np.abs(table - table.T).max():.1e} apart")


def a_distance_is_the_same_alone_and_among_others(metric: Metric) -> None:
    """A vector's distance does not depend on the other vectors in the call, to the last bit."""
    vectors = sample(300)
    for query in vectors[:5]:
        together = _distances(metric, query, vectors)
        alone = np.concatenate([_distances(metric, query, vectors[i : i + 1]) for i in range(len(vectors))])
        require(np.array_equal(together, alone), f"{np.abs(together - alone).max():.1e} apart")


def its_form_orders_alike(metric: Metric) -> None:
    """With a Euclidean form, `least` of the distance between forms is the metric's distance, to 1e-5.

    If one of the vectors is zero, the metric's distance may be larger.
    """
    if metric.form is Form.NONE:
        return
    vectors = sample()
    forms: object = metric.as_euclidean(vectors)
    is_right = isinstance(forms, np.ndarray) and forms.dtype == np.float32 and len(forms) == len(vectors)
    require(is_right, f"{type(forms).__name__} for {len(vectors)} vectors, not float32 (n, any)")
    exact = np.asarray(forms, np.float64)
    for i, query in enumerate(vectors):
        distances = _distances(metric, query, vectors)
        least = np.asarray(metric.least(np.linalg.norm(exact - exact[i], axis=1)))
        scale = max(float(distances.max()), 1e-12)
        are_whole = vectors.any(axis=1) & bool(query.any())
        apart = np.where(are_whole, np.abs(least - distances), np.maximum(least - distances, 0)).max() / scale
        require(apart <= CLOSE, f"forms say {apart:.1e} of the largest distance else")


def least_grows_from_0_on(metric: Metric) -> None:
    """`least` is 0 at 0, increases with the distance between forms, and accepts numbers and arrays."""
    apart = np.linspace(0, 3, 50)
    together = np.asarray(metric.least(apart))
    require(together[0] == 0, f"{together[0]} of equal forms")
    require(bool((np.diff(together) >= 0).all()), "it falls")
    alone = np.array([metric.least(float(each)) for each in apart])
    require(np.allclose(together, alone, rtol=1e-12), "numbers one by one give something else than an array")


def float32_is_off_by_rounding_alone(metric: Metric) -> None:
    """If it scans in float32, the error is at most the rounding error of a sum of `dim` terms."""
    if not metric.scans_in_float32:
        return
    vectors = sample(300)
    most = (vectors.shape[1] + 8) * float(np.finfo(np.float32).eps)
    for query in vectors[:5]:
        exact, seen = _distances(metric, query, vectors), metric.distances(query, vectors)  # type: ignore[arg-type]
        off = np.abs(np.asarray(seen, np.float64) - exact)
        require(bool((off <= most * exact).all()), f"{off.max():.1e} apart")


def negative_values_are_taken_or_refused(metric: Metric) -> None:
    """Vectors with negative values have finite distances, or `check` raises a UsageError."""
    vectors = sample() - np.float32(0.5)
    try:
        metric.check(vectors)
    except UsageError:
        return
    for query in vectors[:5]:
        distances = _distances(metric, query, vectors)
        require(np.isfinite(distances).all() and distances.min() >= 0, f"{distances[:3]}...")


def vectors_stay_as_they_are(metric: Metric) -> None:
    """The vectors passed in are not modified."""
    query, vectors, given = sample()[0].astype(np.float64), sample().astype(np.float64), sample()
    metric.distances(query, vectors)
    if metric.form is not Form.NONE:
        metric.as_euclidean(given)
    is_same = np.array_equal(vectors, sample()) and np.array_equal(query, sample()[0])
    require(is_same and np.array_equal(given, sample()), "they were changed")


def class_can_be_listed(metric: Metric) -> None:
    """The class is a dataclass without options and with a valid name, and has a form if it declares one."""
    kit.check_class(metric)


def module_is_light(metric: Metric) -> None:
    """Importing the module and building the metric imports no heavy library before its first use."""
    kit.check_light(metric)


CHECKS = tuple(
    map(
        Check,
        (
            distances_are_numbers_from_0_on,
            equal_vectors_are_at_0,
            it_goes_both_ways,
            a_distance_is_the_same_alone_and_among_others,
            its_form_orders_alike,
            least_grows_from_0_on,
            float32_is_off_by_rounding_alone,
            negative_values_are_taken_or_refused,
            vectors_stay_as_they_are,
            class_can_be_listed,
            module_is_light,
        ),
    )
)
