"""The kinds of plugin: one module each, with its base class and the records that go with it.

A plugin is a dataclass derived from the base class of its kind: its fields are its options, its docstring is its
help, its methods do its work. Constructors only store options; models, files and connections are opened lazily.
"""

from __future__ import annotations

from imgrec.kinds.component import Component, Group, Progress, no_progress
from imgrec.kinds.decoder import Decoder
from imgrec.kinds.engine import Engine, Extracted, Item
from imgrec.kinds.extractor import Extractor, Image, Recorded, Space, TermSpec, Vectors
from imgrec.kinds.index import Index, Numbers
from imgrec.kinds.metric import Doubles, Form, Metric, Number, as_euclidean
from imgrec.kinds.reducer import Reducer, check_labels
from imgrec.kinds.reranker import Reranker
from imgrec.kinds.source import ImageFile, Source
from imgrec.kinds.stage import Ranking, Stage
from imgrec.kinds.store import Batch, Failure, Record, Store, free_name

# What plugins need; `imgrec` re-exports it, as `imgrec.Extractor` and so on.
__all__ = [
    "Batch",
    "Component",
    "Decoder",
    "Doubles",
    "Engine",
    "Extracted",
    "Extractor",
    "Failure",
    "Form",
    "Image",
    "ImageFile",
    "Index",
    "Item",
    "Metric",
    "Number",
    "Numbers",
    "Progress",
    "Ranking",
    "Record",
    "Recorded",
    "Reducer",
    "Reranker",
    "Source",
    "Space",
    "Stage",
    "Store",
    "TermSpec",
    "Vectors",
    "as_euclidean",
    "check_labels",
    "free_name",
    "no_progress",
]

KINDS: dict[str, type[Component]] = {
    cls.kind: cls for cls in (Extractor, Store, Metric, Index, Reducer, Reranker, Engine, Source, Decoder, Stage)
}
"""The base class of each kind, in the order of listings."""

GROUPS: dict[str, Group] = {group.name: group for cls in KINDS.values() for group in cls.groups}
"""All config groups by name."""

_KIND_OF = {group.name: kind for kind, cls in KINDS.items() for group in cls.groups}


def kind_of(group: str) -> str:
    """The kind of component that fills a config group: a backup is a store, a projection a reducer."""
    return _KIND_OF[group]
