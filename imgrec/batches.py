"""Iterables split into lists of a few items."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter; like `itertools.batched` of Python 3.12, but lists.

    >>> list(chunks("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def groups(items: Iterable[T], size: int, weight: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Lists of at most `size` items that weigh at most `most` together; a heavier item has a list to itself.

    >>> list(groups([1, 1, 1, 9, 1], 2, weight=abs, most=3))
    [[1, 1], [1], [9], [1]]
    """
    group: list[T] = []
    total = 0
    for item in items:
        added = weight(item)
        if group and total + added > most:
            yield group
            group, total = [], 0
        group.append(item)
        total += added
        if len(group) == size or total >= most:
            yield group
            group, total = [], 0
    if group:
        yield group
