"""Conformance checks for plugins: one call in a plugin's own tests.

    import imgrec
    from imgrec.testing import check_extractor

    def test_foo_keeps_the_contract():
        check_extractor(imgrec.build("extractor", "foo"))

There is one such function for each kind, `check_store` and so on, in a module named after the kind. The docstring
of every check states the contract; a failure reports it and what was seen.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from imgrec.kinds import KINDS
from imgrec.testing.kit import HEAVY, Check, ContractError, write_pictures

__all__ = ["HEAVY", "Check", "ContractError", "checks", "write_pictures"]

_PREFIX = "check_"


def checks(kind: str) -> Sequence[Check[Any]]:
    """The checks for plugins of a kind.

    >>> [check.name for check in checks("reranker")][:2]
    ['result_is_a_vector', 'one_neighbour_is_enough']
    """
    found: Sequence[Check[Any]] = importlib.import_module(f"{__name__}.{kind}").CHECKS
    return found


def __getattr__(name: str) -> Callable[..., None]:
    kind = name.removeprefix(_PREFIX)
    if name.startswith(_PREFIX) and kind in KINDS:
        module = importlib.import_module(f"{__name__}.{kind}")
        vars(module)["__tracebackhide__"] = True  # see `kit.run`
        check: Callable[..., None] = getattr(module, name)
        return check
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
