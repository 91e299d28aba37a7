"""The memory that this process has held at most."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path

STATUS, REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak() -> int:
    """The most bytes that this process has held, since it began or since `forget_peak`.

    Linux tells its own; `getrusage` begins with what the parent had, in kilobytes there and in bytes on macOS.
    """
    if STATUS.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text())):
        return 1024 * int(found[1])
    import resource  # Windows has none

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> bool:
    """Begin anew with what this process holds now; False where the system has no such thing: only Linux has.

    >>> forget_peak() == REFS.exists()
    True
    """
    with contextlib.suppress(OSError):
        REFS.write_text("5")  # man 5 proc, /proc/pid/clear_refs
        return True
    return False
