"""Checks that hold a plugin to its contract: one call in a test of its own.

    import imgrec
    from imgrec.testing import check_extractor

    def test_foo_keeps_the_contract():
        check_extractor(imgrec.build("extractor", "foo"))

Every check has a name and says in a sentence what the contract is; a failure says that, and what was seen.
"""

from __future__ import annotations

from imgrec.testing.extractors import CHECKS as EXTRACTOR_CHECKS
from imgrec.testing.extractors import check_extractor
from imgrec.testing.kit import HEAVY, Check, ContractError
from imgrec.testing.reducers import CHECKS as REDUCER_CHECKS
from imgrec.testing.reducers import check_reducer
from imgrec.testing.rerankers import CHECKS as RERANKER_CHECKS
from imgrec.testing.rerankers import check_reranker
from imgrec.testing.stores import CHECKS as STORE_CHECKS
from imgrec.testing.stores import check_store

__all__ = [
    "EXTRACTOR_CHECKS",
    "HEAVY",
    "REDUCER_CHECKS",
    "RERANKER_CHECKS",
    "STORE_CHECKS",
    "Check",
    "ContractError",
    "check_extractor",
    "check_reducer",
    "check_reranker",
    "check_store",
]
