from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgrec.batches import groups
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


def test_ahead_bounds_the_weight_of_what_waits_and_leaves_the_heavy_alone() -> None:
    weights = [1, 2, 3, 1, 50, 1, 3, 50, 50, 2, 1, 1]
    under_way: list[int] = []  # taken, and its result not yet asked for
    heaviest: list[int] = []

    def items() -> Iterator[int]:
        yield from range(len(weights))

    def begin(i: int) -> int:
        under_way.append(i)
        heaviest.append(sum(weights[each] for each in under_way))
        return i

    with ThreadPoolExecutor(1) as pool:
        order = []
        for i in ahead(pool, begin, items(), 5, weights.__getitem__, 5):
            order.append(i)
            under_way.remove(i)
    assert order == list(range(len(weights)))
    assert set(heaviest) <= {*range(6), 50}
    assert heaviest.count(50) == 3


@given(st.lists(st.integers(0, 20)), st.integers(1, 5))
def test_groups_keep_order_within_size_and_weight(weights: list[int], size: int) -> None:
    made = list(groups(weights, size, weight=abs, most=10))
    assert [each for group in made for each in group] == weights
    assert all(1 <= len(group) <= size and (sum(group) <= 10 or len(group) == 1) for group in made)


def test_each_keeps_order_and_works_on_all_cores_at_once() -> None:
    together = threading.Barrier(cores(), timeout=30)

    def meet(i: int) -> int:
        together.wait()
        return -i

    assert each(meet, range(2 * cores())) == [-i for i in range(2 * cores())]


@pytest.mark.parametrize(("asked", "there"), [("1", 1), ("1,2", 1), ("0", None), ("many", None), ("9999", None)])
def test_cores_may_be_limited_as_for_openmp(
    monkeypatch: pytest.MonkeyPatch, asked: str, there: int | None
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    usual = cores()
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert cores() == (there or usual)


def test_errors_of_a_thread_are_the_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        each(lambda i: 1 // i, [1, 0])


LOST_SIGNAL = """
import signal, threading, time
from concurrent.futures import ThreadPoolExecutor
from imgrec.threads import ahead

def slow(seconds):
    time.sleep(0.3)  # the main thread waits by now
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    time.sleep(seconds)

pool = ThreadPoolExecutor(1)
try:
    list(ahead(pool, slow, [60], limit=1))
except KeyboardInterrupt:
    print("heard", flush=True)
    import os; os._exit(0)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals go to processes here")
def test_ctrl_c_is_heard_even_where_the_system_hands_it_to_another_thread() -> None:
    command = [sys.executable, "-c", LOST_SIGNAL]
    assert subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout == "heard\n"


def test_what_nobody_takes_is_not_begun() -> None:
    begun, may_end = list[int](), threading.Event()

    def items() -> Iterator[int]:
        yield from range(4)
        raise KeyboardInterrupt

    def work(item: int) -> None:
        begun.append(item)
        may_end.wait(10)

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            next(ahead(pool, work, items(), limit=9))
        may_end.set()
    assert begun in ([], [0])
