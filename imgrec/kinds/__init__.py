"""The kinds of plugins: one module each, with the base class, and the records that travel with it.

A plugin is a dataclass that derives from the base class of its kind: its fields are its options, its docstring is
its help, its methods do its work. Constructors only store options; models, files and connections are opened at
first use.
"""

from __future__ import annotations

from imgrec.kinds.component import CONTRACT_VERSION, Component, Progress
from imgrec.kinds.decoder import Decoder
from imgrec.kinds.extractor import DECODING_VERSION, Extractor, Image, Space, Vectors, check_vectors
from imgrec.kinds.reducer import Reducer, as_euclidean, check_labels, check_shares, no_progress
from imgrec.kinds.reranker import Reranker
from imgrec.kinds.store import Batch, Failure, Record, Store, free_name, only_writer

__all__ = [
    "CONTRACT_VERSION",
    "DECODING_VERSION",
    "KINDS",
    "Batch",
    "Component",
    "Decoder",
    "Extractor",
    "Failure",
    "Image",
    "Progress",
    "Record",
    "Reducer",
    "Reranker",
    "Space",
    "Store",
    "Vectors",
    "as_euclidean",
    "check_labels",
    "check_shares",
    "check_vectors",
    "free_name",
    "no_progress",
    "only_writer",
]

KINDS: dict[str, type[Component]] = {cls.kind: cls for cls in (Extractor, Store, Reducer, Reranker, Decoder)}
"""The base class of each kind, in the order in which they are listed."""
