from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from imgrec.threads import ahead, cores, each


def test_ahead_keeps_order_and_bounds_what_waits() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    with ThreadPoolExecutor(4) as pool:
        results = ahead(pool, lambda i: i * i, items(), limit=5)
        assert next(results) == 0
        assert len(taken) <= 5
        assert list(results) == [i * i for i in range(1, 100)]


def test_each_keeps_order_and_works_on_all_cores_at_once() -> None:
    together = threading.Barrier(cores(), timeout=30)

    def meet(i: int) -> int:
        together.wait()
        return -i

    assert each(meet, range(2 * cores())) == [-i for i in range(2 * cores())]


def test_errors_of_a_thread_are_the_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        each(lambda i: 1 // i, [1, 0])
