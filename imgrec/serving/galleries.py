"""The galleries of a store under all of its similarities, loaded once and again when the store has changed."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from imgrec.gallery import recorded, similarity
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.similarity import Similarity
from imgrec.kinds import Index, Recorded, Store
from imgrec.search import files
from imgrec.serving.workers import Worker

MOST_VARIED = 32
"""How many galleries of other metrics and weights are remembered; they share their vectors."""


@dataclass(frozen=True)
class Which:
    """What images are compared by."""

    space: str | None = None
    """The key of a space or fusion, or what else names it; None: the default."""

    metric: str | None = None
    weights: tuple[tuple[str, float], ...] = ()
    """Of a fusion's parts, by name, where they are not those on record."""


class Moment:
    """The galleries of one revision of the store. No snapshot is held: what was loaded stays as it was.

    Args:
        store: open.
        version: of the store, see `Galleries.version_now`.
        before: similarities of an earlier moment, which hold the models that were loaded.
        index: finds candidates approximately; None: every search is exact.
    """

    def __init__(
        self, store: Store, version: str, before: Mapping[str, Similarity], index: Index | None = None
    ) -> None:
        self.version, self._index = version, index
        self._store, self._before = store, before
        self._whole: dict[str, Gallery] = {}
        self._varied: dict[Which, Gallery] = {}
        self._lock = threading.Lock()

    @property
    def similarities(self) -> dict[str, Similarity]:
        """Those of whole galleries, by key."""
        return {key: gallery.similarity for key, gallery in self._whole.items()}

    def gallery(self, which: Which) -> Gallery:
        """A gallery, loaded if it is asked for the first time.

        Raises:
            UsageError: there is no such space, metric or weight.
        """
        with self._lock:
            if which in self._varied:
                return self._varied[which]
            key = (
                recorded.default_key(self._store)
                if which.space is None
                else recorded.named(self._store, which.space)
            )
            if key not in self._whole:
                self._whole[key] = self._loaded(key)
            gallery = self._whole[key]
            if which.metric is not None or which.weights:
                changes = {"weights": dict(which.weights)} if which.weights else {}
                other = similarity.choose(self._store, key, Recorded(changes), None, which.metric)
                gallery = gallery.under(other)
            while len(self._varied) >= MOST_VARIED:
                self._varied.pop(next(iter(self._varied)))
            self._varied[which] = gallery
            return gallery

    def base(self, gallery: Gallery) -> Gallery:
        """The gallery of the same vectors as on record, which queries are extracted for."""
        with self._lock:
            return self._whole[gallery.similarity.stored_key]

    def load_as(self, other: Moment) -> None:
        """Load all that another moment has loaded, as far as the store still has it."""
        held = {*self._store_keys()}
        for key in other.similarities:
            if key in held:
                self.gallery(Which(key))

    def _store_keys(self) -> list[str]:
        return [*recorded.whole_fusions(self._store), *(space.key for space in self._store.spaces())]

    def _loaded(self, key: str) -> Gallery:
        chosen = similarity.choose(self._store, key)
        if chosen == self._before.get(key):
            chosen = self._before[key]
        for term in chosen.terms:
            if term.projection is None:
                files.prepare(files.whole(self._store, term.space))
        with self._store.snapshot():
            gallery = Gallery(self._store, chosen, index=self._index)
            _ = gallery.approximate  # made now, of what the store has now
            return gallery


class Galleries:
    """The galleries of a store as it is now, or was a moment ago: a new state is loaded beside the requests.

    Args:
        store: open.
        index: finds candidates approximately; None: every search is exact.

    Raises:
        UsageError: it is empty.
    """

    PAUSE = 0.5
    """Seconds until the store is looked at again."""

    REST = 4
    """How many times as long as loading takes nothing is loaded again: an ingest makes a revision a batch."""

    def __init__(self, store: Store, index: Index | None = None) -> None:
        recorded.default_key(store)
        self._store, self._index = store, index
        self._moment = Moment(store, self.version_now(), {}, index)
        self._looked, self._is_loading = time.monotonic(), False
        self._lock = threading.Lock()
        self.worker = Worker("imgrec-loading")
        self.worker.submit(lambda: self._moment.gallery(Which()))

    def version_now(self) -> str:
        """A token that changes when the store's images, vectors or spaces do."""
        about = [f"{space.key} {self._store.revision(space)}" for space in self._store.spaces()]
        about += sorted(recorded.fusion_specs(self._store))
        return hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]

    @property
    def now(self) -> Moment:
        """The latest moment that is loaded."""
        with self._lock:
            is_due = not self._is_loading and time.monotonic() - self._looked >= self.PAUSE
            if is_due:
                self._is_loading = True
        if is_due:
            self.worker.submit(self._look)
        return self._moment

    def _look(self) -> None:
        started = time.monotonic()
        try:
            version = self.version_now()
            if version != self._moment.version:
                moment = Moment(self._store, version, self._moment.similarities, self._index)
                moment.load_as(self._moment)
                self._moment = moment
        finally:
            took = time.monotonic() - started
            with self._lock:
                self._is_loading, self._looked = False, time.monotonic() + self.REST * took
