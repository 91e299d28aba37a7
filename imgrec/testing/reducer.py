"""The contract of reducers."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

from imgrec.errors import UsageError
from imgrec.kinds import Reducer, Vectors
from imgrec.kinds.metric import metric_of, names_with_form
from imgrec.testing import kit
from imgrec.testing.kit import Check, require

FEW = 9
"""A number of points below the usual number of neighbours, with three per label."""


def check_reducer(reducer: Reducer) -> None:
    """Check that a reducer keeps its contract; one that only draws skips the checks of `fit` and `transform`.

    Args:
        reducer: an instance, with the options to test, of a class defined at module level.

    Raises:
        ContractError: any check failed.

    >>> import imgrec
    >>> check_reducer(imgrec.build("reducer", "pca"))
    """
    kit.run(f"reducer {reducer.name}", CHECKS, reducer)


def sample(count: int = 60, dim: int = 12, seed: int = 0) -> Vectors:
    """Non-negative vectors in three clusters."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).uniform(0, 10, size=(3, dim))
    return np.abs(centres[np.arange(count) % 3] + rng.normal(size=(count, dim))).astype(np.float32)


def _labels(reducer: Reducer, count: int = 60) -> list[str] | None:
    """The clusters of `sample` as labels, for a supervised reducer."""
    return ["abc"[i % 3] for i in range(count)] if reducer.supervised else None


def _checked(reducer: Reducer, reduced: Any, count: int) -> Vectors:
    form = f"{reduced.dtype} {reduced.shape}" if isinstance(reduced, np.ndarray) else type(reduced).__name__
    is_right = isinstance(reduced, np.ndarray) and reduced.shape == (count, reducer.n_components)
    require(
        is_right and reduced.dtype == np.float32, f"{form} of {count} vectors in {reducer.n_components} dimensions"
    )
    require(np.isfinite(reduced).all(), "values that are not finite")
    return reduced  # type: ignore[no-any-return]


def _scale(reduced: Vectors) -> float:
    return float(np.ptp(reduced)) or 1.0


# --- the checks ---------------------------------------------------------------------------------------------


def result_is_a_matrix(reducer: Reducer) -> None:
    """`fit_transform` returns float32 (n, n_components), finite, for n vectors."""
    reducer = kit.rebuilt(reducer)
    _checked(reducer, reducer.fit_transform(sample(), _labels(reducer)), 60)


def fit_returns_the_reducer(reducer: Reducer) -> None:
    """`fit` returns the fitted reducer itself and accepts labels, which only a supervised one must use."""
    if reducer.draws_only():
        return
    labels = ["abc"[i % 3] for i in range(60)]
    for fitted, given in ((kit.rebuilt(reducer), _labels(reducer)), (kit.rebuilt(reducer), labels)):
        returned: object = fitted.fit(sample(), given)
        require(returned is fitted, f"fit returned {type(returned).__name__}")
        _checked(fitted, fitted.transform(sample(5, seed=1)), 5)


def labels_are_asked_for(reducer: Reducer) -> None:
    """A supervised reducer raises a UsageError without labels or with a single one."""
    for labels, given in ((None, "no labels"), (["a"] * 60, "one label")) if reducer.supervised else ():
        try:
            kit.rebuilt(reducer).fit_transform(sample(), labels)
        except UsageError:
            continue
        raise kit.SeenError(f"fitted with {given}")


def the_seed_decides(reducer: Reducer) -> None:
    """The same vectors, options and seed give the same result, independent of NumPy's global random state."""
    results = []
    state = np.random.get_state()
    try:
        for seed in (1, 2):
            np.random.seed(seed)
            results.append(kit.rebuilt(reducer).fit_transform(sample(), _labels(reducer)))
    finally:
        np.random.set_state(state)
    twice = kit.rebuilt(reducer)
    twice.fit_transform(sample(40, seed=1), _labels(reducer, 40))
    results.append(twice.fit_transform(sample(), _labels(reducer)))
    labels = _labels(reducer)
    given = [sample()] if labels is None else [sample(), np.array(labels)]
    results.append(kit.in_new_process(reducer, "reduce", given)["vectors"])
    for other, where in zip(results[1:], ("another one", "one fitted before", "a new process"), strict=True):
        apart = float(np.abs(results[0] - other).max()) / _scale(results[0])
        require(apart <= kit.TOLERANCE, f"of {where} a result that is {apart:.1e} of its extent apart")


def new_points_are_placed(reducer: Reducer) -> None:
    """`transform` returns float32 (n, n_components) for new vectors, and the same each time.

    It does not change the fit.
    """
    if reducer.draws_only():
        return
    fitted = kit.rebuilt(reducer)
    fitted.fit(sample(), _labels(reducer))
    before = {name: array.copy() for name, array in fitted.state().items()}
    first = _checked(fitted, fitted.transform(sample(7, seed=1)), 7)
    again = _checked(fitted, fitted.transform(sample(7, seed=1)), 7)
    apart = float(np.abs(first - again).max()) / _scale(first)
    require(apart <= kit.TOLERANCE, f"the same vectors were placed {apart:.1e} of their extent apart")
    changed = [name for name, array in fitted.state().items() if not np.array_equal(array, before[name])]
    require(not changed, f"transform changed {', '.join(changed)}")


def new_points_land_among_their_like(reducer: Reducer) -> None:
    """Most new vectors are placed nearer to fitted ones of their own cluster than to others."""
    if reducer.draws_only():
        return
    fitted = kit.rebuilt(reducer)
    placed = fitted.fit_transform(sample(), _labels(reducer))
    new = fitted.transform(sample(30, seed=1))
    centres = np.stack([placed[group::3].mean(axis=0) for group in range(3)])
    nearest = np.linalg.norm(new[:, None] - centres, axis=2).argmin(axis=1)
    share = float(np.mean(nearest == np.arange(30) % 3))
    require(share >= 0.6, f"{share:.0%} of new vectors lie nearest to their own of three groups")


def dimensions_are_as_asked(reducer: Reducer) -> None:
    """The result has `n_components` dimensions, or a UsageError says that it cannot."""
    for count in (1, 2, 3):
        try:
            other = kit.rebuilt(reducer, n_components=count)
            _checked(other, other.fit_transform(sample(), _labels(reducer)), 60)
        except UsageError:
            continue


def every_metric_is_taken(reducer: Reducer) -> None:
    """`metric` may be any with a Euclidean form, such as `cosine` or `hellinger`; see `imgrec.as_euclidean`."""
    taken = []  # hamming, say, is of bits alone
    for metric in names_with_form():
        with contextlib.suppress(UsageError):
            metric_of(metric).check(sample())
            taken.append(metric)
    for metric in taken:
        other = kit.rebuilt(reducer, metric=metric)
        _checked(other, other.fit_transform(sample(), _labels(reducer)), 60)


def few_points_are_enough(reducer: Reducer) -> None:
    """With fewer points than neighbours to consider, fewer neighbours are used instead of raising an error."""
    count = max(FEW, reducer.n_components + 3)
    few = kit.rebuilt(reducer)
    _checked(few, few.fit_transform(sample(count), _labels(reducer, count)), count)


def too_few_points_are_told(reducer: Reducer) -> None:
    """Too few points raise a UsageError, and no other exception, that says how many are needed."""
    for count in (0, 1, 2):
        few = kit.rebuilt(reducer)
        try:
            _checked(few, few.fit_transform(sample(count), _labels(reducer, count)), count)
        except UsageError:
            continue
        except kit.SeenError as seen:
            raise kit.SeenError(f"of {count} points: {seen}") from None
        except Exception as error:
            raise kit.SeenError(f"{type(error).__name__} for {count} points: {error}") from error


def state_is_plain_arrays(reducer: Reducer) -> None:
    """`state` is a dictionary of arrays that can be saved without pickle.

    After `restore`, a new reducer places new vectors where the first one does, to a hundredth of the extent.
    """
    if reducer.draws_only():
        return
    fitted = kit.rebuilt(reducer)
    placed = fitted.fit_transform(sample(), _labels(reducer))
    state: Any = fitted.state()
    require(isinstance(state, dict), f"state is a {type(state).__name__}")
    for name, array in state.items():
        is_plain = isinstance(array, np.ndarray) and not array.dtype.hasobject
        form = f"array of {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
        require(is_plain, f"{name} is an {form}, which only pickle can save")
    file = io.BytesIO()
    np.savez(file, **state)
    file.seek(0)
    with np.load(file, allow_pickle=False) as saved:
        empty = kit.rebuilt(reducer)
        restored: object = empty.restore({name: saved[name] for name in saved.files})
    require(restored is empty, f"restore returned {type(restored).__name__}, not the reducer itself")
    one, other = fitted.transform(sample(7, seed=1)), empty.transform(sample(7, seed=1))
    apart = float(np.abs(one - other).max()) / _scale(placed)
    require(
        apart <= 0.01, f"new vectors are placed {apart:.1e} of the extent from where the first reducer has them"
    )


def report_is_numbers(reducer: Reducer) -> None:
    """`report` is a dictionary of finite numbers by name, possibly empty, and the same after `restore`."""
    if reducer.draws_only():
        return
    fitted = kit.rebuilt(reducer).fit(sample(), _labels(reducer))
    report: Any = fitted.report()
    numbers = isinstance(report, dict) and all(isinstance(name, str) for name in report)
    require(numbers and all(type(value) in (int, float) for value in report.values()), f"{report!r}")
    require(np.isfinite(list(report.values())).all(), f"{report!r}")
    again = kit.rebuilt(reducer).restore(fitted.state()).report()
    require(again == report, f"{report!r}, and after restore {again!r}")


def vectors_stay_as_they_are(reducer: Reducer) -> None:
    """The vectors and labels passed in are not modified."""
    given, new = sample(), sample(5, seed=1)
    fitted = kit.rebuilt(reducer)
    labels = ["abc"[i % 3] for i in range(60)]
    if not reducer.draws_only():
        kit.rebuilt(reducer).fit(given, labels)
    fitted.fit_transform(given, _labels(reducer))
    require(labels == ["abc"[i % 3] for i in range(60)], "the labels were changed")
    if not reducer.draws_only():
        fitted.transform(new)
    require(np.array_equal(given, sample()) and np.array_equal(new, sample(5, seed=1)), "they were changed")


def options_come_through_yaml(reducer: Reducer) -> None:
    """Options are unchanged after a round trip through YAML."""
    kit.check_options(reducer)


def module_is_light(reducer: Reducer) -> None:
    """Importing the module and building the reducer imports no heavy library before its first use."""
    kit.check_light(reducer)


CHECKS = tuple(
    map(
        Check,
        (
            result_is_a_matrix,
            fit_returns_the_reducer,
            labels_are_asked_for,
            the_seed_decides,
            new_points_are_placed,
            new_points_land_among_their_like,
            dimensions_are_as_asked,
            every_metric_is_taken,
            few_points_are_enough,
            too_few_points_are_told,
            state_is_plain_arrays,
            report_is_numbers,
            vectors_stay_as_they_are,
            options_come_through_yaml,
            module_is_light,
        ),
    )
)
