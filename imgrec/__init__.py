"""imgrec: content-based image recommendation, every part a plugin.

>>> import imgrec, tempfile
>>> sorted(imgrec.available("store"))
['csv', 'sqlite']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from imgrec.errors import ImgrecError, UsageError
from imgrec.hookspecs import RunInfo, hookimpl
from imgrec.kinds import Batch, Decoder, Extractor, Failure, Record, Reducer, Reranker, Space, Store
from imgrec.options import option
from imgrec.registry import available, build

if TYPE_CHECKING:
    from imgrec.draw import Map
    from imgrec.gallery import Match
    from imgrec.pipeline import Summary
    from imgrec.stages.ingest import ingest
    from imgrec.stages.recommend import recommend
    from imgrec.stages.visualise import visualise
    from imgrec.views import Fusion

__version__ = "0.1.0"

# What needs OpenCV or more is imported at use, so that a plugin's `import imgrec` stays light.
_LAZY = {
    "Fusion": "imgrec.views",
    "Match": "imgrec.gallery",
    "Summary": "imgrec.pipeline",
    "ingest": "imgrec.stages.ingest",
    "recommend": "imgrec.stages.recommend",
    "Map": "imgrec.draw",
    "visualise": "imgrec.stages.visualise",
}

__all__ = [
    "Batch",
    "Decoder",
    "Extractor",
    "Failure",
    "Fusion",
    "ImgrecError",
    "Map",
    "Match",
    "Record",
    "Reducer",
    "Reranker",
    "RunInfo",
    "Space",
    "Store",
    "Summary",
    "UsageError",
    "available",
    "build",
    "hookimpl",
    "ingest",
    "option",
    "recommend",
    "visualise",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'imgrec' has no attribute {name!r}")
