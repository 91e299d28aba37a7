"""imgrec: content-based image recommendation, every part a plugin.

>>> import imgrec, tempfile
>>> sorted(imgrec.available("store"))
['csv', 'sqlite']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from imgrec import kinds
from imgrec.batches import chunks, groups
from imgrec.errors import ImgrecError, NoStoreError, UsageError
from imgrec.hookspecs import RunInfo, hookimpl
from imgrec.installation import install_command
from imgrec.kinds import *  # noqa: F403 - `kinds.__all__` is what plugins need
from imgrec.options import component, components, option
from imgrec.registry import available, build
from imgrec.threads import ahead, cores, each

if TYPE_CHECKING:
    from imgrec.drawing.map import Map
    from imgrec.drawing.visualise import visualise
    from imgrec.fusion import Fusion
    from imgrec.gallery.gallery import Gallery
    from imgrec.gallery.gallery import opened as open  # noqa: A004 - it is imgrec.open
    from imgrec.gallery.query import Query
    from imgrec.gallery.recommend import recommend
    from imgrec.gallery.results import Match
    from imgrec.images import UnreadableImageError, image_suffixes, source_of
    from imgrec.ingestion.ingest import ingest
    from imgrec.ingestion.items import decode_item, extract_items, read_item
    from imgrec.ingestion.steps import IngestReport
    from imgrec.linear import LinearReducer
    from imgrec.neighbours import NeighbourReducer
    from imgrec.run import Run

__version__ = "0.1.0"

# Imported lazily, since it needs OpenCV or more, so that a plugin's `import imgrec` stays fast.
_LAZY = {
    "Gallery": "imgrec.gallery.gallery",
    "Query": "imgrec.gallery.query",
    "Fusion": "imgrec.fusion",
    "LinearReducer": "imgrec.linear",
    "Map": "imgrec.drawing.map",
    "Match": "imgrec.gallery.results",
    "NeighbourReducer": "imgrec.neighbours",
    "Run": "imgrec.run",
    "IngestReport": "imgrec.ingestion.steps",
    "UnreadableImageError": "imgrec.images",
    "decode_item": "imgrec.ingestion.items",
    "extract_items": "imgrec.ingestion.items",
    "image_suffixes": "imgrec.images",
    "read_item": "imgrec.ingestion.items",
    "source_of": "imgrec.images",
    "ingest": "imgrec.ingestion.ingest",
    "recommend": "imgrec.gallery.recommend",
    "visualise": "imgrec.drawing.visualise",
}

__all__ = [
    "Fusion",
    "Gallery",
    "ImgrecError",
    "IngestReport",
    "LinearReducer",
    "Map",
    "Match",
    "NeighbourReducer",
    "NoStoreError",
    "Query",
    "Run",
    "RunInfo",
    "UnreadableImageError",
    "UsageError",
    "ahead",
    "available",
    "build",
    "chunks",
    "component",
    "components",
    "cores",
    "decode_item",
    "each",
    "extract_items",
    "groups",
    "hookimpl",
    "image_suffixes",
    "ingest",
    "install_command",
    "open",
    "option",
    "read_item",
    "recommend",
    "source_of",
    "visualise",
]
__all__ += kinds.__all__


def __getattr__(name: str) -> Any:
    if name == "open":
        return importlib.import_module("imgrec.gallery.gallery").opened
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'imgrec' has no attribute {name!r}")
