"""recommend: finds the images of a gallery that are most similar to a query."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from imgrec import images
from imgrec.errors import UsageError
from imgrec.gallery import titles
from imgrec.gallery.gallery import opened
from imgrec.gallery.narrowing import Narrowing
from imgrec.gallery.query import Query, Text
from imgrec.gallery.results import Match
from imgrec.gallery.texts import space_for_text
from imgrec.kinds import Extractor, Index, Recorded, Reducer, Reranker, Stage, Store
from imgrec.kinds.metric import METRIC_HELP
from imgrec.kinds.metric import names as metric_names
from imgrec.options import component, option
from imgrec.run import Run, progress, table
from imgrec.run.listing import FORMATS, Column, Listing

COPIES_TOLD = 5
"""How many copies of an image a table lists at most; JSON has all."""

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Recommend(Narrowing, Stage):
    """Find the images of the gallery that are most similar to a query picture, or like a text."""

    positional: ClassVar[str | None] = "query"

    query: str | None = option(None, path=True, help="a picture, inside or outside the gallery")
    text: str | None = option(None, text=True, help="what is looked for in words, alone or beside a picture")
    k: int = option(5, minimum=1, help="how many")
    metric: str | None = option(None, choices=metric_names, help=METRIC_HELP)
    include_self: bool = option(False, help="let the query's own content be found")
    copies: bool = option(False, help="let files of the same content take a rank each")
    space: str | None = option(None, help="which space or fusion, where there are several: a key or its beginning")
    format: str = option("table", choices=FORMATS, help="of the result on stdout")
    store: Store = component("store")
    extractor: Extractor | Recorded = component("extractor")
    projection: Reducer | None = component("projection")
    smoothing: Reranker | None = component("smoothing")
    rerank: Reranker | None = component("rerank")
    index: Index | None = component("index")

    def execute(self, run: Run) -> None:
        """Search, print the matches, and write `results.json` and `recommendations.png`."""
        pictures = [] if self.query is None else [self.query]
        texts = [] if self.text is None else [Text(self.text)]
        if not pictures and not texts:
            raise UsageError("recommend needs query=, a picture, or text=, words")
        query = Query.of(*pictures, *texts, include_self=self.include_self)
        space = space_for_text(self.store, self.space, self.extractor) if texts else self.space
        for each in (self.projection, self.smoothing):
            if each is not None:
                each.progress = progress
        with opened(
            self.store,
            self.metric,
            space=space,
            extractor=self.extractor,
            projection=self.projection,
            smoothing=self.smoothing,
            index=self.index,
        ) as gallery:
            similarity = gallery.similarity
            with run.timed("query"):
                resolved = gallery.resolve(query)
            run.inputs["query"] = "".join(resolved.digests)
            with run.timed("load"):
                key = gallery.key
            run.reads(len(gallery), gallery.fingerprint, *similarity.sources())
            with run.timed("search"):
                (matches,) = gallery.search([resolved], self.k, self.where, copies=self.copies, rerank=self.rerank)
            about = gallery.about()
        if len(matches) < self.k:
            log.warning("the gallery has only %d images to recommend: k=%d is more", len(matches), self.k)
        if gone := sum(not images.is_there(match.path) for match in matches):
            log.warning("%d of these files are gone: ingest again to bring the gallery up to date", gone)
        result = {
            "query": None if self.query is None else images.absolute(self.query),
            **({} if self.text is None else {"text": self.text}),
            "space": key,
            "metric": similarity.metric,
            "k": self.k,
            **about,
            "matches": [match.to_json() for match in matches],
        }
        run.counts.update(gallery=len(gallery), matches=len(matches))
        run.write_json("results.json", result)
        with run.timed("draw"):
            from imgrec.drawing.contact_sheet import contact_sheet

            subtitle = (
                titles.title(similarity) if self.text is None else f"“{self.text}”, {titles.title(similarity)}"
            )
            picture = run.folder / "recommendations.png"
            contact_sheet(self.query, matches, picture, subtitle)
        run.print(_listing(matches, result).text(self.format), end="")
        run.note(f"drawn in {picture}")


def _listing(matches: Sequence[Match], result: Mapping[str, Any]) -> Listing:
    """The matches as rows; for a fusion, with each part's share of the distance."""
    parts = list(matches[0].shares) if matches else []
    columns = [
        Column("rank", is_number=True),
        Column("distance", lambda distance: f"{distance:.6g}", is_number=True),
        *(Column(name, lambda share: f"{share:.0%}", is_number=True) for name in parts),
        Column("copies", lambda paths: str(len(paths)), is_number=True),
        Column("label"),
        Column("path"),
    ]
    rows = [{**match.to_json(), **match.shares} for match in matches]
    return Listing(columns, rows, data=result, table=_as_table(matches))


def _as_table(matches: Sequence[Match]) -> str:
    """Rank, distance and path, with the paths of copies below; for a fusion, each part's share of the distance."""
    parts = list(matches[0].shares) if matches else []
    digits = 4 if any(match.distance >= 1 for match in matches) else 6
    width = max((len(f"{match.distance:.{digits}f}") for match in matches), default=0)
    has_copies = any(match.copies for match in matches)
    rows: list[list[Any]] = []
    for match in matches:
        shares = [f"{match.shares[name]:{len(name)}.0%}" for name in parts]
        distance = f"{match.distance:{width}.{digits}f}"
        copies = [len(match.copies) or ""] if has_copies else []
        rows.append([f"{match.rank:4}", distance, *shares, *copies, match.path])
        told = match.copies if len(match.copies) <= COPIES_TOLD else match.copies[: COPIES_TOLD - 1]
        more = [f"and {len(match.copies) - len(told):,} more"] if len(told) < len(match.copies) else []
        rows += [["", "", *[""] * len(shares), "", path] for path in [*told, *more]]
    return table(rows, header=["rank", "distance", *parts, *(["copies"] if has_copies else []), "path"])
