"""`imgrec.open`: a gallery for many questions, in programs and in notebooks."""

from __future__ import annotations

import copy
import html
import inspect
import os
import weakref
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self, cast

from imgrec import presets, registry
from imgrec.errors import NoStoreError, UsageError
from imgrec.gallery import titles
from imgrec.gallery.gallery import Gallery, opened
from imgrec.gallery.narrowing import Where, both, filter_of, narrowed
from imgrec.gallery.query import Query
from imgrec.gallery.results import Filter, Matches, label_of
from imgrec.kinds import Extractor, Index, Recorded, Reducer, Reranker, Store
from imgrec.kinds.component import check_component
from imgrec.options import check_option_names, option_names
from imgrec.paths import expanded

if TYPE_CHECKING:
    import pandas

    from imgrec.drawing.map import Map
    from imgrec.gallery.duplicates import Duplicates

ASKING = frozenset(inspect.signature(Query.of).parameters) - {"what"}
"""The options of a query."""

SEARCHING = frozenset(inspect.signature(Gallery.search).parameters) - {"self", "queries", "k", "among"}
"""Those of a search."""

Filters = Filter | Mapping[str, Any] | None


class OpenGallery(Gallery):
    """A gallery that holds its store open until it is closed, leaves its `with` block, or is no longer used.

    It stays as it was when it was opened: open it again after an ingest.
    """

    _session: _Session
    _among: Filter | None = None

    def search(
        self,
        queries: Iterable[Any],
        k: int = 5,
        among: Filters = None,
        **how: Any,
    ) -> list[Matches]:
        """See `Gallery.search`."""
        return super().search(queries, k, self._narrowing(among), **how)

    def within(self, queries: Iterable[Any], distance: float, among: Filters = None) -> list[Matches]:
        """See `Gallery.within`."""
        return super().within(queries, distance, self._narrowing(among))

    def recommend(
        self,
        query: Any = (),
        k: int = 5,
        *,
        where: Filters = None,
        **how: Any,
    ) -> Matches:
        """The k images most similar to a picture or several, or to whatever `Query.of` takes.

        Args:
            query: what is looked for; empty for `colours` alone.
            k: how many.
            where: the files that may be found.
            how: the options of `Query.of`, such as `unlike` and `variants`, and those of `Gallery.search`, such as
                `threshold` and `rerank`.
        """
        check_option_names("recommend", sorted(ASKING | SEARCHING), how)
        asking = {name: how.pop(name) for name in ASKING & how.keys()}
        if isinstance(query, Query):
            if asking:
                raise UsageError(f"{', '.join(asking)}: a Query that is made has these options itself")
            asked = query
        else:
            asked = Query.of(query, **asking)
        (matches,) = self.search([asked], k, filter_of(where), **how)
        return matches

    def duplicates(self, distance: float | str = "auto", **how: Any) -> Duplicates:
        """The groups of near-duplicates among its images; nothing is deleted or moved.

        Args:
            distance: images that are no farther apart are duplicates; `auto`: as copies are in this gallery.
            how: `keep` and `turned`, see `imgrec.duplicates`.
        """
        from imgrec.gallery import duplicates

        self._session.check()
        return duplicates.find(self, distance, among=self._among, **how)

    def where(self, where: Filters = None, /, **options: Any) -> Self:
        """This gallery with some of its images alone: `gallery.where(label="hat")`, or a function of a record.

        It only narrows: distances stay those of the whole gallery. Both are closed together.

        Raises:
            UsageError: an option cannot be understood, or no image is left.
        """
        self._session.check()
        if where is not None and options:
            raise UsageError("where takes a function or mapping, or options by name, not both")
        chosen = filter_of(options if where is None else where)
        narrow = copy.copy(self)
        narrow._among = both(self._among, chosen)
        vars(narrow)["records"] = narrowed(self.records, chosen)
        return narrow

    def map(
        self,
        reducer: str | Reducer | None = None,
        *,
        labels: str = "folder",
        highlight: str | None = None,
        sample: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> Map:
        """A map of all images; see `imgrec.visualise`.

        Args:
            reducer: one, or its name; None: the one of `imgrec visualise`.
            labels: as `imgrec.visualise` has them.
            highlight: the same.
            sample: the same.
            seed: of the sample.
            options: of the reducer that is named.
        """
        from imgrec.drawing.visualise import map_of

        self._session.check()
        if reducer is None or isinstance(reducer, str):
            name = reducer or presets.default_choices("visualise")["reducer"]
            reducer = cast("Reducer", registry.build("reducer", cast("str", name), **options))
        elif options:
            raise UsageError(f"{', '.join(options)}: options go with a reducer's name, and this one is made")
        check_component(reducer, Reducer, "reducer")
        return map_of(self, reducer, labels, highlight, sample, seed)

    def to_pandas(self, *, vectors: bool = False) -> pandas.DataFrame:
        """The images as a table in the order of paths: a row each, with its label and what else is known of it.

        Args:
            vectors: whether each has its vector as well, as the store has it; of a fusion one for each part.
        """
        import pandas

        self._session.check()
        records = self.records
        names = option_names(type(records[0])) if records else []
        columns: dict[str, list[Any]] = {name: [getattr(each, name) for each in records] for name in names}
        columns |= {"label": [label_of(each.path) for each in records]}
        if vectors:
            held = self.stored_vectors(records)
            columns |= {f"vector_{name}" if name else "vector": list(each) for name, each in held.items()}
        return pandas.DataFrame(columns)

    def close(self) -> None:
        """Close the store; what was returned stays usable."""
        self._session.close()

    def __enter__(self) -> Self:
        self._session.check()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return super().__len__() if self._among is None else len(self.records)

    def __repr__(self) -> str:
        if not self._session.is_open:
            return "<Gallery, closed>"
        return f"<Gallery of {len(self):,} images, {titles.title(self.similarity)}: {self._store.location}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return f"<p>{html.escape(repr(self)[1:-1])}</p>"

    def _narrowing(self, among: Filters) -> Filter | None:
        self._session.check()
        chosen = filter_of(among, "among")
        if self._among is not None and isinstance(chosen, Where):
            narrowed(self.records, chosen)  # which says it if none is left
        return both(self._among, chosen)


class _Session:
    """What is open; it closes when the last gallery that has it is gone, or the program ends."""

    def __init__(self, stack: ExitStack) -> None:
        self.close = weakref.finalize(self, stack.close)

    @property
    def is_open(self) -> bool:
        return self.close.alive

    def check(self) -> None:
        if not self.is_open:
            raise UsageError("this gallery is closed: open it again with imgrec.open")


def open_gallery(
    store: Store | str | os.PathLike[str],
    metric: str | None = None,
    *,
    where: Filters = None,
    space: str | None = None,
    extractor: Extractor | Recorded | Mapping[str, Any] | None = None,
    projection: Reducer | None = None,
    smoothing: Reranker | None = None,
    index: Index | None = None,
    colour_weight: float | None = None,
) -> OpenGallery:
    """Open a store, and a gallery on a snapshot of it; in a `with` block, or closed by `close()`.

    Args:
        store: filled by `ingest`; or its path, which one of the installed stores recognises.
        metric: the name of one, such as `euclidean` or `cosine`; None: those of a fusion's parts, else Euclidean.
        where: the files that the gallery consists of, also for projections and usual distances: a function of a
            record, or options, `{"label": "hat"}`; None for all.
        space: which space or fusion, if the store has several: its key or a prefix of it.
        extractor: chooses the space by identity, and extracts queries; for several, a `Fusion`.
        projection: a reducer, fitted on the gallery: vectors are projected before the search.
        smoothing: moves the gallery's vectors towards their own neighbours, and no queries.
        index: finds candidates approximately; None: every search is exact.
        colour_weight: for queries with colours; see `imgrec.gallery.gallery.opened`.

    Raises:
        UsageError: there is no such store, space or metric, the space is ambiguous, or `where` leaves no image.

    >>> import imgrec, tempfile
    >>> from pathlib import Path
    >>> from imgrec.testing import write_pictures
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_pictures(Path(folder, "photos"))
    ...     store = imgrec.build("store", "sqlite", path=f"{folder}/gallery.sqlite")
    ...     _ = imgrec.ingest(f"{folder}/photos", imgrec.build("extractor", "colour"), store)
    ...     with imgrec.open(f"{folder}/gallery.sqlite", "cosine") as gallery:
    ...         matches = gallery.where(label="a").recommend(f"{folder}/photos/a/0.png", k=2)
    >>> [match.label for match in matches]
    ['a', 'a']
    """
    held = _store_at(store) if isinstance(store, str | os.PathLike) else store
    stack = ExitStack()
    how: Any = {"space": space, "extractor": extractor, "projection": projection, "smoothing": smoothing}
    how["colour_weight"] = colour_weight
    made = opened(held, metric, where=where, index=index, made_as=OpenGallery, **how)
    gallery = cast("OpenGallery", stack.enter_context(made))
    gallery._session = _Session(stack)
    return gallery


def _store_at(path: str | os.PathLike[str]) -> Store:
    """The store at a path, of the first kind that recognises it."""
    name = expanded(os.fspath(path))
    for kind, plugin in registry.available("store").items():
        if cast("type[Store]", plugin.cls).recognises(name):
            return registry.build("store", kind, path=name)  # type: ignore[no-any-return]
    if not os.path.lexists(name):
        raise NoStoreError(f"there is no gallery at {os.path.abspath(name)}: make it with `imgrec ingest FOLDER`")
    raise UsageError(f"{name} is no gallery that an installed store recognises: imgrec.build('store', NAME, ...)")
