"""visualise: draws a map of all images of a gallery."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import ClassVar

from imgrec.drawing.visualise import DPI, THUMBNAILS, WIDTH, map_of
from imgrec.errors import UsageError
from imgrec.evaluation.labels import digest_of, is_file
from imgrec.gallery import similarity as similarities
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.narrowing import Narrowing
from imgrec.kinds import Extractor, Recorded, Reducer, Stage, Store
from imgrec.options import component, option
from imgrec.run import Run, progress
from imgrec.run.viewer import Opens

MOST_PIXELS = 20_000
"""The most that a map is wide: it is at most one and a half times as high, which takes 2.4 GB to draw."""


@dataclass(kw_only=True)
class Visualise(Opens, Narrowing, Stage):
    """Draw a map of all images on which similar ones lie close together."""

    positional: ClassVar[str | None] = None

    reducer: Reducer = component("reducer")
    labels: str = option(
        "folder", path=True, help="colour by folder, none, .cls beside images, or a CSV file: path,label"
    )
    highlight: str | None = option(None, path=True, help="a pattern of paths, */hat/*: these against the rest")
    sample: int | None = option(None, minimum=1, help="draw so many images, chosen at random; null: all")
    thumbnails: int | None = option(
        None,
        minimum=0,
        help=f"how many images to show as small pictures; null: {THUMBNAILS}, in html all that fit",
    )
    format: str = option(
        "png",
        choices=("png", "svg", "pdf", "html"),
        help="of the map's file; text is text in svg and pdf, and html is a page to walk the map, of one file",
    )
    width: float = option(WIDTH, minimum=2, maximum=100, help="of the map, in inches")
    dpi: int = option(
        DPI, minimum=30, maximum=2400, help="pixels an inch, of png and of pictures inside the others"
    )
    title: str | None = field(  # type: ignore[assignment]  # a factory leaves the class its method of this name
        default_factory=lambda: None,
        metadata=option(None, help="above the map, in place of imgrec's own; empty: none", text=True).metadata,
    )
    space: str | None = option(None, help="which space or fusion, where there are several: a key or its beginning")
    store: Store = component("store")
    extractor: Extractor | Recorded = component("extractor")

    def execute(self, run: Run) -> None:
        """Reduce the vectors, and write `map.png` (or .svg, .pdf, .html) and `map.csv`."""
        from imgrec.drawing import map_file
        from imgrec.drawing.map import draw_map
        from imgrec.drawing.map_page import save_page

        similarities.check_selects(self.extractor)
        where = self.where
        if self.width * self.dpi > MOST_PIXELS:
            raise UsageError(
                f"width={self.width:g} at dpi={self.dpi} is {self.width * self.dpi:,.0f} pixels wide, "
                f"above {MOST_PIXELS:,}: take less of one"
            )
        if is_file(self.labels):
            run.inputs["labels"] = digest_of(self.labels)
        self.reducer.progress = progress
        with run.timed("reduce"), self.store as store, store.snapshot():
            gallery = Gallery(store, similarities.choose(store, self.space, self.extractor))
            run.reads(len(gallery), gallery.fingerprint, *gallery.similarity.sources())
            points = map_of(gallery, self.reducer, self.labels, self.highlight, self.sample, self.seed, where)
            if (self.labels, self.highlight, self.sample, where) == ("folder", None, None, None):
                map_file.keep(gallery, self.reducer, points)
        run.counts |= self.reducer.report()
        run.counts.update(images=len(points.paths), labels=len(set(points.labels)))
        run.counts["neighbours_kept"] = points.neighbours_kept
        with (run.folder / "map.csv").open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["path", "x", "y", "label"])
            for path, (x, y), label in zip(points.paths, points.positions.tolist(), points.labels, strict=True):
                writer.writerow([path, x, y, label])
        picture = run.folder / f"map.{self.format}"
        with run.timed("draw"):
            if self.format == "html":
                shown = save_page(points, picture, title=self.title, thumbnails=self.thumbnails, progress=progress)
            else:
                count = THUMBNAILS if self.thumbnails is None else self.thumbnails
                shown = draw_map(
                    points, picture, thumbnails=count, width=self.width, dpi=self.dpi, title=self.title
                )
        run.counts["thumbnails"] = shown
        run.print(f"{picture}\n{run.folder / 'map.csv'}")
        self.show(run, picture)
