"""Extracts in several processes, for extractors whose Python code holds the GIL."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import imgrec

_extractors = {}


@dataclass
class Parallel(imgrec.Engine):
    """Processes of this machine, which decode and extract, each with its own extractors."""

    name = "parallel"
    workers: int | None = imgrec.option(None, minimum=1, help="processes; null: one a core")

    def __post_init__(self):
        super().__post_init__()
        self._pool = None

    def open(self, extractors):
        """Start the processes, each with the extractors."""
        context = multiprocessing.get_context("spawn")  # forking a process with threads may deadlock
        workers = self.workers or imgrec.cores()
        self._pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(extractors,))
        return self

    def read(self, files):
        """Read in this process, as reading is mostly waiting for the disk."""
        return map(imgrec.read_item, files)

    def extract(self, items, batch_size):
        """Decode and extract whole batches in the same process."""
        batches = imgrec.groups(items, batch_size, imgrec.Item.memory, self.planned_bytes)
        most = 2 * (self.workers or imgrec.cores())
        try:
            yield from imgrec.ahead(self._pool, _extract, batches, most, _memory, 256_000_000)
        except BrokenProcessPool:
            raise imgrec.ImgrecError("a process of engine=parallel has ended: was memory short?") from None

    def close(self, *, at_once=False):
        """End the processes; at once: in the middle of what they are at."""
        if self._pool:
            self._pool.shutdown(wait=not at_once, cancel_futures=True)
            for process in multiprocessing.active_children() if at_once else ():
                process.terminate()
        self._pool = None


def _memory(items):
    return sum(item.memory() for item in items)


def _start(extractors):
    _extractors.update(extractors)


def _extract(items):
    return imgrec.extract_items(_extractors, items)


@imgrec.hookimpl
def imgrec_components():
    """The components of this plugin."""
    return [Parallel]
