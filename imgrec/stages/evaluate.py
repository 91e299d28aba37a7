"""evaluate: how well an extractor, metric and projection find similar images, in figures."""

from __future__ import annotations

import contextlib
import csv
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from imgrec import evaluation, images, memory, registry
from imgrec.errors import NoStoreError, UsageError
from imgrec.evaluation import Queries
from imgrec.evaluation.labels import digest_of, is_file
from imgrec.gallery import similarity as similarities
from imgrec.gallery import titles
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.narrowing import Narrowing, both, narrowed
from imgrec.gallery.results import Filter
from imgrec.gallery.similarity import Similarity
from imgrec.ingestion.ingest import ingest
from imgrec.kinds import Extractor, Index, Ranking, Record, Recorded, Reducer, Reranker, Stage, Store
from imgrec.kinds.metric import METRIC_HELP
from imgrec.kinds.metric import names as metric_names
from imgrec.options import component, option
from imgrec.run import Run, progress, table
from imgrec.run.listing import FORMATS, Column, Listing
from imgrec.run.viewer import Opens
from imgrec.search import tables

log = logging.getLogger(__name__)

WORST = 10
"""How many of the worst queries are drawn."""


@dataclass(kw_only=True)
class Evaluate(Opens, Narrowing, Stage):
    """Measure how well similar images are found: by labels, or without any by altered copies."""

    positional: ClassVar[str | None] = "source"
    ranking: ClassVar[Ranking | None] = Ranking(
        quality={"map": "mAP", "precision_at_k": "precision"},
        cost={
            "images_per_s": "images/s",
            "query_ms": "ms a query",
            "bytes_per_image": "bytes an image",
            "memory_mb": "MB at most",
        },
        remarks={"folds": "folds held out"},
        per_query="average_precision",
    )

    source: Any = option(
        None, path=True, help="the gallery's folders, ingested first; null: all that the store has"
    )
    queries: Any = option(None, path=True, help="folders of queries, kept apart; null: each gallery image is one")
    labels: str = option("auto", path=True, help="auto, folder, none, .cls beside images, or a CSV file")
    k: int = option(5, minimum=1, help="how many neighbours are looked at")
    metric: str | None = option(None, choices=metric_names, help=METRIC_HELP)
    sample: int | None = option(
        1000, minimum=1, help="at most so many of the gallery's own images or copies are queries; null: all"
    )
    space: str | None = option(None, help="which space, where the gallery has several: a key or its beginning")
    format: str = option("table", choices=FORMATS[:-2], help="of the result on stdout")
    store: Store = component("store")
    extractor: Extractor | Recorded = component("extractor")
    default_extractor: Extractor = component("extractor", is_fallback=True)
    projection: Reducer | None = component("projection")
    smoothing: Reranker | None = component("smoothing")
    rerank: Reranker | None = component("rerank")
    index: Index | None = component("index")

    def execute(self, run: Run) -> None:
        """Evaluate, print the figures, and write `results.json`, `queries.csv` and `worst.png`."""
        self._check_effects(run)
        is_own = memory.forget_peak()  # else the peak may be that of an earlier job in this process
        where = self.where  # understood before anything is ingested
        chosen = self._chosen()
        with run.timed("ingest"):
            if self.source is not None:
                ingest(self.source, self._to_extract(chosen), self.store, show_progress=True)
        with self.store as store, store.snapshot():
            self._evaluate(run, self._gallery(store, chosen, where), is_own=is_own)

    def _check_effects(self, run: Run) -> None:
        """Refuse options that would have no effect."""
        if run.gives("default_extractor"):
            similarities.check_default(self.store, self.extractor, self.default_extractor)
        if self.queries is not None and run.gives("sample") and self.sample is not None:
            raise UsageError("sample= has no effect beside queries=, of which all are asked for: leave one out")
        if self.queries is not None and self.labels == "none":
            raise UsageError("queries= needs labels: labels=folder, or a CSV file of them")

    def _evaluate(self, run: Run, gallery: Gallery, *, is_own: bool) -> None:
        extractors = [each.ready_extractor() for each in gallery.similarity.terms]
        run.reads(len(gallery.records), _fingerprint(gallery.records), *gallery.similarity.sources())
        with run.timed("queries"), self._folder_of_queries(gallery.similarity, extractors) as apart:
            asked = evaluation.asked_of(
                gallery, extractors, labels=self.labels, sample=self.sample, apart=apart, seed=self.seed
            )
        if is_file(self.labels):
            run.inputs["labels"] = digest_of(self.labels)
        run.inputs["queries"] = _fingerprint(asked.records)
        with run.timed("projection"):
            gallery.similarity.show_progress(progress)
            ready = evaluation.held_out(gallery, asked, self.rerank, self.seed)
        found, per_query = evaluation.evaluate(
            ready,
            asked,
            extractors,
            k=self.k,
            rerank=self.rerank,
            seed=self.seed,
            timed=run.timed,
            once=run.once,
        )
        if bare := found["without_relevant"]:
            log.warning(
                "%s of %s queries have nothing of their label in the gallery, and count as 0",
                bare,
                found["queries"],
            )
        run.counts.update({name: found[name] for name in ("gallery", "queries", *evaluation.FIGURES)})
        if found["folds"]:
            run.counts["folds"] = found["folds"]
        run.index = found["index"]
        found |= {"memory_mb": round(memory.peak() / 1e6) if is_own else None, **self.about}
        run.write_json("results.json", found)
        _write_queries(run.folder / "queries.csv", asked, per_query)
        worst = evaluation.worst(per_query, WORST)
        title = titles.title(gallery.similarity)
        with run.timed("draw"):
            from imgrec.drawing.worst import worst_queries

            rows = evaluation.answers(ready, asked, worst, k=self.k, rerank=self.rerank, seed=self.seed)
            worst_queries(rows, run.folder / "worst.png", title)
        run.show(_listing(found, asked.grouped_by, title), self.format)
        if said := gallery.says_approximate():
            run.note(said)
        run.note(f"the {len(worst)} worst are drawn in {run.folder / 'worst.png'}")
        self.show(run, run.folder / "worst.png")

    def _chosen(self) -> Extractor | Recorded:
        """The extractor chosen or recorded; the default for a new gallery."""
        if isinstance(self.extractor, Extractor):
            return self.extractor
        with contextlib.suppress(NoStoreError), self.store as store:
            if store.spaces():
                return self.extractor
        if self.source is None:
            raise UsageError(
                f"there is no gallery at {self.store.location} yet: name its photographs with source="
            )
        return registry.changed(self.default_extractor, self.extractor.changes)

    def _gallery(self, store: Store, chosen: Extractor | Recorded, where: Filter | None) -> Gallery:
        """The gallery of the images below the source that pass the filter, without the queries."""
        inside = None if self.source is None else set(images.roots(self.source))
        outside = set() if self.queries is None else set(images.roots(self.queries))

        def counts(record: Record) -> bool:
            is_inside = inside is None or images.is_inside(record.path, inside)
            return is_inside and not images.is_inside(record.path, outside)

        how = self.projection, self.metric, self.smoothing
        similarity = similarities.choose(store, self.space, chosen, *how, loosely=False)
        gallery = Gallery(store, similarity, both(counts, where), self.index)
        if not gallery.records:
            narrowed([each for each in store.records() if not each.missing and counts(each)], where)
            raise UsageError("the gallery is empty: there are only queries, or nothing below source=")
        return gallery

    def _to_extract(self, chosen: Extractor | Recorded) -> Extractor | list[Extractor]:
        if isinstance(chosen, Extractor):
            return chosen
        with self.store as store:
            terms = similarities.choose(store, self.space, chosen).terms
        return [each.ready_extractor() for each in terms]

    @contextlib.contextmanager
    def _folder_of_queries(self, similarity: Similarity, extractors: list[Extractor]) -> Iterator[Gallery | None]:
        """The query images, in a separate store beside the gallery's so that they never become neighbours."""
        if self.queries is None:
            yield None
            return
        options = self.store.options()
        if "path" not in options:
            raise UsageError(f"store={self.store.name} has no path, beside which queries could be kept")
        kept = registry.build("store", self.store.name, **{**options, "path": f"{options['path']}-queries"})
        roots = set(images.roots(self.queries))
        ingest(self.queries, extractors, kept, show_progress=True)
        with kept as store:
            yield Gallery(store, similarity, where=lambda record: images.is_inside(record.path, roots))


def _fingerprint(records: Sequence[Record]) -> str:
    return tables.fingerprint([record.digest for record in records])


def _write_queries(file: Path, asked: Queries, per_query: Sequence[evaluation.Quality]) -> None:
    with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(["path", asked.grouped_by.removeprefix("by_"), *evaluation.Quality._fields])
        for record, group, quality in zip(asked.records, asked.groups, per_query, strict=True):
            writer.writerow([record.path, group, *quality])


NAMES = {
    "precision_at_k": "precision",
    "recall_at_k": "recall",
    "map": "mAP, whole ranking",
    "hit_rate": "hit rate",
}
"""The figures of a class, and what a table calls them."""


def _listing(found: dict[str, Any], grouped_by: str, title: str) -> Listing:
    """A row for all queries, without a label, and one for each class or alteration."""
    figures = [Column(name, lambda value: f"{value:.4f}", is_number=True) for name in NAMES]
    label = Column("label", lambda label: "all" if label is None else str(label))
    names = ["label", "queries", *NAMES]
    rows = [{name: group[name] for name in names} for group in ({"label": None, **found}, *found[grouped_by])]
    table = _as_table(found, grouped_by, title)
    return Listing([label, Column("queries", is_number=True), *figures], rows, data=found, table=table)


def _as_table(found: dict[str, Any], grouped_by: str, title: str) -> str:
    header, names = ["", f"{found['k']} nearest", "95% confidence"], NAMES
    rows = [
        [title_of, f"{found[name]:.4f}", "{:.4f} to {:.4f}".format(*found["confidence"][name])]
        for name, title_of in names.items()
    ]
    groups = [
        [group["label"], group["queries"], *(f"{group[name]:.3f}" for name in names)]
        for group in found[grouped_by]
    ]
    speed = f"{found['images_per_s']} images/s, {found['query_ms']} ms a query"
    held_out = f", of which nothing was learned: {found['folds']} folds" if found["folds"] else ""
    asked = f"{found['queries']:,} queries ({found['asked']}{held_out}), "
    return "\n\n".join(
        [
            f"{title}: {asked}{found['gallery']:,} images in the gallery",
            table(rows, header=header),
            table(
                groups,
                header=[
                    grouped_by.removeprefix("by_"),
                    "queries",
                    *(name.split(",")[0] for name in names.values()),
                ],
            ),
            f"{speed}, {found['bytes_per_image']:,} bytes an image",
        ]
    )
