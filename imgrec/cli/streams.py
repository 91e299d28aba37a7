"""Standard streams that are closed or full, as scripts and cron jobs may leave them, cost no result."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def open_closed() -> None:
    """Open what is closed of stdin, stdout and stderr on the null device, and let stderr fail silently.

    Left closed, the number of one would go to the next file that is opened, and what libraries print into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest number that is free: this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - as long as we run
    encoding = sys.stderr.encoding
    remarks = _Remarks(sys.stderr.detach(), encoding, "surrogateescape", line_buffering=True)  # type: ignore[union-attr]
    sys.stderr = sys.__stderr__ = remarks  # type: ignore[misc]


class _Remarks(io.TextIOWrapper):
    """Stderr on which what cannot be written, to a full disk say, is lost, and the run goes on."""

    def write(self, text: str) -> int:
        with _only_broken_pipes():
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with _only_broken_pipes():
            super().flush()


@contextlib.contextmanager
def _only_broken_pipes() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError:
        pass


def drop_results() -> None:
    """Send what stdout still holds to the null device, so that Python does not fail on it when it ends."""
    with contextlib.suppress(AttributeError, OSError):  # in a test it may be no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
