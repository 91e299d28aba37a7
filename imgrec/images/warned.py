"""What Pillow warns of while it reads a file, told apart by the thread that reads."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

# The last one counts first. Of sizes Pillow need not warn: they are judged in `decoding`.
warnings.filterwarnings("always", module=r"PIL\b")
warnings.filterwarnings("ignore", message=r"Image size \(\d+ pixels\) exceeds limit of")

_of_thread = threading.local()
_changing = threading.Lock()
_before = warnings.showwarning


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """The warnings of this thread, not shown meanwhile: `warnings.catch_warnings` is for one thread only."""
    global _before
    with _changing:
        if warnings.showwarning is not _show:  # somebody else has taken it since
            _before, warnings.showwarning = warnings.showwarning, _show
    _of_thread.heard = found = list[str]()
    try:
        yield found
    finally:
        _of_thread.heard = None


def _show(message: Warning | str, *others: Any, **named: Any) -> None:
    found: list[str] | None = getattr(_of_thread, "heard", None)
    if found is None:
        _before(message, *others, **named)
    else:
        found.append(" ".join(str(message).split()))
