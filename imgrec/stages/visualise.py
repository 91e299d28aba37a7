"""visualise: draws a map of all images of a gallery."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import ClassVar

from imgrec.drawing.visualise import LABELS, map_of
from imgrec.gallery import similarity as similarities
from imgrec.gallery.gallery import Gallery
from imgrec.kinds import Extractor, Recorded, Reducer, Stage, Store
from imgrec.options import component, option
from imgrec.run import Run, progress


@dataclass(kw_only=True)
class Visualise(Stage):
    """Draw a map of all images on which similar ones lie close together."""

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
        """Reduce the vectors, and write `map.png` and `map.csv`."""
        similarities.check_selects(self.extractor)
        self.reducer.progress = progress
        with run.timed("reduce"), self.store as store, store.snapshot():
            gallery = Gallery(store, similarities.choose(store, self.space, self.extractor))
            run.reads(len(gallery), gallery.fingerprint, *gallery.similarity.sources())
            points = map_of(gallery, self.reducer, self.labels, self.highlight, self.sample, self.seed)
        run.counts.update(images=len(points.paths), labels=len(set(points.labels)))
        with (run.folder / "map.csv").open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["path", "x", "y", "label"])
            for path, (x, y), label in zip(points.paths, points.positions.tolist(), points.labels, strict=True):
                writer.writerow([path, x, y, label])
        with run.timed("draw"):
            from imgrec.drawing.map import draw_map

            draw_map(points, run.folder / "map.png", thumbnails=self.thumbnails)
        run.print(f"{run.folder / 'map.png'}\n{run.folder / 'map.csv'}")
