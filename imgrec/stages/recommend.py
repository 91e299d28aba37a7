"""recommend: the images of a gallery that are most similar to a query."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from imgrec import draw, gallery, images, search
from imgrec.contracts import Extractor, Space, Store, Vectors, check_vectors
from imgrec.errors import UsageError
from imgrec.gallery import Gallery, Match
from imgrec.options import option
from imgrec.run import Run, table, to_json
from imgrec.stages import Stage, part

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Recommend(Stage):
    """Find the images of the gallery that are most similar to a query picture."""

    positional: ClassVar[str | None] = "query"

    query: str = option(path=True, help="a picture, inside or outside the gallery")
    k: int = option(5, minimum=1, help="how many")
    metric: str = option("euclidean", choices=search.METRICS, help="distance between vectors")
    include_self: bool = option(False, help="let the query's own content be found")
    space: str | None = option(None, help="which space, where the gallery has several: a key or its beginning")
    format: str = option("table", choices=("table", "json", "paths"), help="of the result on stdout")
    store: Store = part("store")
    extractor: Extractor | dict[str, Any] = part("extractor")

    def execute(self, run: Run) -> None:
        """Search, print the matches, draw them, and keep them as JSON."""
        with self.store as store:
            space = gallery.choose_space(store, self.space, self.extractor)
            with run.timed("query"):
                vector, digest = query_vector(self.query, store, space, self.extractor)
            run.inputs["query"] = digest
            with run.timed("load"):
                pool = Gallery(store, space)
            run.reads(len(pool), pool.fingerprint, [space])
            with run.timed("search"):
                matches = pool.neighbours(
                    vector, self.k, self.metric, leave_out=None if self.include_self else digest
                )
        if len(matches) < self.k:
            log.warning("the gallery has only %d images to recommend: k=%d is more", len(matches), self.k)
        if gone := sum(not os.path.exists(match.path) for match in matches):
            log.warning("%d of these files are gone: ingest again to bring the gallery up to date", gone)
        result = {
            "query": os.path.abspath(self.query),
            "space": space.key,
            "metric": self.metric,
            "k": self.k,
            "matches": [asdict(match) for match in matches],
        }
        run.counts.update(gallery=len(pool), matches=len(matches))
        run.write_json("results.json", result)
        with run.timed("draw"):
            picture = run.folder / "recommendations.png"
            draw.contact_sheet(self.query, matches, picture, f"{gallery.title(space)}, {self.metric}")
        if self.format == "json":
            run.print(to_json(result))
        elif self.format == "paths":
            run.print("\n".join(match.path for match in matches))
        else:
            digits = 4 if any(match.distance >= 1 for match in matches) else 6
            width = max((len(f"{match.distance:.{digits}f}") for match in matches), default=0)
            rows = [[match.rank, f"{match.distance:{width}.{digits}f}", match.path] for match in matches]
            run.print(table(rows, header=["rank", "distance", "path"]))
        run.note(f"drawn in {picture}")


def recommend(
    query: str | os.PathLike[str],
    store: Store,
    k: int = 5,
    metric: str = "euclidean",
    space: str | None = None,
    *,
    extractor: Extractor | None = None,
    include_self: bool = False,
) -> list[Match]:
    """The k images of a store that are most similar to a query picture, the nearest first.

    Args:
        query: an image file, inside the gallery or not.
        store: what `ingest` filled.
        k: how many; fewer where the gallery has fewer.
        metric: `euclidean`, `cosine`, `manhattan` or `hellinger`.
        space: which space, where the store has several: its key or the beginning of it.
        extractor: the same, by identity; also the extractor that is then used for the query.
        include_self: let the query's own content (the same bytes) be found.

    Raises:
        UsageError: no such query or store; the query is no image; the space is not clear; k below 1.
    """
    with store:
        chosen = gallery.choose_space(store, space, extractor)
        vector, digest = query_vector(query, store, chosen, extractor or {})
        return Gallery(store, chosen).neighbours(vector, k, metric, leave_out=None if include_self else digest)


def query_vector(
    query: str | os.PathLike[str], store: Store, space: Space, extractor: Extractor | Mapping[str, Any]
) -> tuple[Vectors, str]:
    """A query's vector, from the store if it has the content, and the digest of the content.

    Raises:
        UsageError: there is no such file, or it is no image.
    """
    if not os.fspath(query):
        raise UsageError("query is empty: name a picture")
    if not os.path.exists(query):
        raise UsageError(f"query {os.fspath(query)!r} does not exist")
    if not Path(query).is_file():
        raise UsageError(f"query {os.fspath(query)!r} is a folder or device, not a picture")
    try:
        data, digest = images.read(os.fspath(query))
        _, known = store.vectors(space, [digest])
        if len(known):
            return known[0], digest
        if not isinstance(extractor, Extractor):
            extractor = gallery.extractor_of(space, extractor)
        return check_vectors(extractor.extract([images.decode(data, extractor.side)]), 1, extractor)[0], digest
    except images.UnreadableImageError as error:
        raise UsageError(f"query {os.fspath(query)!r} cannot be read: {error}") from None
