from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import clothing
import imgrec
from imgrec.errors import UsageError
from imgrec.kinds import Image, Vectors


def hog(**options: Any) -> imgrec.Extractor:
    return imgrec.build("extractor", "hog", **options)  # type: ignore[no-any-return]


def noise(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def by_the_book(image: Image, cell: int, block: int, orientations: int, signed: bool, clip: float) -> list[float]:
    """The descriptor of a window, pixel by pixel, as the paper has it."""
    side = len(image)
    cells, span = side // cell, 2 * math.pi if signed else math.pi
    votes = np.zeros((cells, cells, orientations))
    padded = np.pad(image.astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    for y in range(side):
        for x in range(side):
            across = padded[y + 1, x + 2] - padded[y + 1, x]
            down = padded[y + 2, x + 1] - padded[y, x + 1]
            channel = int(np.argmax(across**2 + down**2))
            length = math.hypot(across[channel], down[channel])
            angle = math.atan2(down[channel], across[channel]) % span
            for i in range(cells):
                for j in range(cells):
                    near = max(0, 1 - abs(y + 0.5 - (i + 0.5) * cell) / cell)
                    near *= max(0, 1 - abs(x + 0.5 - (j + 0.5) * cell) / cell)
                    for b in range(orientations):
                        apart = abs(angle - (b + 0.5) * span / orientations)
                        alike = max(0, 1 - min(apart, span - apart) / (span / orientations))
                        votes[i, j, b] += length * near * alike
    vector: list[float] = []
    for i in range(cells - block + 1):
        for j in range(cells - block + 1):
            part = votes[i : i + block, j : j + block].ravel()
            part = part / np.linalg.norm(part)
            part = np.minimum(part, clip)
            vector += (part / np.linalg.norm(part)).tolist()
    return vector


@pytest.mark.parametrize(
    ("block", "orientations", "signed", "clip"), [(2, 9, False, 1.0), (1, 4, True, 0.2), (3, 6, True, 0.3)]
)
def test_it_is_the_descriptor_of_the_paper(block: int, orientations: int, signed: bool, clip: float) -> None:
    options: dict[str, Any] = {
        "cell": 4,
        "block": block,
        "orientations": orientations,
        "signed": signed,
        "clip": clip,
    }
    image = noise(16, 16)
    ours = hog(window=16, smoothing=0, **options).extract([image])[0]
    np.testing.assert_allclose(ours, by_the_book(image, **options), atol=3e-3)


def test_by_default_1764_values() -> None:
    assert hog().extract([noise(3, 4)]).shape == (1, 1764)
    assert hog(window=96, cell=12, block=3, orientations=8).extract([noise(3, 4)]).shape == (1, 6 * 6 * 9 * 8)


def stripes(vertical: bool) -> Image:
    """Light and dark, eight pixels each."""
    values = np.where(np.arange(64) // 8 % 2, 200, 50).astype(np.uint8)
    plane = np.tile(values, (64, 1)) if vertical else np.tile(values[:, None], (1, 64))
    return np.repeat(plane[:, :, None], 3, axis=2)


def test_edges_are_counted_by_their_orientation() -> None:
    """Of four orientations, vertical stripes have gradients at 0, between first and last; others at 90 degrees."""
    vertical, horizontal = (
        hog(orientations=4).extract([stripes(vertical)]).reshape(-1, 4).sum(axis=0) for vertical in (True, False)
    )
    assert vertical[[1, 2]].max() < 0.01 * vertical[[0, 3]].min()
    assert horizontal[[0, 3]].max() < 0.01 * horizontal[[1, 2]].min()


def test_light_does_not_matter_and_its_direction_only_where_signed() -> None:
    image = noise(64, 64) // 3 + 20
    assert cosine(hog(), image, image * 2 - 30) > 0.999
    assert cosine(hog(), image, 255 - image) > 0.999
    assert cosine(hog(signed=True, orientations=18), image, 255 - image) < 0.9


def cosine(extractor: imgrec.Extractor, one: Image, other: Image) -> float:
    a, b = extractor.extract([one, other])
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_a_mirrored_image_has_the_mirrored_vector() -> None:
    image = noise(64, 64)
    one, other = (v.reshape(7, 7, 2, 2, 9) for v in hog().extract([image, np.ascontiguousarray(image[:, ::-1])]))
    np.testing.assert_allclose(one, other[:, ::-1, :, ::-1, ::-1], atol=2e-3)


def test_how_an_image_fits() -> None:
    tall = noise(90, 30)
    padded = np.pad(tall, ((0, 0), (30, 30), (0, 0)), mode="edge")

    def same(fit: str, as_it_were: Image) -> bool:
        one, other = hog(fit=fit).extract([tall])[0], hog(fit="squash").extract([as_it_were])[0]
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other)) > 0.97

    assert same("crop", tall[30:60])
    assert same("pad", padded)
    assert not same("pad", tall)
    assert not same("crop", tall)


@pytest.mark.parametrize("shape", [(200, 300), (300, 200), (70, 4000)])
@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
def test_the_side_asked_for_is_enough(fit: str, shape: tuple[int, int]) -> None:
    extractor = hog(fit=fit, window=32, cell=8)
    assert extractor.side == 32
    assert np.isfinite(extractor.extract([noise(*shape)])).all()


def test_without_edges_nothing_is_counted() -> None:
    assert not hog().extract([np.full((50, 70, 3), 90, np.uint8)]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": 7}, "multiple of hog.cell, and 64 is none of 7"),
        ({"block": 9}, "hog.block is at most 8"),
        ({"window": 4}, "at least 8"),
        ({"fit": "stretch"}, "one of pad, crop, squash"),
        ({"clip": 0}, "at least 0.01"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        hog(**options)


def test_clothes_of_one_kind_are_found() -> None:
    gallery, queries = (clothing.extracted(hog(), part) for part in ("validation", "test"))
    assert clothing.precision(gallery, queries) >= 0.45
    whitened = imgrec.build("reducer", "pca", n_components=64, whiten=True).fit(gallery.vectors)
    assert clothing.precision(gallery, queries, whitened) >= 0.47


def test_batches_do_not_matter() -> None:
    images = [noise(50, 80, seed) for seed in range(5)]
    alone: Vectors = np.concatenate([hog().extract([image]) for image in images])
    assert np.array_equal(hog().extract(images), alone)
