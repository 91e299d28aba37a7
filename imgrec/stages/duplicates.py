"""duplicates: groups of images that are copies of each other, and which one of each to keep."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, ClassVar

from imgrec.gallery import duplicates, titles
from imgrec.gallery.copies import Finding
from imgrec.gallery.duplicates import Duplicates
from imgrec.gallery.gallery import opened
from imgrec.kinds import Extractor, Recorded, Reducer, Stage, Store
from imgrec.kinds.metric import METRIC_HELP
from imgrec.kinds.metric import names as metric_names
from imgrec.options import component, option
from imgrec.run import Run, progress, table
from imgrec.run.listing import FORMATS, Column, Listing
from imgrec.run.viewer import Opens

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class FindDuplicates(Opens, Finding, Stage):
    """Find groups of near-duplicates, and name the one of each to keep. Nothing is deleted or moved."""

    name: ClassVar[str] = "duplicates"
    positional: ClassVar[str | None] = None

    metric: str | None = option(None, choices=metric_names, help=METRIC_HELP)
    space: str | None = option(None, help="which space or fusion, where there are several: a key or its beginning")
    format: str = option(
        "table", choices=FORMATS, help="of the result on stdout; paths and paths0 are those not to keep"
    )
    store: Store = component("store")
    extractor: Extractor | Recorded = component("extractor")
    projection: Reducer | None = component("projection")

    def execute(self, run: Run) -> None:
        """Print the groups, and write `results.json` and `duplicates.png`."""
        duplicates.checked_distance(self.distance)
        if self.projection is not None:
            self.projection.progress = progress
        with opened(
            self.store, self.metric, space=self.space, extractor=self.extractor, projection=self.projection
        ) as gallery:
            similarity = gallery.similarity
            with run.timed("load"):
                _ = gallery.key
            run.reads(len(gallery), gallery.fingerprint, *similarity.sources())
            if self.turned:
                run.note("images are decoded, and extracted in seven other orientations each")
            with run.timed("search"):
                found, result = self.found(gallery, progress)
        run.note(f"duplicates are images within a distance of {found.distance:.6g}: {found.reason}")
        run.counts.update(gallery=len(gallery), groups=len(found.groups), others=len(found.others))
        run.write_json("results.json", result)
        if found.groups:
            with run.timed("draw"):
                from imgrec.drawing.groups import draw_groups

                picture = run.folder / "duplicates.png"
                draw_groups(found, picture, titles.title(similarity))
            run.note(f"drawn in {picture}")
        run.show(_listing(found, result), self.format)
        if found.groups:
            self.show(run, picture)


def _listing(found: Duplicates, result: dict[str, Any]) -> Listing:
    columns = [
        Column("group", is_number=True),
        Column("keep", lambda is_kept: "keep" if is_kept else ""),
        Column("reason"),
        Column("distance", lambda distance: f"{distance:.6g}", is_number=True),
        *(Column(name, is_number=True) for name in ("width", "height", "bytes")),
        Column("path"),
    ]
    rows = [
        {
            "group": number,
            "keep": i == 0,
            "reason": image.how or group.reason,
            "distance": image.distance,
            "width": image.record.width,
            "height": image.record.height,
            "bytes": image.record.size,
            "path": image.record.path,
        }
        for number, group in enumerate(found.groups, start=1)
        for i, image in enumerate(group.images)
    ]
    return Listing(columns, rows, data=result, paths=found.others, table=_as_table(columns, rows))


def _as_table(columns: list[Column], rows: list[dict[str, Any]]) -> str:
    """The rows, or that there are none."""
    if not rows:
        return "no duplicates"
    cells = [[column.shown(row[column.name]) for column in columns] for row in rows]
    return table(cells, header=[column.name for column in columns])
