"""Maps of a store's galleries: those that are kept, and those that are made because somebody opens them."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from threadpoolctl import threadpool_limits

from imgrec import registry
from imgrec.drawing import map_file
from imgrec.drawing.map_file import MapFile
from imgrec.errors import ImgrecError, UsageError
from imgrec.kinds import Reducer
from imgrec.serving.galleries import Galleries, Which
from imgrec.serving.workers import Worker
from imgrec.threads import cores

log = logging.getLogger(__name__)

BETWEEN = "~"
"""Between the parts of a map's name: a space or fusion, and a reducer."""


@dataclass
class Making:
    """A map that is being made, or was not made because of an error."""

    what: str = "waiting"
    done: int = 0
    total: int = 0
    error: str | None = None

    @contextlib.contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Take note of how far a reducer is; see `kinds.component.Progress`."""
        self.what, self.done, self.total = description, 0, total

        def advance(count: int) -> None:
            self.done += count

        yield advance


class Maps:
    """Maps by name, `SPACE~REDUCER`. A map that is open stays so when the gallery changes, until it is made anew.

    Args:
        galleries: of the store.
    """

    def __init__(self, galleries: Galleries) -> None:
        self._galleries = galleries
        self._opened: dict[str, MapFile] = {}
        self._versions: dict[str, str] = {}
        """The gallery's version that an open map is of."""

        self._looked: dict[str, str] = {}
        """The gallery's version of which a map was last looked for."""

        self._making: dict[str, Making] = {}
        self._lock = threading.Lock()
        self._worker = Worker("imgrec-maps")

    def opened(self, name: str) -> MapFile:
        """A map that is there.

        Raises:
            UsageError: there can be no such map.
            KeyError: it has to be made first, or is being made.
        """
        self._look(name)
        return self._opened[name]

    def about(self, name: str) -> dict[str, Any]:
        """What is known of a map; JSON data.

        Raises:
            UsageError: there can be no such map.
        """
        space, reducer = parts(name)
        self._look(name)
        making, found = self._making.get(name), self._opened.get(name)
        state = "failed" if making and making.error else "making" if making else "made" if found else "absent"
        about: dict[str, Any] = {"map": name, "space": space, "reducer": reducer, "state": state}
        if making is not None:
            about |= {"progress": {"what": making.what, "done": making.done, "total": making.total}}
            about |= {"error": making.error} if making.error else {}
        if found is not None:
            kept = ("title", "count", "block", "labels", "rest", "frame", "fingerprint")
            about |= {key: found.about[key] for key in kept}
            about["is_outdated"] = self._versions.get(name) != self._galleries.now.version
        return about

    def make(self, name: str) -> None:
        """Begin to make a map of the gallery as it is now, unless there is one or it is being made.

        Raises:
            UsageError: there can be no such map.
        """
        parts(name)
        self._look(name)
        with self._lock:
            is_made = name in self._opened and self._versions.get(name) == self._galleries.now.version
            making = self._making.get(name)
            if is_made or (making and not making.error):
                return
            self._making[name] = Making()
        self._worker.submit(lambda: self._make(name))

    def _make(self, name: str) -> None:
        making = self._making[name]
        try:
            moment = self._galleries.now
            space, reducer = parts(name)
            built = build(reducer)
            built.progress = making.progress
            with threadpool_limits(cores(), "blas"):
                made = map_file.opened(moment.gallery(Which(space)), built)
        except Exception as error:
            making.error = str(error) if isinstance(error, ImgrecError) else f"{type(error).__name__}: {error}"
            if not isinstance(error, ImgrecError):
                log.exception("the map %s was not made", name)
            return
        with self._lock:
            self._opened[name], self._versions[name] = made, moment.version
            del self._making[name]

    def _look(self, name: str) -> None:
        """Open a map that is kept, if it is one of the gallery as it is now."""
        moment = self._galleries.now
        if self._looked.get(name) == moment.version or name in self._making:
            return
        space, reducer = parts(name)
        self._looked[name] = moment.version
        if (found := map_file.kept(moment.gallery(Which(space)), build(reducer))) is not None:
            with self._lock:
                self._opened[name], self._versions[name] = found, moment.version


def reducers() -> list[str]:
    """The reducers that make maps here: those that do not learn from labels, and whose libraries are installed."""
    classes = registry.classes(Reducer).items()
    return [name for name, cls in classes if not cls.supervised and not cls.missing_libraries()]


def build(reducer: str) -> Reducer:
    """A reducer to two dimensions, as `imgrec visualise` has it."""
    return cast("Reducer", registry.build("reducer", reducer))


def parts(name: str) -> tuple[str, str]:
    """The space or fusion, and the reducer, of a map.

    Raises:
        UsageError: there is no such reducer.
    """
    space, _, reducer = name.rpartition(BETWEEN)
    if not space or reducer not in reducers():
        raise UsageError(
            f"there is no map {name!r:.100}: its name is SPACE{BETWEEN}REDUCER, of {', '.join(reducers())}"
        )
    return space, reducer
