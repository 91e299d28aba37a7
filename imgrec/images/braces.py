"""Ranges in braces, as in a shell: `shard-{0000..0099}.tar` is a hundred paths."""

from __future__ import annotations

import re
from itertools import chain, product

from imgrec.errors import UsageError

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}", re.ASCII)

MOST = 1_000_000
"""Paths that one may stand for."""


def expanded(path: str) -> list[str]:
    """The paths that a path with ranges stands for, in their order; without any, itself.

    Raises:
        UsageError: they are too many.

    >>> expanded("s3://photos/{1..2}/shard-{08..10}.tar")[:4]
    ['s3://photos/1/shard-08.tar', 's3://photos/1/shard-09.tar', 's3://photos/1/shard-10.tar',
     's3://photos/2/shard-08.tar']
    >>> expanded("/photos/{a,b}")
    ['/photos/{a,b}']
    """
    texts = RANGE.split(path)[::3]
    ranges = [(first, range(int(first), int(last) + 1)) for first, last in RANGE.findall(path)]
    count = 1
    for _, numbers in ranges:
        count *= len(numbers)
    if not 0 < count <= MOST:
        raise UsageError(f"{path!r} stands for {count:,} paths: between 1 and {MOST:,} are taken")
    written = ([f"{number:0{len(first)}}" for number in numbers] for first, numbers in ranges)
    return ["".join(chain(*zip(texts, (*some, ""), strict=True))) for some in product(*written)]
