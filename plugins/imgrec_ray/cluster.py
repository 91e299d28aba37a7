"""The processes of a cluster, as the process of the ingest sees them."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import imgrec
from imgrec import Extractor, Space
from imgrec_ray.joining import join
from imgrec_ray.worker import Worker

log = logging.getLogger(__name__)

In = TypeVar("In")
Out = TypeVar("Out")

ATTEMPTS = 2
"""How often files are given to a process together, and then each alone, before they are given up."""

AHEAD = 2
"""Chunks of things that are in work for each process, or wait for it."""

WAITS = 30
"""Seconds without any process after which a line says so."""


class LostError(Exception):
    """A process ended before it answered, or a node did that had what it was given."""


class Cluster:
    """Equal processes, each of which does one thing of a kind at a time. One that ends is replaced by another."""

    def __init__(self, num_cpus: int, num_gpus: float) -> None:
        self._num_cpus, self._num_gpus = num_cpus, num_gpus
        self._free: dict[str, queue.SimpleQueue[Any]] = {
            "read": queue.SimpleQueue(),
            "extract": queue.SimpleQueue(),
        }
        self._lock = threading.Lock()
        self._actors: list[Any] = []
        self._lost = Counter[str]()
        self._pools: list[ThreadPoolExecutor] = []
        self._membership = contextlib.ExitStack()
        self._is_open, self._has_started = True, False
        self._count = 0

    def open(self, address: str | None, extractors: Mapping[Space, Extractor], actors: int | None) -> None:
        """Join a cluster, or start one, and start its processes.

        Raises:
            UsageError: there is no cluster, or it has no room for a single process.
        """
        self._membership = join(address, self._num_cpus * (actors or 1), has_gpus=self._num_gpus > 0)
        import ray

        room = self._room()
        if not room:
            asked = f"{self._num_cpus} cores and {self._num_gpus:g} GPUs"
            raise imgrec.UsageError(f"engine=ray finds no machine with {asked} for a process in the cluster")
        self._count = actors or room
        plugins = os.environ.get("IMGREC_PLUGINS")
        self._make = ray.remote(
            num_cpus=self._num_cpus,
            num_gpus=self._num_gpus,
            concurrency_groups=dict.fromkeys(self._free, 1),
            runtime_env={"env_vars": {"IMGREC_PLUGINS": plugins}} if plugins else None,
        )(Worker)
        # Referred to until the end: a process that is started later needs them too.
        self._arguments = [ray.put(dict(extractors)), self._num_cpus, str(Path.cwd())]
        with self._lock:
            for _ in range(self._count):
                self._start()

    def _room(self) -> int:
        """How many processes the machines of the cluster have room for."""
        import ray

        rooms = []
        for machine in ray.nodes():
            has = machine["Resources"] if machine["Alive"] else {}
            cores, gpus = has.get("CPU", 0) // self._num_cpus, has.get("GPU", 0)
            rooms.append(min(cores, gpus // self._num_gpus) if self._num_gpus else cores)
        return int(sum(rooms))

    def _start(self) -> None:
        actor = self._make.remote(*self._arguments)
        self._actors.append(actor)
        actor.check.remote().future().add_done_callback(functools.partial(self._started, actor))

    def _started(self, actor: Any, _: object) -> None:
        """Hand it out, also if it failed, for whoever takes it to find out."""
        self._has_started = True
        for free in self._free.values():
            free.put(actor)

    def ahead(
        self,
        work: Callable[[list[In]], list[Out]],
        chunks: Iterable[list[In]],
        weight: Callable[[In], int],
        most: int,
    ) -> Iterator[Out]:
        """What becomes of chunks of things, in order; a thread waits for each that is in work.

        Args:
            work: asks the processes.
            chunks: iterated over in the caller's thread, a few for each process ahead.
            weight: of a thing.
            most: the usual weight of a chunk; heavier ones are in work with fewer others.
        """
        limit = AHEAD * self._count
        self._pools.append(pool := ThreadPoolExecutor(limit))
        for found in imgrec.ahead(pool, work, chunks, limit, lambda chunk: sum(map(weight, chunk)), limit * most):
            yield from found

    def ask(self, method: str, *arguments: Any, num_returns: int = 1) -> list[Any]:
        """What a process answers that is free for a method, `read` or `extract`.

        Of several values only the first is fetched; the others are references to them.

        Raises:
            LostError: the process ended meanwhile.
            ImgrecError: it failed; or one process after the other ended.
        """
        import ray

        actor = self._taken(method)
        ask = getattr(actor, method).options(concurrency_group=method, num_returns=num_returns)
        try:
            answer = ask.remote(*arguments)
            first, *others = answer if num_returns > 1 else [answer]
            first = ray.get(first)
        except ray.exceptions.RayTaskError as error:
            self._free[method].put(actor)
            if isinstance(error.cause, ray.exceptions.RayError):  # an argument was lost
                raise LostError from error
            raise error.cause from None
        except ray.exceptions.RayError as error:
            self._replace(actor, method, error)
            raise LostError from error
        self._free[method].put(actor)
        self._lost[method] = 0
        return [first, *others]

    def _taken(self, method: str) -> Any:
        """A process that is free for a method, and alive."""
        import ray

        while True:
            try:
                actor = self._free[method].get(timeout=WAITS)
            except queue.Empty:
                if not self._has_started:
                    log.warning("engine=ray waits for the cluster to have room for a process")
                continue
            if actor is None:
                self._free[method].put(None)  # for the next one who waits
                raise imgrec.ImgrecError("engine=ray was closed")
            try:
                ray.get(actor.check.options(concurrency_group=method).remote())
            except ray.exceptions.RayTaskError as error:
                self._free[method].put(actor)
                raise error.cause from None
            except ray.exceptions.RayError as error:
                self._replace(actor, method, error)
                continue
            return actor

    def _replace(self, actor: Any, method: str, error: Exception) -> None:
        """Start another process in the place of one that ended, unless that was done.

        Raises:
            ImgrecError: that was done too often.
        """
        with self._lock:
            if self._is_open and actor in self._actors:
                self._actors.remove(actor)
                self._start()
            self._lost[method] += 1
            if self._lost[method] > 4 * (self._count + 1):
                why = str(error).splitlines()[0]
                raise imgrec.ImgrecError(
                    f"the processes of engine=ray end one after the other: is memory short? {why}"
                ) from error

    def surely(
        self, ask: Callable[[Sequence[In]], list[Out]], things: Sequence[In], give_up: Callable[[In], Out]
    ) -> list[Out]:
        """What is answered for some things; if that ends each process, it is asked for each of them alone.

        Args:
            ask: it may raise a LostError.
            things: in their order.
            give_up: the answer for a single one that ends each process.
        """
        for _ in range(ATTEMPTS):
            try:
                return ask(things)
            except LostError as error:
                log.debug("engine=ray asks again", exc_info=error)
        if len(things) == 1:
            return [give_up(things[0])]
        return [answer for thing in things for answer in self.surely(ask, [thing], give_up)]

    def close(self) -> None:
        """End the processes at once, and what was started to have them."""
        import ray

        with self._lock:
            self._is_open = False
        for free in self._free.values():
            free.put(None)
        for actor in self._actors:
            ray.kill(actor)
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)
        self._membership.close()
