from __future__ import annotations

import copy
import dataclasses
import pickle
import threading
import typing
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import imgrec
from imgrec import registry
from imgrec.errors import UsageError
from imgrec.kinds import KINDS, Component
from imgrec.options import allowed_types, option, type_hints

NOT_FINITE = (float("nan"), float("inf"), -float("inf"))


def numeric(hint: Any) -> bool:
    """Whether an option may hold numbers: itself, or in a list or a mapping, also of anything."""
    kinds = allowed_types(hint)
    inside = {each for kind in kinds if typing.get_origin(kind) in (list, dict) for each in typing.get_args(kind)}
    return bool({int, float}.intersection(kinds) or {int, float, Any}.intersection(inside))


def numeric_options() -> Iterator[Any]:
    """Each option of each component and stage that may hold numbers, as a case for a test."""
    for kind in KINDS.values():
        for name, cls in registry.classes(kind).items():
            for spec in dataclasses.fields(cls):
                if "group" not in spec.metadata and numeric(type_hints(cls)[spec.name]):
                    yield pytest.param(cls, spec, id=f"{kind.kind}-{name}-{spec.name}")


def has_range(spec: dataclasses.Field[Any]) -> bool:
    return any(spec.metadata.get(name) is not None for name in ("minimum", "maximum"))


def required(cls: type[Component], but: str) -> dict[str, Any]:
    """Values for the options without a default."""
    return {
        spec.name: None if "group" in spec.metadata else 1 if numeric(type_hints(cls)[spec.name]) else "x"
        for spec in dataclasses.fields(cls)
        if spec.name != but and spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
    }


def holding(hint: Any, value: float) -> list[Any]:
    """What an option of some type may be given with one number inside."""
    kinds = {typing.get_origin(kind) or kind for kind in allowed_types(hint)}
    return [
        *([value, np.float32(value)] if kinds & {int, float} else []),
        *([[0.5, value, 0.5], [0.5, np.float32(value), 0.5]] if list in kinds else []),
        *([{"a": value}, {"a": {"b": [1, value]}}] if dict in kinds else []),
    ]


@pytest.mark.parametrize(("cls", "spec"), list(numeric_options()))
def test_no_option_takes_a_number_that_is_not_finite(cls: type[Component], spec: dataclasses.Field[Any]) -> None:
    given = [each for value in NOT_FINITE for each in holding(type_hints(cls)[spec.name], value)]
    assert given
    for each in given:
        with pytest.raises(UsageError, match=rf"^{cls.title()}\.{spec.name}") as caught:
            cls(**{**required(cls, spec.name), spec.name: each})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("cls", "spec"), [each for each in numeric_options() if has_range(each.values[1])])
def test_no_option_takes_a_number_out_of_its_range(cls: type[Component], spec: dataclasses.Field[Any]) -> None:
    hint = type_hints(cls)[spec.name]
    for name, direction in (("minimum", -1), ("maximum", 1)):
        if (end := spec.metadata[name]) is not None:
            beyond = end + direction * (1 if int in allowed_types(hint) else abs(end) / 2 or 1e-9)
            is_list = any(typing.get_origin(kind) is list for kind in allowed_types(hint))
            with pytest.raises(UsageError, match=f"at {'least' if direction < 0 else 'most'} {end}"):
                cls(**{**required(cls, spec.name), spec.name: [1.0, beyond, 1.0] if is_list else beyond})


@dataclasses.dataclass
class Lists(Component):
    numbers: list[float] | None = option(None, minimum=1e-6)
    names: list[str] = option([])


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([0, 0, 0], r"lists.numbers\[0\] is at least 1e-06, not 0"),
        ([0.5, -1, 0.5], r"lists.numbers\[1\] is at least 1e-06, not -1"),
        ([0.5, "a"], r"lists.numbers\[1\] takes float, not 'a'"),
        ([True], r"lists.numbers\[0\] takes float, not True"),
        ([[0.5, float("nan")]], r"lists.numbers\[0\]\[1\] is a finite number, not nan"),
    ],
)
def test_lists_are_checked_value_by_value(numbers: list[Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Lists(numbers=numbers)


def test_lists_stay_as_they_are_given() -> None:
    """Whole numbers do not become others: an option may be part of a space."""
    made = Lists(numbers=[1, 0.5], names=["nan"])
    assert (made.numbers, made.names) == ([1, 0.5], ["nan"])
    assert list(map(type, made.numbers or [])) == [int, float]


def test_a_component_is_pickled_as_its_options() -> None:
    fusion = imgrec.Fusion({"colour": 1}, {"colour": imgrec.build("extractor", "colour", bins=3)})
    loaded = threading.Lock()  # as a model is, it cannot be pickled
    fusion.loaded = fusion.parts["colour"].loaded = loaded  # type: ignore[attr-defined]
    for made in (pickle.loads(pickle.dumps(fusion)), copy.deepcopy(fusion)):
        assert made == fusion
        assert not any(hasattr(each, "loaded") for each in (made, *made.parts.values()))
