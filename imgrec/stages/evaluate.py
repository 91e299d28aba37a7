"""evaluate: how well an extractor, metric and projection serve these photographs, in numbers."""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import logging
import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from imgrec import evaluation, images, registry
from imgrec.batches import chunks
from imgrec.errors import NoStoreError, UsageError
from imgrec.evaluation import Queries
from imgrec.evaluation.alterations import ALTERATIONS
from imgrec.gallery import similarity as similarities
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.similarity import Similarity
from imgrec.ingestion.ingest import ingest
from imgrec.kinds import Extractor, Image, Ranking, Record, Recorded, Reducer, Reranker, Stage, Store, Vectors
from imgrec.kinds.metric import METRIC_HELP
from imgrec.kinds.metric import names as metric_names
from imgrec.options import component, option
from imgrec.run import Run, table, to_json
from imgrec.search import exact, files
from imgrec.threads import each

log = logging.getLogger(__name__)

WORST = 10
"""Queries that are drawn."""

TIMED_IMAGES, TIMED_QUERIES = 64, 20

ALTERED_SIDE = 512
"""Altered copies are made of photographs decoded to this side at least: the blur of larger ones takes seconds."""


@dataclass(kw_only=True)
class Evaluate(Stage):
    """Measure how well similar images are found: by labels, or without any by altered copies."""

    positional: ClassVar[str | None] = "source"
    ranking: ClassVar[Ranking | None] = Ranking(
        quality={"map": "mAP", "precision_at_k": "precision"},
        cost={"images_per_s": "images/s", "query_ms": "ms a query", "bytes_per_image": "bytes an image"},
    )

    source: Any = option(
        None, path=True, help="the gallery's folders, ingested first; null: all that the store has"
    )
    queries: Any = option(None, path=True, help="folders of queries, kept apart; null: each gallery image is one")
    labels: str = option("auto", path=True, help="auto, folder, none, or a CSV file with the columns path,label")
    k: int = option(5, minimum=1, help="how many neighbours are looked at")
    metric: str | None = option(None, choices=metric_names, help=METRIC_HELP)
    sample: int | None = option(
        1000, minimum=1, help="at most so many of the gallery's own images or copies are queries; null: all"
    )
    space: str | None = option(None, help="which space, where the gallery has several: a key or its beginning")
    format: str = option("table", choices=("table", "json"), help="of the result on stdout")
    store: Store = component("store")
    extractor: Extractor | Recorded = component("extractor")
    default_extractor: Extractor = component("extractor", is_fallback=True)
    projection: Reducer | None = component("projection")
    rerank: Reranker | None = component("rerank")

    def execute(self, run: Run) -> None:
        """Ask, rank, and tell; `results.json`, `queries.csv` and `worst.png` say more."""
        chosen = self._chosen()
        with run.timed("ingest"):
            if self.source is not None:
                ingest(self.source, self._to_extract(chosen), self.store, show_progress=True)
        with self.store as store, store.snapshot():
            self._evaluate(run, self._gallery(store, chosen))

    def _evaluate(self, run: Run, gallery: Gallery) -> None:
        similarity, records = gallery.similarity, gallery.records
        extractors = [each.ready_extractor() for each in similarity.terms]
        run.reads(len(records), files.fingerprint([record.digest for record in records]), *similarity.sources())
        with run.timed("queries"):
            asked, keys = self._asked(gallery, extractors)
        if self.labels not in ("auto", "folder", "none"):
            run.inputs["labels"] = hashlib.sha256(Path(self.labels).read_bytes()).hexdigest()
        run.inputs["queries"] = files.fingerprint([record.digest for record in asked.records])
        with run.timed("projection"):
            _check_labels(similarity, asked)
            learned = gallery.about_projections()
        with run.timed("rank"):
            rankings = evaluation.hits(gallery, asked, keys, self.rerank)
            per_query = evaluation.evaluate_rankings(rankings, self.k, evaluation.relevant(gallery, asked, keys))
        found = {
            "space": similarity.stored_key,
            "metric": similarity.metric,
            "gallery": len(records),
            "asked": asked.about,
            "k": self.k,
            **evaluation.summary(per_query, self.seed),
            asked.grouped_by: evaluation.by_class(per_query, asked.groups),
            "projection": learned,
            "rerank": {"reranker": self.rerank.name, **self.rerank.plain_options()} if self.rerank else None,
            **self._cost(gallery, asked, extractors),
        }
        if bare := found["without_relevant"]:
            log.warning(
                "%s of %s queries have nothing of their label in the gallery, and count as 0",
                bare,
                found["queries"],
            )
        run.counts.update({name: found[name] for name in ("gallery", "queries", *evaluation.FIGURES)})
        run.write_json("results.json", found)
        _write_queries(run.folder / "queries.csv", asked, per_query)
        worst = evaluation.worst(per_query, WORST)
        title = similarities.title(similarity)
        with run.timed("draw"):
            self._draw_worst(gallery, asked, keys, worst, run.folder / "worst.png", title)
        run.print(to_json(found) if self.format == "json" else _told(found, asked.grouped_by, title))
        run.note(f"the {len(worst)} worst are drawn in {run.folder / 'worst.png'}")

    def _draw_worst(
        self, gallery: Gallery, asked: Queries, keys: Sequence[str], worst: Sequence[int], file: Path, title: str
    ) -> None:
        from imgrec.drawing.worst import worst_queries

        key_at = dict(zip((record.path for record in gallery.records), keys, strict=True))
        answers = gallery.search([asked.asked[i] for i in worst], self.k, rerank=self.rerank)
        rows = [
            (
                self._picture(asked, i),
                asked.names[i],
                [(match.path, key_at[match.path] == asked.wanted[i]) for match in matches],
            )
            for i, matches in zip(worst, answers, strict=True)
        ]
        worst_queries(rows, file, title)

    def _chosen(self) -> Extractor | Recorded:
        """What was chosen, or recorded; for a new gallery the default."""
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

    def _gallery(self, store: Store, chosen: Extractor | Recorded) -> Gallery:
        """The gallery's images below the source, without those that are queries."""
        inside = None if self.source is None else set(images.roots(self.source))
        outside = set() if self.queries is None else set(images.roots(self.queries))

        def counts(record: Record) -> bool:
            is_inside = inside is None or images.is_inside(record.path, inside)
            return is_inside and not images.is_inside(record.path, outside)

        similarity = similarities.choose(store, self.space, chosen, self.projection, self.metric)
        gallery = Gallery(store, similarity, where=counts)
        if not gallery.records:
            raise UsageError("the gallery is empty: there are only queries, or nothing below source=")
        return gallery

    def _to_extract(self, chosen: Extractor | Recorded) -> Extractor | list[Extractor]:
        if isinstance(chosen, Extractor):
            return chosen
        with self.store as store:
            terms = similarities.choose(store, self.space, chosen).terms
        return [each.ready_extractor() for each in terms]

    def _asked(self, gallery: Gallery, extractors: list[Extractor]) -> tuple[Queries, Sequence[str]]:
        """The queries, and the keys of the gallery's images.

        Queries are a folder's, or the gallery's own, by label; or altered copies of the gallery's.
        """
        records = gallery.records
        own = [record.path for record in records]
        if self.queries is not None:
            others, vectors = self._folder_of_queries(gallery.similarity, extractors)
            labels = evaluation.labels_of(own + [record.path for record in others], self.labels)
            if labels is None:
                raise UsageError("queries= needs labels: labels=folder, or a CSV file of them")
            gallery.label_of = dict(zip(own, labels, strict=False)).__getitem__
            asked = [replace(each, include_self=True) for each in evaluation.known(others, vectors)]
            return Queries("a folder's images", others, asked, labels[len(own) :]), labels[: len(own)]
        labels = evaluation.labels_of(own, self.labels)
        rng = np.random.default_rng(self.seed)
        if labels is None:
            count = len(own) if self.sample is None else max(1, self.sample // len(ALTERATIONS))
            chosen = [records[i] for i in np.sort(rng.permutation(len(own))[:count])]
            names = [term.name for term in gallery.similarity.terms]
            return _altered(chosen, dict(zip(names, extractors, strict=True)), self.seed), _digests(records)
        gallery.label_of = dict(zip(own, labels, strict=True)).__getitem__
        numbers = np.sort(rng.permutation(len(own))[: self.sample])
        some = [records[i] for i in numbers]
        asked = evaluation.known(some, gallery.stored_vectors(some))
        return Queries("each of the gallery's images", some, asked, [labels[i] for i in numbers]), labels

    def _folder_of_queries(
        self, similarity: Similarity, extractors: list[Extractor]
    ) -> tuple[list[Record], dict[str, Vectors]]:
        """Their records and vectors, from a store beside the gallery's, where they never become neighbours."""
        options = self.store.options()
        if "path" not in options:
            raise UsageError(f"store={self.store.name} has no path, beside which queries could be kept")
        kept = registry.build("store", self.store.name, **{**options, "path": f"{options['path']}-queries"})
        roots = set(images.roots(self.queries))
        ingest(self.queries, extractors, kept, show_progress=True)
        with kept as store:
            queries = Gallery(store, similarity, where=lambda record: images.is_inside(record.path, roots))
            return queries.records, queries.stored_vectors(queries.records)

    def _picture(self, asked: Queries, i: int) -> Image | None:
        """What was asked; None where its file is gone."""
        image = _decoded(asked.records[i], ALTERED_SIDE)
        if image is None or not asked.alterations:
            return image
        return _alter(image, asked.records[i], asked.alterations[i], self.seed)

    def _cost(
        self, gallery: Gallery, asked: Queries, extractors: Sequence[Extractor]
    ) -> dict[str, float | int | None]:
        """Extraction of some of the gallery's files, decoding included; queries one by one; size of a vector."""
        sides = {extractor.side for extractor in extractors}
        first = _decoded_for(sides, gallery.records[0])
        for extractor in extractors if first else ():
            extractor.extract([first[extractor.side]])  # loads a model, which is no cost of an image
        start = time.perf_counter()
        decoded = each(lambda record: _decoded_for(sides, record), gallery.records[:TIMED_IMAGES])
        there = [image for image in decoded if image]
        for extractor in extractors if there else ():
            extractor.extract([image[extractor.side] for image in there])
        seconds = time.perf_counter() - start
        times = []
        for query in zip(*gallery.targets(asked.asked[:TIMED_QUERIES]), strict=True):
            begun = time.perf_counter()
            exact.nearest(gallery.fields, [vector[None] for vector in query], self.k)
            times.append(time.perf_counter() - begun)
        return {
            "images_per_s": round(len(there) / seconds, 1) if there else None,
            "query_ms": round(1000 * statistics.median(times), 3),
            "bytes_per_image": sum(field.vectors.shape[1] * field.vectors.itemsize for field in gallery.fields),
        }


def _check_labels(similarity: Similarity, asked: Queries) -> None:
    """Refuse to project by what learns from labels where there are none."""
    for term in similarity.terms:
        if term.projection is not None and term.projection.supervised and asked.grouped_by != "by_class":
            raise UsageError(
                f"projection={term.projection.name} learns from labels, and there are none: "
                "they are the names of two folders or more, or in labels=FILE.csv"
            )


def _digests(records: Sequence[Record]) -> list[str]:
    return [record.digest for record in records]


def _decoded(record: Record, side: int | None = None) -> Image | None:
    """A gallery's image; None where its file is gone or broken by now."""
    return _decoded_for([side], record).get(side)


def _decoded_for(sides: Collection[int | None], record: Record) -> dict[int | None, Image]:
    """An image for each side that an extractor asks for; nothing where its file is gone or broken by now."""
    with contextlib.suppress(images.UnreadableImageError):
        data, _ = images.read(record.path)
        return {side: images.decode(data, side) for side in sides}
    return {}


def _alter(image: Image, record: Record, alteration: str, seed: int) -> Image:
    return ALTERATIONS[alteration](image, np.random.default_rng([seed, int(record.digest[:8], 16)]))


def _altered(records: Sequence[Record], extractors: Mapping[str, Extractor], seed: int) -> Queries:
    """Each alteration of each image; those whose file is gone are left out."""
    decoded = functools.partial(_decoded, side=ALTERED_SIDE)
    kept: list[Record] = []
    vectors: dict[str, list[Vectors]] = {name: [] for name in extractors}
    for some in chunks(records, 8):
        originals = [
            (record, image) for record, image in zip(some, each(decoded, some), strict=True) if image is not None
        ]
        made = [_alter(image, record, name, seed) for record, image in originals for name in ALTERATIONS]
        names = [f"{record.path} ({name})" for record, _ in originals for name in ALTERATIONS]
        for term, extractor in extractors.items():
            if made:
                vectors[term].append(registry.extract(extractor, made, names))
        kept += [record for record, _ in originals for _ in ALTERATIONS]
    if not kept:
        raise UsageError("none of the gallery's files is there to be altered: evaluate by labels")
    done = list(ALTERATIONS) * (len(kept) // len(ALTERATIONS))
    by_term = {term: np.concatenate(each) for term, each in vectors.items()}
    asked = evaluation.known(kept, by_term, is_content=False)
    return Queries("altered copies", kept, asked, _digests(kept), alterations=done)


def _write_queries(file: Path, asked: Queries, per_query: Sequence[evaluation.Quality]) -> None:
    with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(["path", asked.grouped_by.removeprefix("by_"), *evaluation.Quality._fields])
        for record, group, quality in zip(asked.records, asked.groups, per_query, strict=True):
            writer.writerow([record.path, group, *quality])


def _told(found: dict[str, Any], grouped_by: str, title: str) -> str:
    """The result as tables."""
    header = ["", f"{found['k']} nearest", "95% confidence"]
    names = {
        "precision_at_k": "precision",
        "recall_at_k": "recall",
        "map": "mAP, whole ranking",
        "hit_rate": "hit rate",
    }
    rows = [
        [told, f"{found[name]:.4f}", "{:.4f} to {:.4f}".format(*found["confidence"][name])]
        for name, told in names.items()
    ]
    groups = [
        [group["label"], group["queries"], *(f"{group[name]:.3f}" for name in names)]
        for group in found[grouped_by]
    ]
    speed = f"{found['images_per_s']} images/s, {found['query_ms']} ms a query"
    asked = f"{found['queries']:,} queries ({found['asked']}), "
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
