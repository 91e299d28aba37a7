"""imgrec: content-based image recommendation, every part a plugin.

>>> import imgrec, tempfile
>>> sorted(imgrec.available("store"))
['csv', 'lance', 'sqlite']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from imgrec import requirements  # noqa: F401  # isort: skip - before all that needs what it looks for
from imgrec import kinds
from imgrec.batches import chunks, groups
from imgrec.errors import ImgrecError, NoStoreError, UsageError, runs_within
from imgrec.hookspecs import RunInfo, hookimpl
from imgrec.installation import install_command
from imgrec.kinds import *  # noqa: F403 - `kinds.__all__` is what plugins need
from imgrec.options import component, components, option
from imgrec.registry import available, build, load_plugin
from imgrec.threads import ahead, cores, each

if TYPE_CHECKING:
    from imgrec.drawing.map import Map
    from imgrec.drawing.visualise import visualise
    from imgrec.evaluation.evaluate import evaluate_store as evaluate
    from imgrec.exchange.export import Exported, export_vectors
    from imgrec.exchange.importing import Imported, import_vectors
    from imgrec.fusion import Fusion
    from imgrec.gallery.duplicates import Duplicates, duplicates
    from imgrec.gallery.gallery import Gallery
    from imgrec.gallery.query import Query, Text
    from imgrec.gallery.recommend import recommend
    from imgrec.gallery.results import Match, Matches
    from imgrec.images import CHANGED, NOT_OPENED, NOT_REGULAR, UnreadableImageError, image_suffixes, source_of
    from imgrec.images.lazy import LazyPicture
    from imgrec.ingestion.ingest import ingest
    from imgrec.ingestion.items import decode_item, extract_items, read_again, read_item
    from imgrec.ingestion.report import IngestReport
    from imgrec.interactive import open_gallery as open  # noqa: A004 - it is imgrec.open
    from imgrec.linear import LinearReducer
    from imgrec.neighbours import NeighbourReducer
    from imgrec.run import Run

__version__ = "0.1.0"

# Imported lazily, since it needs OpenCV or more, so that a plugin's `import imgrec` stays fast.
_LAZY = {
    "CHANGED": "imgrec.images",
    "Duplicates": "imgrec.gallery.duplicates",
    "Exported": "imgrec.exchange.export",
    "Fusion": "imgrec.fusion",
    "Gallery": "imgrec.gallery.gallery",
    "Imported": "imgrec.exchange.importing",
    "IngestReport": "imgrec.ingestion.report",
    "LazyPicture": "imgrec.images.lazy",
    "LinearReducer": "imgrec.linear",
    "Map": "imgrec.drawing.map",
    "Match": "imgrec.gallery.results",
    "Matches": "imgrec.gallery.results",
    "NeighbourReducer": "imgrec.neighbours",
    "NOT_OPENED": "imgrec.images",
    "NOT_REGULAR": "imgrec.images",
    "Query": "imgrec.gallery.query",
    "Run": "imgrec.run",
    "Text": "imgrec.gallery.query",
    "UnreadableImageError": "imgrec.images",
    "decode_item": "imgrec.ingestion.items",
    "duplicates": "imgrec.gallery.duplicates",
    "evaluate": "imgrec.evaluation.evaluate:evaluate_store",
    "export_vectors": "imgrec.exchange.export",
    "extract_items": "imgrec.ingestion.items",
    "image_suffixes": "imgrec.images",
    "import_vectors": "imgrec.exchange.importing",
    "ingest": "imgrec.ingestion.ingest",
    "open": "imgrec.interactive:open_gallery",
    "read_again": "imgrec.ingestion.items",
    "read_item": "imgrec.ingestion.items",
    "recommend": "imgrec.gallery.recommend",
    "source_of": "imgrec.images",
    "visualise": "imgrec.drawing.visualise",
}
"""Where it is: a module, and the name there if that is another one."""

# What one needs to use it from Python, then what plugins need besides: README.md of this folder lists them.
__all__ = [
    "Duplicates",
    "Exported",
    "Fusion",
    "Gallery",
    "ImgrecError",
    "Imported",
    "IngestReport",
    "Map",
    "Match",
    "Matches",
    "NoStoreError",
    "Query",
    "Text",
    "UsageError",
    "available",
    "build",
    "duplicates",
    "evaluate",
    "export_vectors",
    "import_vectors",
    "ingest",
    "load_plugin",
    "open",
    "recommend",
    "visualise",
]
__all__ += [
    "CHANGED",
    "NOT_OPENED",
    "NOT_REGULAR",
    "LazyPicture",
    "LinearReducer",
    "NeighbourReducer",
    "Run",
    "RunInfo",
    "UnreadableImageError",
    "ahead",
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
    "install_command",
    "option",
    "read_again",
    "read_item",
    "runs_within",
    "source_of",
]
__all__ += kinds.__all__


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, _, other = _LAZY[name].partition(":")
        return getattr(importlib.import_module(module), other or name)
    raise AttributeError(f"module 'imgrec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__doc__", "__version__"])
