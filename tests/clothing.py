"""The 713 photographs of clothes: a gallery, queries, and how well the former answers the latter."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import imgrec
from conftest import shared
from imgrec import images
from imgrec.batches import chunks
from imgrec.kinds import Space, Vectors


@dataclass
class Split:
    """Vectors of photographs, and the names of their folders."""

    vectors: Vectors
    labels: list[str]


def extracted(extractor: imgrec.Extractor, part: str) -> Split:
    """The gallery (`validation`, 341 photographs) or the queries (`test`, 372); extracted once for all tests."""
    paths = sorted(shared("photos", "clothing", part).glob("*/*"))
    kept = Path(os.environ["IMGREC_TEST_CACHE"]) / f"{Space.of(extractor).key}-{part}.npy"
    if not kept.exists():
        vectors = [
            extractor.extract([images.decode(path.read_bytes(), extractor.side) for path in some])
            for some in chunks(paths, 32)
        ]
        aside = kept.with_suffix(f".{os.getpid()}.npy")
        np.save(aside, np.concatenate(vectors))
        aside.rename(kept)
    return Split(np.load(kept), [path.parent.name for path in paths])


def precision(gallery: Split, queries: Split, reducer: imgrec.Reducer | None = None) -> float:
    """The share of the 5 nearest by cosine distance that are of the query's class.

    With a reducer, which has been fitted, in its dimensions.
    """
    given = [reducer.transform(split.vectors) if reducer else split.vectors for split in (gallery, queries)]
    unit = [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in given]
    nearest = np.argsort(-unit[1] @ unit[0].T, axis=1)[:, :5]
    return float(np.mean(np.array(gallery.labels)[nearest] == np.array(queries.labels)[:, None]))
