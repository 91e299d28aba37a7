"""Captures what decoders warn of, for each thread: Python's warnings of Pillow, and what is noted here."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

# The last filter takes precedence: sizes are checked in `decoding`, so Pillow need not warn of them.
warnings.filterwarnings("always", module=r"PIL\b")
warnings.filterwarnings("ignore", message=r"Image size \(\d+ pixels\) exceeds limit of")

MOST = 3
"""Notes that are kept of a file: libtiff has one for each line of a fax."""

_of_thread = threading.local()
_changing = threading.Lock()
_before = warnings.showwarning


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """Capture the warnings of this thread, unshown; `warnings.catch_warnings` is not thread-safe."""
    global _before
    with _changing:
        if warnings.showwarning is not _show:  # other code has replaced it since
            _before, warnings.showwarning = warnings.showwarning, _show
    outer, found = getattr(_of_thread, "heard", None), list[str]()
    _of_thread.heard = found
    try:
        yield found
    finally:
        _of_thread.heard = outer


def note(warning: str) -> None:
    """Warn of damage in the file that this thread decodes: to whoever captures, else by Python's own means."""
    found: list[str] | None = getattr(_of_thread, "heard", None)
    if found is None:
        warnings.warn(warning, stacklevel=2)
    elif warning not in found and len(found) < MOST:
        found.append(warning)


def _show(message: Warning | str, *others: Any, **named: Any) -> None:
    found: list[str] | None = getattr(_of_thread, "heard", None)
    if found is None:
        _before(message, *others, **named)
    else:
        found.append(" ".join(str(message).split()))
