"""Who writes takes turns, across processes. A lock ends with the process that holds it, however that ends.

Locks are the system's (`flock`): a file that a killed process leaves behind holds up nobody. Where the system has
none (Windows), nobody waits.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from imgrec.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

LONGEST_COMMAND = 200
"""Characters of a command that a line shows."""

_of_thread = threading.local()


@contextlib.contextmanager
def only_writer(file: Path, of: str) -> Iterator[None]:
    """Be the only writer of something, of all processes and threads; a thread may nest it.

    Where another one is, a line on stderr says who, and it is waited for.

    Args:
        file: what stands for the lock. It says who holds it, and is removed in the end.
        of: what is written to, for messages.

    Raises:
        UsageError: the file cannot be made.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, only_writer(Path(folder, "a.lock"), "a"):
    ...     json.loads(Path(folder, "a.lock").read_text())["process"] == os.getpid()
    True
    """
    held: set[str] = _of_thread.__dict__.setdefault("held", set())
    name = os.path.realpath(file)
    if fcntl is None or name in held:
        yield
        return
    with _acquired(file, of) as handle:
        held.add(name)
        try:
            yield
        finally:
            held.discard(name)
            with contextlib.suppress(OSError):
                file.unlink()  # while it is ours; who waits for it then sees that it is no longer the one
            fcntl.flock(handle, fcntl.LOCK_UN)  # also for a forked process that has inherited it


def _acquired(file: Path, of: str) -> IO[str]:
    """The file, locked, and the holder written into it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        told = None
        while True:
            handle = file.open("a+", encoding="utf-8")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if (who := _who(handle)) != told:
                    log.warning("waiting to write to %s: %s", of, who)
                    told = who
                fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_still(file, handle):
                break
            handle.close()
        handle.truncate(0)
        json.dump(_holder(), handle)
        handle.flush()
    except OSError as error:
        raise UsageError(f"{of} cannot be written: {error.strerror}: {file}") from None
    return handle


def _is_still(file: Path, handle: IO[str]) -> bool:
    """Whether a file opened is the one of its name, not one that was removed meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(file.stat(), os.fstat(handle.fileno()))
    return False


def _holder() -> dict[str, object]:
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "command": " ".join(shlex.join(sys.orig_argv).split())[:LONGEST_COMMAND],
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _who(handle: IO[str]) -> str:
    """Who holds a lock, from its file."""
    handle.seek(0)
    try:
        return "process {process} on {host} is, since {since}: {command}".format(**json.load(handle))
    except (ValueError, KeyError, TypeError):  # it is about to say so
        return "another run is"


@contextlib.contextmanager
def turn(file: Path, *, alone: bool) -> Iterator[None]:
    """Be inside while nobody is who is there alone; alone: while nobody else is at all. For short work.

    Who is not alone makes no file, and waits for nobody where there is none: a reader of a read-only medium.

    Args:
        file: what stands for the lock; it stays.
        alone: nobody else shall be inside.
    """
    try:
        handle = file.open("a" if alone else "r")
    except FileNotFoundError:  # nobody has written here
        yield
        return
    with handle:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
