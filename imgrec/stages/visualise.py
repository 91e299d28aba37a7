"""visualise: a map of all images of a gallery."""

from __future__ import annotations

import csv
import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from imgrec.errors import ImgrecError, UsageError
from imgrec.gallery import similarity as similarities
from imgrec.gallery.gallery import Gallery, label_of
from imgrec.kinds import Extractor, Recorded, Reducer, Stage, Store
from imgrec.options import component, option
from imgrec.run import Run, progress

if TYPE_CHECKING:
    from imgrec.draw import Map

LABELS = ("folder", "none")
REST = "the rest"


@dataclass(kw_only=True)
class Visualise(Stage):
    """Draw the map of all images: similar ones lie together."""

    positional: ClassVar[str | None] = None

    reducer: Reducer = component("reducer")
    labels: str = option("folder", choices=LABELS, help="what colours the points: the folder's name, or nothing")
    highlight: str | None = option(None, path=True, help="a pattern of paths, */hat/*: these against the rest")
    sample: int | None = option(None, minimum=1, help="draw so many images, chosen at random; null: all")
    thumbnails: int = option(40, minimum=0, help="how many images to show as small pictures on the map")
    space: str | None = option(None, help="which space or fusion, where there are several: a key or its beginning")
    store: Store = component("store")
    extractor: Extractor | Recorded = component("extractor")

    def execute(self, run: Run) -> None:
        """Reduce, and draw `map.png` beside `map.csv`."""
        self.reducer.progress = progress
        with run.timed("reduce"), self.store as store, store.snapshot():
            gallery = Gallery(store, similarities.choose(store, self.space, self.extractor))
            run.reads(len(gallery), gallery.fingerprint, *gallery.similarity.sources())
            points = _map_of(gallery, self.reducer, self.labels, self.highlight, self.sample, self.seed)
        run.counts.update(images=len(points.paths), labels=len(set(points.labels)))
        with (run.folder / "map.csv").open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["path", "x", "y", "label"])
            for path, (x, y), label in zip(points.paths, points.positions.tolist(), points.labels, strict=True):
                writer.writerow([path, x, y, label])
        with run.timed("draw"):
            from imgrec import draw

            draw.draw_map(points, run.folder / "map.png", thumbnails=self.thumbnails)
        run.print(f"{run.folder / 'map.png'}\n{run.folder / 'map.csv'}")


def visualise(
    store: Store,
    reducer: Reducer,
    *,
    labels: str = "folder",
    highlight: str | None = None,
    sample: int | None = None,
    space: str | None = None,
    extractor: Extractor | Recorded | None = None,
    seed: int = 0,
    show_progress: bool = False,
) -> Map:
    """Places of all images of a store on a plane, and their labels.

    Args:
        store: what `ingest` filled.
        reducer: to 2 dimensions.
        labels: `folder` (the name of each image's folder) or `none`.
        highlight: a pattern of paths such as `*/hat/*`; labels are then the pattern and `the rest`.
        sample: so many images, chosen by `seed`; None for all.
        space: which space or fusion, where the store has several: its key or the beginning of it. Of a fusion the
            vectors of all parts are put side by side, by weight and usual distance.
        extractor: the same, by identity; or options to change on the recorded one.
        seed: of the sample.
        show_progress: progress bars on stderr.

    Returns:
        A `Map`; `map.save("map.png")` draws it.

    Raises:
        UsageError: no such store; the space is not clear; too few images; a pattern that matches none.
    """
    if show_progress:
        reducer.progress = progress
    with store, store.snapshot():
        gallery = Gallery(store, similarities.choose(store, space, extractor))
        return _map_of(gallery, reducer, labels, highlight, sample, seed)


def _map_of(
    gallery: Gallery,
    reducer: Reducer,
    labels: str,
    highlight: str | None,
    sample: int | None,
    seed: int,
) -> Map:
    if labels not in LABELS:
        raise UsageError(f"labels is one of {', '.join(LABELS)}, not {labels!r}")
    if reducer.n_components != 2:
        raise UsageError(f"a map has 2 dimensions: reducer.n_components is {reducer.n_components}")
    if sample is not None and sample < 1:
        raise UsageError(f"sample is at least 1, not {sample}")
    records = gallery.records
    if sample is not None and sample < len(records):
        chosen = np.random.default_rng(seed).choice(len(records), sample, replace=False)
        records = [records[i] for i in sorted(chosen)]
    paths = [record.path for record in records]
    if highlight:
        names = [highlight if fnmatch.fnmatchcase(path, highlight) else REST for path in paths]
        if highlight not in names:
            raise UsageError(
                f"highlight={highlight} matches none of {len(paths)} images, such as {paths[0]}: "
                f"it is a pattern of whole paths, like '*/hat/*'"
            )
    else:
        names = [label_of(path) if labels == "folder" else "" for path in paths]
    positions = reducer.fit_transform(gallery.points(records), names)
    if positions.shape != (len(paths), 2) or not np.isfinite(positions).all():
        raise ImgrecError(f"reducer {reducer.name} made no map of these vectors: take another, or other options")
    from imgrec.draw import Map

    return Map(
        paths,
        positions,
        names,
        f"{reducer.name} of {similarities.title(gallery.similarity, with_metric=False)}",
        rest=REST if highlight else None,
    )
