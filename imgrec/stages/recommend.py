"""recommend: finds the images of a gallery that are most similar to a query."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from imgrec import images
from imgrec.batches import chunks
from imgrec.errors import UsageError
from imgrec.exchange.parquet import AnswersFile, needs_pyarrow
from imgrec.gallery import elsewhere, titles
from imgrec.gallery.answering import Answering
from imgrec.gallery.asking import Asking, as_told
from imgrec.gallery.each import Summary, answers, pictures_of
from imgrec.gallery.gallery import Gallery, opened
from imgrec.gallery.results import Match, Matches
from imgrec.gallery.selection import AUTO
from imgrec.gallery.texts import space_for_text
from imgrec.kinds import Extractor, Index, Recorded, Reducer, Reranker, Stage, Store
from imgrec.kinds.metric import METRIC_HELP
from imgrec.kinds.metric import names as metric_names
from imgrec.options import component, option
from imgrec.run import Run, progress, table
from imgrec.run.listing import FORMATS, Column, Listing
from imgrec.run.viewer import Opens

COPIES_TOLD = 5
"""How many copies of an image a table lists at most; JSON has all."""

WRITTEN_AT_ONCE = 256
"""How many queries' answers are written together."""

ROWS_TOLD = 100
"""How many matches the table of many queries lists at most."""

STREAMED = ("jsonl", "csv", "paths", "paths0")
"""Formats of many answers that are printed as these come."""

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Recommend(Asking, Opens, Answering, Stage):
    """Find the images of the gallery that are most similar to pictures, words or colours."""

    positional: ClassVar[str | None] = "query"

    metric: str | None = option(None, choices=metric_names, help=METRIC_HELP)
    space: str | None = option(None, help="which space or fusion, where there are several: a key or its beginning")
    format: str = option("table", choices=FORMATS, help="of the result on stdout")
    store: Store = component("store")
    extractor: Extractor | Recorded = component("extractor")
    projection: Reducer | None = component("projection")
    smoothing: Reranker | None = component("smoothing")
    rerank: Reranker | None = component("rerank")
    index: Index | None = component("index")

    def execute(self, run: Run) -> None:
        """Search, print the matches, and write `results.json` and `recommendations.png`.

        With `each`, the matches are in `results.parquet` and nothing is drawn.
        """
        if self.each:
            self._each(run)
        else:
            self._together(run)

    def _opened(self) -> AbstractContextManager[Gallery]:
        for each in (self.projection, self.smoothing):
            if each is not None:
                each.progress = progress
        in_words = self.text is not None or self.unlike_text is not None
        return opened(
            self.store,
            self.metric,
            space=space_for_text(self.store, self.space, self.extractor) if in_words else self.space,
            extractor=self.extractor,
            projection=self.projection,
            smoothing=self.smoothing,
            index=self.index,
            colour_weight=self.weight_of_colours,
        )

    def _together(self, run: Run) -> None:
        query = self.asked(run.repeats)
        with self._opened() as gallery:
            similarity = gallery.similarity
            with run.timed("query"):
                resolved = gallery.resolve(query)
            run.inputs["query"] = "".join(sorted(resolved.digests))
            if query.unlike:
                run.inputs["unlike"] = "".join(sorted(resolved.left_out - resolved.digests))
            with run.timed("load"):
                _ = gallery.key
            run.reads(len(gallery), gallery.fingerprint, *similarity.sources())
            with run.timed("search"):
                (matches,) = self.search(gallery, [resolved], self.rerank)
            result, said = self.results(gallery, query, matches), gallery.says_approximate()
            run.index = gallery.about_index()
        self._warn(matches)
        if gone := list(images.are_there(match.path for match in matches)).count(False):
            log.warning("%d of these files are gone: ingest again to bring the gallery up to date", gone)
        run.counts.update(gallery=len(gallery), matches=len(matches))
        elsewhere.keep(query, run.folder)
        run.write_json("results.json", result)
        with run.timed("draw"):
            from imgrec.drawing.contact_sheet import contact_sheet

            picture = run.folder / "recommendations.png"
            contact_sheet(matches.query, matches, picture, titles.title(similarity), matches.unlike)
        run.show(_listing(matches, result), self.format)
        if said:
            run.note(said)
        run.note(f"drawn in {picture}")
        self.show(run, picture)

    def _each(self, run: Run) -> None:
        needs_pyarrow()
        query, told = self.asked(run.repeats), Summary()
        files, shown = pictures_of(query), list[dict[str, Any]]()
        file = run.folder / "results.parquet"
        with self._opened() as gallery, AnswersFile(file, gallery.similarity.names) as written:
            similarity = gallery.similarity
            with run.timed("load"):
                key = gallery.key
            run.reads(len(gallery), gallery.fingerprint, *similarity.sources())
            how: Any = {"copies": self.copies, "rerank": self.rerank, **self.selection}
            about = {**as_told(query, each=True), **gallery.about(), **self.about_selection(gallery)}
            found = answers(gallery, self.store, query, files, self.k, self.where, **how)
            columns = [Column("query"), *_columns(similarity.names, about)]
            with run.timed("answers"), progress("queries", len(files)) as advance:
                for some in chunks(found, WRITTEN_AT_ONCE):
                    told.add(some)
                    answered = [(each.query, each.matches) for each in some if each.matches is not None]
                    written.write(answered)
                    rows = [{"query": path, **_row(match)} for path, matches in answered for match in matches]
                    if self.format in STREAMED:
                        run.print(
                            Listing(columns, rows).text(self.format, is_continued=told.count > len(some)), end=""
                        )
                    else:
                        shown += rows if self.format in ("markdown", "html") else rows[: ROWS_TOLD - len(shown)]
                    advance(len(some))
            about |= gallery.about()  # with what was measured of an index
            run.index, said = gallery.about_index(), gallery.says_approximate()
        run.inputs["query"] = told.queries.hexdigest()
        counts = {"queries": told.count, "unreadable": told.unreadable, "matches": told.matches}
        if self.threshold is not None:
            counts["nothing_similar"] = told.without
        run.counts.update(gallery=len(gallery), **counts)
        result = {
            "space": key,
            "metric": similarity.metric,
            "k": self.k,
            **self.about,
            **about,
            **counts,
            "failures": told.failures,
            "sha256": told.results.hexdigest(),
        }
        elsewhere.keep(query, run.folder)
        run.write_json("results.json", result)
        if self.format not in STREAMED:
            run.print(Listing(columns, shown, data=result).text(self.format), end="")
        if self.format == "table" and told.matches > len(shown):
            run.note(f"the first {len(shown):,} of {told.matches:,} matches; format=csv and jsonl print all")
        if told.without and self.threshold is not None:
            log.warning("nothing similar for %d of %d queries: %s", told.without, told.count, self._too_far())
        if told.unreadable:
            log.warning("%d of %d queries cannot be read", told.unreadable, told.count)
        if said:
            run.note(said)
        run.note(f"written to {file}")
        if told.unreadable == told.count:
            raise UsageError("none of the queries can be read")

    def _warn(self, matches: Matches) -> None:
        if not matches and self.threshold is not None:
            log.warning("nothing similar: %s", self._too_far())
        elif len(matches) < self.k and self.threshold is None:
            kind = "image" if self.collapse is None else "different image"
            what = f"{len(matches)} {kind}{'' if len(matches) == 1 else 's'}"
            where = "what the filters leave" if self.given else "the gallery"
            log.warning("%s has only %s to recommend: k=%d is more", where, what, self.k)

    def _too_far(self) -> str:
        if self.threshold == AUTO:
            return f"the share of the gallery's images whose own nearest one is as far is below {self.alpha:g}"
        return f"no image is within a distance of {self.threshold:g}"


def _columns(parts: Sequence[str], shown: Mapping[str, Any]) -> list[Column]:
    """The columns of a match; for a fusion, with each part's share of the distance.

    Args:
        parts: the names of a fusion's.
        shown: the results, which name what was asked for.
    """
    return [
        Column("rank", is_number=True),
        Column("distance", lambda distance: f"{distance:.6g}", is_number=True),
        *([Column("typicality", lambda share: f"{share:.3f}", is_number=True)] if "alpha" in shown else []),
        *(Column(name, lambda share: f"{share:.0%}", is_number=True) for name in parts),
        Column("copies", lambda paths: str(len(paths)), is_number=True),
        *([Column("near_copies", lambda paths: str(len(paths)), is_number=True)] if "collapse" in shown else []),
        *([Column("variant")] if "variants" in shown else []),
        Column("label"),
        Column("path"),
    ]


def _row(match: Match) -> dict[str, Any]:
    return {**match.to_json(), **match.shares}


def _listing(matches: Sequence[Match], result: Mapping[str, Any]) -> Listing:
    columns = _columns(list(matches[0].shares) if matches else [], result)
    return Listing(columns, list(map(_row, matches)), data=result, table=_as_table(matches))


def _as_table(matches: Sequence[Match]) -> str:
    """Rank, distance and path, with those of copies below; for a fusion, each part's share of the distance.

    With the typicality, and how many near-duplicates a match stands for, where that was asked for.
    """
    parts = list(matches[0].shares) if matches else []
    digits = 4 if any(match.distance >= 1 for match in matches) else 6
    width = max((len(f"{match.distance:.{digits}f}") for match in matches), default=0)
    asked = {
        "typicality": any(match.typicality is not None for match in matches),
        **dict.fromkeys(parts, True),
        "copies": any(match.copies for match in matches),
        "near": any(match.near_copies for match in matches),
        "variant": any(match.variant for match in matches),
    }
    added = [name for name, is_shown in asked.items() if is_shown]
    rows: list[list[Any]] = []
    for match in matches:
        shares = [f"{match.shares[name]:{len(name)}.0%}" for name in parts]
        distance = f"{match.distance:{width}.{digits}f}"
        cells = {
            "typicality": f"{match.typicality or 0:10.3f}",
            **dict(zip(parts, shares, strict=True)),
            "copies": len(match.copies) or "",
            "near": len(match.near_copies or ()) or "",
            "variant": match.variant,
        }
        rows.append([f"{match.rank:4}", distance, *(cells[name] for name in added), match.path])
        others = [*match.copies, *(match.near_copies or ())]
        told = others if len(others) <= COPIES_TOLD else others[: COPIES_TOLD - 1]
        more = [f"and {len(others) - len(told):,} more"] if len(told) < len(others) else []
        rows += [["", "", *[""] * len(added), path] for path in [*told, *more]]
    return table(rows, header=["rank", "distance", *added, "path"])
