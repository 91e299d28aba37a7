"""Threads for what takes longer than a request, which end with the process whatever they do."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Worker:
    """Does one thing after the other in a thread of its own, which Ctrl-C does not wait for."""

    def __init__(self, name: str) -> None:
        self._waiting = queue.SimpleQueue[Callable[[], object]]()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def submit(self, work: Callable[[], object]) -> None:
        """Do it when all before is done; what it raises is told on stderr."""
        self._waiting.put(work)

    def _work(self) -> None:
        while True:
            work = self._waiting.get()
            try:
                work()
            except Exception:
                log.exception("what was done beside the requests has failed")
