"""recommend: the images of a gallery that are most similar to a query."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from imgrec import draw, images, registry, search, views
from imgrec.errors import UsageError
from imgrec.gallery import Gallery, Match
from imgrec.kinds import Extractor, Reducer, Reranker, Stage, Store, Vectors
from imgrec.options import component, option
from imgrec.run import Run, table, to_json
from imgrec.views import Fusion, Part, View

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Recommend(Stage):
    """Find the images of the gallery that are most similar to a query picture."""

    positional: ClassVar[str | None] = "query"

    query: str = option(path=True, help="a picture, inside or outside the gallery")
    k: int = option(5, minimum=1, help="how many")
    metric: str = option("euclidean", choices=search.METRICS, help="distance between vectors")
    include_self: bool = option(False, help="let the query's own content be found")
    space: str | None = option(None, help="which space or fusion, where there are several: a key or its beginning")
    format: str = option("table", choices=("table", "json", "paths"), help="of the result on stdout")
    store: Store = component("store")
    extractor: Extractor | Fusion | dict[str, Any] = component("extractor")
    projection: Reducer | None = component("projection")
    rerank: Reranker | None = component("rerank")

    def execute(self, run: Run) -> None:
        """Search, print the matches, draw them, and keep them as JSON."""
        with self.store as store, store.snapshot():
            view = views.choose(store, self.space, self.extractor, self.projection)
            with run.timed("query"):
                vectors, digest = query_vectors(self.query, store, view)
            run.inputs["query"] = digest
            with run.timed("load"):
                pool = Gallery(store, view)
            run.reads(len(pool), pool.fingerprint, *pool.view.sources())
            with run.timed("search"):
                matches = pool.neighbours(
                    vectors,
                    self.k,
                    self.metric,
                    content=digest,
                    leave_out=None if self.include_self else digest,
                    rerank=self.rerank,
                )
        if len(matches) < self.k:
            log.warning("the gallery has only %d images to recommend: k=%d is more", len(matches), self.k)
        if gone := sum(not os.path.exists(match.path) for match in matches):
            log.warning("%d of these files are gone: ingest again to bring the gallery up to date", gone)
        result = {
            "query": os.path.abspath(self.query),
            "space": pool.key,
            "metric": self.metric,
            "k": self.k,
            **pool.about(self.metric),
            "matches": [match.to_json() for match in matches],
        }
        run.counts.update(gallery=len(pool), matches=len(matches))
        run.write_json("results.json", result)
        with run.timed("draw"):
            picture = run.folder / "recommendations.png"
            draw.contact_sheet(self.query, matches, picture, views.title(view, self.metric))
        if self.format == "json":
            run.print(to_json(result))
        elif self.format == "paths":
            run.print("\n".join(match.path for match in matches))
        else:
            run.print(_as_table(matches))
        run.note(f"drawn in {picture}")


def _as_table(matches: Sequence[Match]) -> str:
    """Rank, distance and path; of a fusion how much of the distance each part makes up."""
    parts = list(matches[0].shares) if matches else []
    digits = 4 if any(match.distance >= 1 for match in matches) else 6
    width = max((len(f"{match.distance:.{digits}f}") for match in matches), default=0)
    rows = [
        [
            match.rank,
            f"{match.distance:{width}.{digits}f}",
            *(f"{match.shares[name]:{len(name)}.0%}" for name in parts),
            match.path,
        ]
        for match in matches
    ]
    return table(rows, header=["rank", "distance", *parts, "path"])


def recommend(
    query: str | os.PathLike[str],
    store: Store,
    k: int = 5,
    metric: str = "euclidean",
    space: str | None = None,
    *,
    extractor: Extractor | Fusion | None = None,
    projection: Reducer | None = None,
    rerank: Reranker | None = None,
    include_self: bool = False,
) -> list[Match]:
    """The k images of a store that are most similar to a query picture, the nearest first.

    Args:
        query: an image file, inside the gallery or not.
        store: what `ingest` filled.
        k: how many; fewer where the gallery has fewer.
        metric: `euclidean`, `cosine`, `manhattan` or `hellinger`.
        space: which space or fusion, where the store has several: its key or the beginning of it.
        extractor: the same, by identity; also the extractor that is then used for the query. Or several of them
            as a `Fusion`.
        projection: a reducer, fitted on the gallery: vectors are projected before the search.
        rerank: asks a second time with a better query.
        include_self: let the query's own content (the same bytes) be found.

    Raises:
        UsageError: no such query or store; the query is no image; the space is not clear; k below 1.
    """
    with store, store.snapshot():
        view = views.choose(store, space, extractor, projection)
        vectors, digest = query_vectors(query, store, view)
        left_out = None if include_self else digest
        return Gallery(store, view).neighbours(
            vectors, k, metric, content=digest, leave_out=left_out, rerank=rerank
        )


def query_vectors(query: str | os.PathLike[str], store: Store, view: View) -> tuple[list[Vectors], str]:
    """A query's vector in each part of a view, from the store if it has the content, and the content's digest.

    Raises:
        UsageError: there is no such file, or it is no image; an extractor cannot be built.
    """
    if not os.fspath(query):
        raise UsageError("query is empty: name a picture")
    if not os.path.exists(query):
        raise UsageError(f"query {os.fspath(query)!r} does not exist")
    if not Path(query).is_file():
        raise UsageError(f"query {os.fspath(query)!r} is a folder or device, not a picture")
    try:
        data, digest = images.read(os.fspath(query))
        return [_vector(os.fspath(query), data, digest, store, each) for each in view.parts], digest
    except images.UnreadableImageError as error:
        raise UsageError(f"query {os.fspath(query)!r} cannot be read: {error}") from None


def _vector(query: str, data: bytes, digest: str, store: Store, of: Part) -> Vectors:
    _, found = store.vectors(of.space, [digest])
    if not len(found):
        extractor = of.ready_extractor()
        found = registry.extract(extractor, [images.decode(data, extractor.side)], [query])
    vector: Vectors = found[0]
    return vector
