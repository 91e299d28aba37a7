"""imgrec: content-based image recommendation, every part a plugin.

>>> import imgrec, tempfile
>>> sorted(imgrec.available("store"))
['csv', 'sqlite']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from imgrec import kinds
from imgrec.batches import chunks
from imgrec.errors import ImgrecError, NoStoreError, UsageError
from imgrec.hookspecs import RunInfo, hookimpl
from imgrec.kinds import *  # noqa: F403 - the kinds say themselves what plugins need of them
from imgrec.options import component, components, option
from imgrec.registry import available, build
from imgrec.threads import cores, each

if TYPE_CHECKING:
    from imgrec.draw import Map
    from imgrec.fusion import Fusion
    from imgrec.gallery.gallery import Gallery, Match
    from imgrec.gallery.gallery import opened as open  # noqa: A004 - it is imgrec.open
    from imgrec.gallery.query import Query
    from imgrec.linear import LinearReducer
    from imgrec.neighbours import NeighbourReducer
    from imgrec.pipeline import Summary
    from imgrec.run import Run
    from imgrec.stages.ingest import ingest
    from imgrec.stages.recommend import recommend
    from imgrec.stages.visualise import visualise

__version__ = "0.1.0"

# What needs OpenCV or more is imported at use, so that a plugin's `import imgrec` stays light.
_LAZY = {
    "Gallery": "imgrec.gallery.gallery",
    "Query": "imgrec.gallery.query",
    "Fusion": "imgrec.fusion",
    "LinearReducer": "imgrec.linear",
    "Map": "imgrec.draw",
    "Match": "imgrec.gallery.gallery",
    "NeighbourReducer": "imgrec.neighbours",
    "Run": "imgrec.run",
    "Summary": "imgrec.pipeline",
    "ingest": "imgrec.stages.ingest",
    "recommend": "imgrec.stages.recommend",
    "visualise": "imgrec.stages.visualise",
}

__all__ = [
    "Fusion",
    "Gallery",
    "ImgrecError",
    "LinearReducer",
    "Map",
    "Match",
    "NeighbourReducer",
    "NoStoreError",
    "Query",
    "Run",
    "RunInfo",
    "Summary",
    "UsageError",
    "available",
    "build",
    "chunks",
    "component",
    "components",
    "cores",
    "each",
    "hookimpl",
    "ingest",
    "open",
    "option",
    "recommend",
    "visualise",
]
__all__ += kinds.__all__


def __getattr__(name: str) -> Any:
    if name == "open":
        return importlib.import_module("imgrec.gallery.gallery").opened
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'imgrec' has no attribute {name!r}")
