"""Computes maps: from a gallery's vectors to positions."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from imgrec.errors import ImgrecError, UsageError
from imgrec.evaluation.labels import is_file, labels_of
from imgrec.gallery import similarity as similarities
from imgrec.gallery import titles
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.narrowing import filter_of, narrowed
from imgrec.gallery.results import Filter
from imgrec.kinds import Extractor, Recorded, Reducer, Store
from imgrec.kinds.component import check_component
from imgrec.kinds.extractor import Vectors
from imgrec.kinds.metric import metric_of
from imgrec.run import progress
from imgrec.search import exact
from imgrec.search.exact import VectorField

if TYPE_CHECKING:
    from imgrec.drawing.map import Map

WIDTH, DPI, THUMBNAILS = 14.0, 120, 40
"""Of a map by default: inches, pixels an inch, and how many images are shown."""

NEAREST, ASKED = 15, 1_000
"""How good a map is: how many nearest images are looked for on it, and of how many images."""

REST, UNLABELLED = "the rest", "unlabelled"


def visualise(
    store: Store,
    reducer: Reducer,
    *,
    labels: str = "folder",
    highlight: str | None = None,
    sample: int | None = None,
    space: str | None = None,
    extractor: Extractor | Recorded | Mapping[str, Any] | None = None,
    where: Filter | Mapping[str, Any] | None = None,
    seed: int = 0,
    show_progress: bool = False,
) -> Map:
    """Compute the map of a store: positions of all images on a plane, and their labels.

    Args:
        store: a store filled by `ingest`.
        reducer: a reducer to 2 dimensions.
        labels: `folder` (the name of each image's folder), `none`, or a CSV file as `evaluate` takes it; images
            that the file has no label for are drawn as background.
        highlight: a pattern of paths such as `*/hat/*`; labels are then the pattern and `the rest`.
        sample: the number of images to draw at random; None for all.
        space: the space or fusion, if the store has several: its key or a prefix of it. For a fusion, the vectors
            of all parts are concatenated, scaled by weight and usual distance.
        extractor: selects the space by its identity; or options to change on the recorded extractor.
        where: the images that are drawn: a function of a record, or options, `{"label": "hat"}`; None: all. A
            fusion's usual distances stay those of the whole gallery.
        seed: of the sample.
        show_progress: show progress bars on stderr.

    Returns:
        A `Map`; `map.save("map.png")` draws it.

    Raises:
        UsageError: no such store, an ambiguous space, too few images, or a pattern or filter without
            matches.
    """
    check_component(store, Store, "store")
    check_component(reducer, Reducer, "reducer")
    similarities.check_selects(extractor)
    where = filter_of(where)
    if show_progress:
        reducer.progress = progress
    with store, store.snapshot():
        gallery = Gallery(store, similarities.choose(store, space, extractor))
        return map_of(gallery, reducer, labels, highlight, sample, seed, where)


def map_of(
    gallery: Gallery,
    reducer: Reducer,
    labels: str,
    highlight: str | None,
    sample: int | None,
    seed: int,
    where: Filter | None = None,
) -> Map:
    """Compute the map of an open gallery; see `visualise`."""
    if reducer.n_components != 2:
        raise UsageError(f"a map has 2 dimensions: reducer.n_components is {reducer.n_components}")
    if sample is not None and sample < 1:
        raise UsageError(f"sample is at least 1, not {sample}")
    records = narrowed(gallery.records, where)
    if sample is not None and sample < len(records):
        chosen = np.random.default_rng(seed).choice(len(records), sample, replace=False)
        records = [records[i] for i in sorted(chosen)]
    paths = [record.path for record in records]
    rest = None
    if highlight:
        if labels != "folder":
            raise UsageError("labels= has no effect beside highlight=, which colours the points: leave one out")
        rest = REST
        names = [highlight if fnmatch.fnmatchcase(path, highlight) else REST for path in paths]
        if highlight not in names:
            raise UsageError(
                f"highlight={highlight} matches none of {len(paths)} images, such as {paths[0]}: "
                f"it is a pattern of whole paths, like '*/hat/*'"
            )
    else:
        names = labels_of(paths, labels, without=UNLABELLED) or [""] * len(paths)
        rest = UNLABELLED if is_file(labels) else None
    vectors = gallery.points(records)
    positions = reducer.fit_transform(vectors, names)
    if positions.shape != (len(paths), 2) or not np.isfinite(positions).all():
        raise ImgrecError(f"reducer {reducer.name} made no map of these vectors: take another, or other options")
    from imgrec.drawing.map import Map

    return Map(
        paths,
        positions,
        names,
        f"{reducer.name} of {titles.title(gallery.similarity, with_metric=False)}",
        rest=rest,
        neighbours_kept=neighbours_kept(vectors, positions, reducer.metric, reducer.seed),
    )


def neighbours_kept(vectors: Vectors, positions: Vectors, metric: str, seed: int = 0) -> float:
    """How good a map is: the share of images' nearest ones that are among their nearest on it as well.

    Measured on a sample, against all images, exactly.

    Args:
        vectors: `float32 (n, dim)`.
        positions: `float32 (n, 2)`.
        metric: the name of the one by which vectors are near.
        seed: of the sample.

    Returns:
        From 0 to 1; 1 for a single image.
    """
    asked = np.random.default_rng(seed).permutation(len(vectors))[:ASKED]
    fields = VectorField(vectors, metric_of(metric)), VectorField(positions, metric_of("euclidean"))
    found = [exact.nearest([field], [field.of(asked)], NEAREST + 1) for field in fields]
    kept = total = 0
    for image, (rows, _), (others, apart) in zip(asked, *found, strict=True):
        nearest = rows[rows != image][:NEAREST]
        on_map = others[apart <= apart[: NEAREST + 1].max()]  # the image itself is one; ties count
        kept += int(np.isin(nearest, on_map).sum())
        total += len(nearest)
    return kept / total if total else 1.0
