"""Work in threads, which is parallel since OpenCV, Pillow, NumPy and the runtimes release the GIL."""

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
    """How many CPU cores this process may use, which a container, `taskset` or `OMP_NUM_THREADS` may limit."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # after a comma it is about nested threads
    return min(there, int(asked)) if asked.isdecimal() and int(asked) else there


def ahead(
    pool: Executor,
    function: Callable[[In], Out],
    items: Iterable[In],
    limit: int,
    weight: Callable[[In], int] = lambda _: 0,
    most: int = 0,
) -> Iterator[Out]:
    """`map` in a pool, in order; at most `limit` results of total weight `most` are pending, to bound memory.

    An item that weighs more runs alone: nothing else is pending until its result has been taken. `items` is
    iterated over in the caller's thread.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as pool:
    ...     list(ahead(pool, abs, [-1, -2, -3], limit=2))
    [1, 2, 3]
    """
    waiting: deque[tuple[Future[Out], int]] = deque()
    total = 0
    try:
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
    finally:
        for future, _ in waiting:  # after Ctrl-C, say, the pool has not to wait for what nobody takes
            future.cancel()


def _result(future: Future[Out]) -> Out:
    """A future's result, waited for in steps, since Ctrl-C does not always interrupt a wait.

    It does not if the system delivers the signal to another thread, or just before the wait begins.
    """
    while not future.done():
        wait([future], timeout=0.5)
    return future.result()


def each(function: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
    """Apply a function to each item, on all cores: for extractors, to the images of a batch.

    The function must not call `each` itself.

    >>> each(abs, [-1, -2, -3])
    [1, 2, 3]
    """
    return list(_shared_pool().map(function, items))


@functools.cache
def _shared_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores(), thread_name_prefix="imgrec")
