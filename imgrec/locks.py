"""Exclusive locks of writers, across processes.

They are the operating system's, by `filelock`: a lock is released when its process ends, however it ends, and a
file that a killed process leaves behind blocks nobody.
"""

from __future__ import annotations

import contextlib
import errno
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
from typing import TYPE_CHECKING

from imgrec.errors import UsageError

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)

LONGEST_COMMAND = 200
"""Characters of a command that a message shows."""

MOST_REMOVALS = 100
"""How often in a row the file may vanish before giving up."""

_of_thread = threading.local()


@contextlib.contextmanager
def only_writer(file: Path, of: str) -> Iterator[None]:
    """Hold the exclusive lock of writers, across processes and threads; re-entrant in a thread.

    Waits for another holder, which a line on stderr names.

    Args:
        file: the lock file. It says who holds the lock, and is removed on release.
        of: what is written to, for messages.

    Raises:
        UsageError: the file cannot be created.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, only_writer(Path(folder, "a.lock"), "a"):
    ...     json.loads(Path(folder, "a.lock").read_text())["process"] == os.getpid()
    True
    """
    held: set[str] = _of_thread.__dict__.setdefault("held", set())
    name = os.path.realpath(file)
    if name in held:
        yield
        return
    lock = _acquired(file, of)
    held.add(name)
    try:
        yield
    finally:
        held.discard(name)
        if lock.is_locked:  # not in a forked process
            with contextlib.suppress(OSError):  # on Windows only filelock can remove it
                file.unlink()  # before the release, so that waiters see that it was replaced
        lock.release()


def _acquired(file: Path, of: str) -> BaseFileLock:
    """Acquire the lock, and write its holder into the file."""
    import filelock

    holder, removals = "", 0

    def say_who() -> bool:
        nonlocal holder, removals
        if (who := _who(file)) not in ("", holder):
            log.warning("waiting to write to %s: %s", of, who)
            holder = who
        removals = 0
        return False

    def sign(handle: int) -> None:
        if not os.path.samestat(file.stat(), os.fstat(handle)):  # filelock checks it too, but not on NFS
            raise FileNotFoundError(errno.ENOENT, "Removed meanwhile")
        os.ftruncate(handle, 0)
        os.write(handle, b" " + json.dumps(_holder()).encode())

    lock = filelock.FileLock(file, thread_local=False, on_acquired=sign)
    while True:
        try:
            lock.acquire(cancel_check=say_who)
            return lock
        except OSError as error:
            removals += 1
            if not isinstance(error, FileNotFoundError) or removals == MOST_REMOVALS:
                raise UsageError(f"{of} cannot be written: {error.strerror}: {file}") from None


def _holder() -> dict[str, object]:
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "command": " ".join(shlex.join(sys.orig_argv).split())[:LONGEST_COMMAND],
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _who(file: Path) -> str:
    """The holder of a lock, from its file; empty if not written yet.

    Raises:
        FileNotFoundError: the lock was released.
    """
    try:
        with file.open("rb", buffering=0) as handle:
            handle.seek(1)  # the first byte, a space, is locked to others on Windows
            text = handle.read()
    except PermissionError:
        text = b""
    if not text:
        return ""
    try:
        return "process {process} on {host} is, since {since}: {command}".format(**json.loads(text))
    except (ValueError, KeyError, TypeError):
        return "another run is"
