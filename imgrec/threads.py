"""Work in threads, which pays since OpenCV, Pillow, NumPy and the runtimes release Python's lock."""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def cores() -> int:
    """How many this process may use: fewer than the machine has where a container or `taskset` says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ahead(
    pool: Executor,
    function: Callable[[In], Out],
    items: Iterable[In],
    limit: int,
    weight: Callable[[In], int] = lambda _: 0,
    most: int = 0,
) -> Iterator[Out]:
    """`map` in a pool, in order, while at most `limit` results wait that weigh at most `most`: memory is bounded.

    What weighs more by itself is alone: begun when nothing waits any more, and nothing is begun until its result
    has been taken. Items are taken from `items` in the caller's thread.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as pool:
    ...     list(ahead(pool, abs, [-1, -2, -3], limit=2))
    [1, 2, 3]
    """
    waiting: deque[tuple[Future[Out], int]] = deque()
    total = 0
    for item in items:
        total += (added := weight(item))
        while waiting and total > most:
            future, done = waiting.popleft()
            total -= done
            yield _result(future)
        waiting.append((pool.submit(function, item), added))
        while waiting and (len(waiting) >= limit or total > most):
            future, done = waiting.popleft()
            total -= done
            yield _result(future)
    while waiting:
        yield _result(waiting.popleft()[0])


def _result(future: Future[Out]) -> Out:
    """A future's result, waited for in steps: Ctrl-C is handled between them even where it does not end a wait.

    It does not where the system hands the signal to another thread, or just before the wait begins.
    """
    while not future.done():
        wait([future], timeout=0.5)
    return future.result()


def each(function: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
    """What a function makes of each item, on all cores: for an extractor to spread a batch of images.

    The function must not call `each` itself.

    >>> each(abs, [-1, -2, -3])
    [1, 2, 3]
    """
    return list(_shared_pool().map(function, items))


@functools.cache
def _shared_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores(), thread_name_prefix="imgrec")
