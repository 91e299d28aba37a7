"""The 713 photographs of clothes: a gallery, queries, and how well the former answers the latter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import imgrec
from conftest import shared
from imgrec import images
from imgrec.contracts import Vectors, chunks


@dataclass
class Split:
    """Vectors of photographs, and the names of their folders."""

    vectors: Vectors
    labels: list[str]


def extracted(extractor: imgrec.Extractor, part: str) -> Split:
    """The gallery (`validation`, 341 photographs) or the queries (`test`, 372)."""
    paths = sorted(shared("photos", "clothing", part).glob("*/*"))
    vectors = [
        extractor.extract([images.decode(path.read_bytes(), extractor.side) for path in some])
        for some in chunks(paths, 32)
    ]
    return Split(np.concatenate(vectors), [path.parent.name for path in paths])


def precision(gallery: Split, queries: Split, k: int = 5) -> float:
    """The share of the k nearest by cosine distance that are of the query's class."""
    unit = [part.vectors / np.linalg.norm(part.vectors, axis=1, keepdims=True) for part in (gallery, queries)]
    nearest = np.argsort(-unit[1] @ unit[0].T, axis=1)[:, :k]
    return float(np.mean(np.array(gallery.labels)[nearest] == np.array(queries.labels)[:, None]))


def reduced(reducer: imgrec.Reducer, *splits: Split) -> list[Split]:
    """The same in the dimensions of a fitted reducer."""
    return [Split(reducer.transform(split.vectors), split.labels) for split in splits]
