"""evaluate: how well an extractor, metric and projection serve these photographs, in numbers."""

from __future__ import annotations

import contextlib
import csv
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from imgrec import draw, evaluation, gallery, images, index, registry, search
from imgrec.alterations import ALTERATIONS
from imgrec.contracts import (
    Component,
    Extractor,
    Image,
    Record,
    Reducer,
    Space,
    Store,
    Vectors,
    check_vectors,
    chunks,
)
from imgrec.errors import NoStoreError, UsageError
from imgrec.gallery import Gallery
from imgrec.options import option
from imgrec.run import Run, table, to_json
from imgrec.stages import Ranking, Stage, part
from imgrec.stages.ingest import ingest
from imgrec.threads import each

WORST = 10
"""Queries that are drawn."""

TIMED_IMAGES, TIMED_QUERIES = 64, 20


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
    metric: str = option("euclidean", choices=search.METRICS, help="distance between vectors")
    sample: int | None = option(
        1000, minimum=1, help="at most so many of the gallery's own images or copies are queries; null: all"
    )
    space: str | None = option(None, help="which space, where the gallery has several: a key or its beginning")
    format: str = option("table", choices=("table", "json"), help="of the result on stdout")
    store: Store = part("store")
    extractor: Extractor | dict[str, Any] = part("extractor")
    default_extractor: Extractor = part("extractor")
    projection: Reducer | None = part("projection")

    def execute(self, run: Run) -> None:
        """Ask, rank, and tell; `results.json`, `queries.csv` and `worst.png` say more."""
        extractor = self._extractor()
        space = Space.of(extractor)
        with run.timed("ingest"):
            pool = self._pool(extractor)
        run.reads(len(pool.records), index.fingerprint(pool.digests.tolist()), [space])
        with run.timed("queries"):
            asked = self._asked(pool, extractor)
        run.inputs["queries"] = index.fingerprint([record.digest for record in asked.records])
        with run.timed("projection"):
            learned = self._project(pool, asked)
        with run.timed("rank"):
            rankings = pool.rankings(asked, self.metric)
            per_query = evaluation.evaluate_rankings(rankings, self.k, pool.relevant(asked))
        found = {
            "space": space.key,
            "metric": self.metric,
            "gallery": len(pool.records),
            "asked": asked.about,
            "k": self.k,
            **evaluation.summary(per_query, self.seed),
            asked.grouped_by: evaluation.by_class(per_query, asked.groups),
            "projection": learned,
            **self._cost(pool, asked, extractor),
        }
        run.counts.update({name: found[name] for name in ("gallery", "queries", *evaluation.METRICS)})
        run.write_json("results.json", found)
        _write_queries(run.folder / "queries.csv", asked, per_query)
        worst = evaluation.worst(per_query, WORST)
        with run.timed("draw"):
            rows = [(asked.picture(i), asked.names[i], pool.nearest(asked, i, self.k, self.metric)) for i in worst]
            draw.worst_queries(rows, run.folder / "worst.png", f"{space.key}, {self.metric}")
        run.print(to_json(found) if self.format == "json" else _told(found, asked.grouped_by))
        run.note(f"the {len(worst)} worst are drawn in {run.folder / 'worst.png'}")

    def components(self) -> Iterator[Component]:
        """Without the default extractor, which may not be the one that is used."""
        return (each for each in super().components() if each is not self.default_extractor)

    def _extractor(self) -> Extractor:
        """The one chosen; else that of the gallery's space; else, for a new gallery, the default."""
        if isinstance(self.extractor, Extractor):
            return self.extractor
        with contextlib.suppress(NoStoreError), self.store as store:
            if store.spaces():
                return gallery.extractor_of(
                    gallery.choose_space(store, self.space, self.extractor), self.extractor
                )
        if self.source is None:
            raise UsageError(
                f"there is no gallery at {self.store.location} yet: name its photographs with source="
            )
        default = self.default_extractor
        return registry.build("extractor", default.name, **{**default.options(), **self.extractor})

    def _pool(self, extractor: Extractor) -> _Pool:
        """The gallery's images below the source, without those that are queries."""
        inside = None if self.source is None else set(images.roots(self.source))
        outside = set() if self.queries is None else set(images.roots(self.queries))
        if self.source is not None:
            ingest(self.source, extractor, self.store, show_progress=True)
        with self.store as store:
            pool = Gallery(store, gallery.choose_space(store, extractor=extractor))
            records = [
                record
                for record in pool.records()
                if (inside is None or images.is_inside(record.path, inside))
                and not images.is_inside(record.path, outside)
            ]
            if not records:
                raise UsageError("the gallery is empty: there are only queries, or nothing below source=")
            return _Pool(records, np.array(pool.rows(records)))

    def _asked(self, pool: _Pool, extractor: Extractor) -> _Asked:
        """The queries: a folder's, or the gallery's own, by label; or altered copies of the gallery's."""
        own = [record.path for record in pool.records]
        if self.queries is not None:
            records, vectors = self._folder_of_queries(extractor)
            labels = evaluation.labels_of(own + [record.path for record in records], self.labels)
            if labels is None:
                raise UsageError("queries= needs labels: labels=folder, or a CSV file of them")
            pool.keys = np.array(labels[: len(own)], dtype=object)
            return _Asked("a folder's images", records, vectors, labels[len(own) :])
        labels = evaluation.labels_of(own, self.labels)
        rng = np.random.default_rng(self.seed)
        if labels is None:
            count = len(own) if self.sample is None else max(1, self.sample // len(ALTERATIONS))
            chosen = np.sort(rng.permutation(len(own))[:count])
            return _altered([pool.records[i] for i in chosen], extractor, self.seed)
        pool.keys = np.array(labels, dtype=object)
        chosen = np.sort(rng.permutation(len(own))[: self.sample])
        records = [pool.records[i] for i in chosen]
        own_labels = [labels[i] for i in chosen]
        return _Asked(
            "each of the gallery's images", records, pool.vectors[chosen], own_labels, leaves_itself_out=True
        )

    def _folder_of_queries(self, extractor: Extractor) -> tuple[list[Record], Vectors]:
        """Their records and vectors, from a store beside the gallery's, where they never become neighbours."""
        options = self.store.options()
        if "path" not in options:
            raise UsageError(f"store={self.store.name} has no path, beside which queries could be kept")
        kept = registry.build("store", self.store.name, **{**options, "path": f"{options['path']}-queries"})
        roots = set(images.roots(self.queries))
        ingest(self.queries, extractor, kept, show_progress=True)
        with kept as store:
            pool = Gallery(store, gallery.choose_space(store, extractor=extractor))
            records = [record for record in pool.records() if images.is_inside(record.path, roots)]
            return records, np.array(pool.rows(records))

    def _project(self, pool: _Pool, asked: _Asked) -> dict[str, Any] | None:
        """Replace vectors by what a reducer makes of them that is fitted on the gallery alone."""
        if self.projection is None:
            return None
        if self.projection.supervised and asked.grouped_by != "by_class":
            raise UsageError(f"projection={self.projection.name} learns from labels, and there are none")
        labels = [str(key) for key in pool.keys] if asked.grouped_by == "by_class" else None
        pool.vectors = self.projection.fit(pool.vectors, labels).transform(pool.vectors)
        asked.vectors = self.projection.transform(asked.vectors)
        return {"reducer": self.projection.name, **self.projection.plain_options(), **self.projection.report()}

    def _cost(self, pool: _Pool, asked: _Asked, extractor: Extractor) -> dict[str, float | int | None]:
        """Extraction of some of the gallery's files, decoding included; queries one by one; size of a vector."""
        first = _decoded(pool.records[0], extractor.side)
        if first is not None:
            extractor.extract([first])  # loads a model, which is no cost of an image
        start = time.perf_counter()
        decoded = each(lambda record: _decoded(record, extractor.side), pool.records[:TIMED_IMAGES])
        there = [image for image in decoded if image is not None]
        if there:
            extractor.extract(there)
        seconds = time.perf_counter() - start
        times = []
        known = search.compress(pool.vectors, ())
        for query in asked.vectors[:TIMED_QUERIES]:
            begun = time.perf_counter()
            search.nearest(pool.vectors, query, self.k, self.metric, compressed=known)
            times.append(time.perf_counter() - begun)
        return {
            "images_per_s": round(len(there) / seconds, 1) if there else None,
            "query_ms": round(1000 * statistics.median(times), 3),
            "bytes_per_image": pool.vectors.shape[1] * pool.vectors.itemsize,
        }


@dataclass
class _Pool:
    """The gallery that is asked: its rows, and by which key each of them is a hit."""

    records: list[Record]
    vectors: Vectors

    def __post_init__(self) -> None:
        self.digests = np.array([record.digest for record in self.records], dtype=object)
        self.keys: npt.NDArray[Any] = self.digests

    def rankings(self, asked: _Asked, metric: str) -> Iterator[npt.NDArray[np.bool_]]:
        """For each query, row by row from the nearest on, whether it is a hit."""
        for numbers in chunks(range(len(asked.records)), 64):
            for i, order in zip(numbers, self._orders(asked, numbers, metric), strict=True):
                yield self.keys[order] == asked.wanted[i]

    def relevant(self, asked: _Asked) -> list[int]:
        """For each query, how many rows are hits."""
        counts = []
        for record, wanted in zip(asked.records, asked.wanted, strict=True):
            hits = self.keys == wanted
            counts.append(
                int((hits & (self.digests != record.digest)).sum() if asked.leaves_itself_out else hits.sum())
            )
        return counts

    def nearest(self, asked: _Asked, i: int, k: int, metric: str) -> list[tuple[str, bool]]:
        """The paths of a query's k nearest rows, and whether they are hits."""
        (order,) = self._orders(asked, [i], metric)
        return [(self.records[row].path, bool(self.keys[row] == asked.wanted[i])) for row in order[:k]]

    def _orders(self, asked: _Asked, numbers: Sequence[int], metric: str) -> Iterator[npt.NDArray[np.intp]]:
        """Rows from the nearest on, equal distances in the order of paths; without the query's own content."""
        distances = search.distances(self.vectors, asked.vectors[list(numbers)], metric)
        for i, row in zip(numbers, distances, strict=True):
            order = np.argsort(row, kind="stable")
            yield order[self.digests[order] != asked.records[i].digest] if asked.leaves_itself_out else order


@dataclass
class _Asked:
    """Queries."""

    about: str
    records: list[Record]
    vectors: Vectors
    wanted: Sequence[str]
    """The key of the rows that are hits."""

    leaves_itself_out: bool = False
    alterations: Sequence[str] = ()
    """What was done to each."""

    seed: int = 0

    @property
    def groups(self) -> Sequence[str]:
        return self.alterations or self.wanted

    @property
    def grouped_by(self) -> str:
        return "by_alteration" if self.alterations else "by_class"

    @property
    def names(self) -> list[str]:
        return [f"{group}: {Path(r.path).name}" for group, r in zip(self.groups, self.records, strict=True)]

    def picture(self, i: int) -> Image | None:
        """What was asked; None where its file is gone."""
        image = _decoded(self.records[i])
        if image is None or not self.alterations:
            return image
        return _alter(image, self.records[i], self.alterations[i], self.seed)


def _decoded(record: Record, side: int | None = None) -> Image | None:
    """A gallery's image; None where its file is gone or broken by now."""
    with contextlib.suppress(images.UnreadableImageError):
        return images.decode(images.read(record.path)[0], side)
    return None


def _alter(image: Image, record: Record, alteration: str, seed: int) -> Image:
    return ALTERATIONS[alteration](image, np.random.default_rng([seed, int(record.digest[:8], 16)]))


def _altered(records: Sequence[Record], extractor: Extractor, seed: int) -> _Asked:
    """Each alteration of each image; those whose file is gone are left out."""
    kept: list[Record] = []
    vectors: list[Vectors] = []
    for some in chunks(records, 8):
        originals = [
            (record, image) for record, image in zip(some, each(_decoded, some), strict=True) if image is not None
        ]
        made = [_alter(image, record, name, seed) for record, image in originals for name in ALTERATIONS]
        if made:
            vectors.append(check_vectors(extractor.extract(made), len(made), extractor))
        kept += [record for record, _ in originals for _ in ALTERATIONS]
    if not kept:
        raise UsageError("none of the gallery's files is there to be altered: evaluate by labels")
    done = list(ALTERATIONS) * (len(kept) // len(ALTERATIONS))
    digests = [record.digest for record in kept]
    return _Asked("altered copies", kept, np.concatenate(vectors), digests, alterations=done, seed=seed)


def _write_queries(file: Path, asked: _Asked, per_query: Sequence[evaluation.Quality]) -> None:
    with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(["path", asked.grouped_by.removeprefix("by_"), *evaluation.Quality._fields])
        for record, group, quality in zip(asked.records, asked.groups, per_query, strict=True):
            writer.writerow([record.path, group, *quality])


def _told(found: dict[str, Any], grouped_by: str) -> str:
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
    title = f"{found['space']}, {found['metric']}: {found['queries']:,} queries ({found['asked']}), "
    return "\n\n".join(
        [
            f"{title}{found['gallery']:,} images in the gallery",
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
