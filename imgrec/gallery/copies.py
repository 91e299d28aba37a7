"""Duplicates as results: the one description of what was found, for the command line and for the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from imgrec.gallery.duplicates import AUTO, Duplicates, find
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.narrowing import Narrowing
from imgrec.gallery.preference import KEEP
from imgrec.kinds.component import Progress, no_progress
from imgrec.options import option


@dataclass(kw_only=True)
class Finding(Narrowing):
    """The options of a search for duplicates. A stage that takes them inherits from it."""

    distance: Any = option(
        AUTO, help="images that are no farther apart are duplicates; auto: as copies are in this gallery"
    )
    keep: str = option(
        "largest", path=True, help=f"which one to keep: {', '.join(KEEP)}, or a pattern of paths, */originals/*"
    )
    turned: bool = option(
        False, help="find mirrored and rotated ones too: each image is extracted seven times more"
    )

    def found(self, gallery: Gallery, progress: Progress = no_progress) -> tuple[Duplicates, dict[str, Any]]:
        """What is found in a gallery, and the results that are written and served; JSON data.

        Raises:
            UsageError: as by `duplicates.find`.
        """
        how: Any = {"keep": self.keep, "turned": self.turned, "among": self.where, "progress": progress}
        found = find(gallery, self.distance, **how)
        return found, {
            **found.to_json(),
            "keep": self.keep,
            "turned": self.turned,
            "space": gallery.key,
            "metric": gallery.similarity.metric,
            **self.about,
            **gallery.about(),
        }
