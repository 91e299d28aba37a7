"""How well each extractor finds photographs of the same class, by the command line as a user has it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.manifold import trustworthiness

import imgrec
from benchmarks.ingest import CLOTHING
from benchmarks.report import Report
from conftest import SHARED

TRUSTED = 10
"""Neighbours by which maps are judged."""


def run() -> Report:
    """P@5 of queries of their own, hits among altered copies, and how far maps are to be trusted."""
    report = Report(
        "713 photographs of clothes in 10 classes, P@5: the share of the 5 nearest of 372 queries, among 341, "
        "that are of the query's class. Chance is 0.117. Projections are fitted on the gallery, by cosine distance"
    )
    if not CLOTHING.exists():
        report.notes.append("Not measured: ../shared is not there.")
        return report
    v1, v2 = mobilenet("v1"), mobilenet("v2")
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            "`colour`": ["extractor=colour"],
            "`hog`": ["extractor=hog"],
            "`mobilenetv1`, 1,024 values": v1,
            "`mobilenetv2`, 1,280 values": v2,
        }
        for name, words in ways.items():
            for metric in ("euclidean", "cosine"):
                report.add(f"{name}, {metric}", _p_at_5(folder, *words, f"metric={metric}"), "")
        unit = [*v2, "extractor.normalise=true"]
        report.add("`handcrafted`", _p_at_5(folder, "extractor=handcrafted"), "")
        fitted = {
            "`hog`, 64 whitened principal components": [
                "extractor=hog",
                "projection=pca",
                "projection.n_components=64",
                "projection.whiten=true",
            ],
            "`mobilenetv2`, 128 principal components": [*v2, "projection=pca"],
            "`mobilenetv2`, the same with query expansion": [*v2, "projection=pca", "rerank=query_expansion"],
            "`mobilenetv2`, the same with smoothing": [*v2, "projection=pca", "smoothing=neighbours"],
            "`mobilenetv2`, the same with mirror images": [
                *[*v2, "extractor.flip=true"],
                *["projection=pca", "smoothing=neighbours"],
            ],
            "`mobilenetv2`, `lda`": [*v2, "projection=lda"],
            "`mobilenetv2`, `lda` with query expansion": [*v2, "projection=lda", "rerank=query_expansion"],
            "`mobilenetv2` of unit length, `logistic`": [*unit, "projection=logistic"],
        }
        for name, words in fitted.items():
            report.add(name, _p_at_5(folder, *words, "metric=cosine"), "")
        for name in ("colour", "handcrafted"):
            report.add(f"altered copies that find their original first, `{name}`", _originals(folder, name), "")
        _add_maps(report, folder, unit)
    return report


def mobilenet(version: str) -> list[str]:
    """The shared weights' words on the command line."""
    return [
        f"extractor=mobilenet{version}",
        f"extractor.checkpoint={SHARED / 'weights' / f'mobilenet{version}_100.safetensors'}",
        "extractor.model_kwargs.pad_type=same",
        "extractor.mean=[0.5,0.5,0.5]",
        "extractor.std=[0.5,0.5,0.5]",
    ]


def _p_at_5(folder: str, *words: str) -> float:
    found = _evaluated(folder, f"source={CLOTHING / 'validation'}", f"queries={CLOTHING / 'test'}", *words)
    return float(found["precision_at_k"])


def _originals(folder: str, extractor: str) -> float:
    words = ["labels=none", "sample=null", "k=1", f"extractor={extractor}"]
    return float(_evaluated(folder, f"source={CLOTHING / 'validation'}", *words)["hit_rate"])


def _evaluated(folder: str, *words: str) -> Any:
    return json.loads(_told(folder, "+stage=evaluate", "format=json", *words))


def _told(folder: str, *words: str) -> str:
    """What a process of the command line prints."""
    done = subprocess.run(
        [sys.executable, "-m", "imgrec", *words], cwd=folder, check=False, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def _add_maps(report: Report, folder: str, words: list[str]) -> None:
    _told(folder, "+stage=ingest", f"source={CLOTHING}", "store.path=all.sqlite", *words)
    with imgrec.build("store", "sqlite", path=str(Path(folder, "all.sqlite"))) as store:
        _, vectors = store.vectors(store.spaces()[0])
    for name in ("tsne", "umap", "pca"):
        reduced = imgrec.build("reducer", name, n_components=2).fit_transform(np.asarray(vectors))
        trust = trustworthiness(vectors, reduced, n_neighbors=TRUSTED)
        report.add(f"map of all 713 by `{name}`, trustworthiness of {TRUSTED} neighbours", trust, "")
