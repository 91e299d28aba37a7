"""The contract of extractors."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from imgrec import registry
from imgrec.errors import UsageError
from imgrec.kinds import Extractor, Image, Space, Vectors
from imgrec.testing import kit
from imgrec.testing.kit import Check, require

RESOURCES = frozenset("device batch_size n_jobs num_threads num_workers threads workers".split())
"""Names of options that by convention do not change vectors."""


@dataclass
class Subject:
    """An extractor under test."""

    extractor: Extractor
    alternatives: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def variants(self) -> Iterator[tuple[str, Any, Extractor, bool]]:
        """Extractors with one option changed, each as option, value, extractor and whether vectors may change."""
        for spec in dataclasses.fields(self.extractor):
            may_change = spec.metadata.get("changes_vectors", True) and spec.name not in RESOURCES
            for value in kit.others(self.extractor, spec, self.alternatives):
                try:
                    yield spec.name, value, kit.rebuilt(self.extractor, **{spec.name: value}), may_change
                except UsageError:  # out of range, or incompatible with the other options
                    continue


def picture(height: int, width: int, seed: int = 0) -> Image:
    """A synthetic photograph: smooth colours with a little noise; a large one is a small one repeated."""
    if max(height, width) > 500:
        tile = picture(500, 500, seed)
        return np.tile(tile, (-(-height // 500), -(-width // 500), 1))[:height, :width].copy()
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = [np.sin(x / (20 + 9 * i + 5 * seed) + i) + np.cos(y / (30 - 5 * i) + seed) for i in range(3)]
    noise = rng.normal(0, 10, size=(height, width, 3))
    return np.clip(np.stack(waves, axis=2) * 60 + 128 + noise, 0, 255).astype(np.uint8)


def plain(value: int, height: int = 40, width: int = 60) -> Image:
    """An image of a single grey."""
    return np.full((height, width, 3), value, np.uint8)


def sample() -> list[Image]:
    """Five images of several sizes."""
    return [picture(60, 80, 1), picture(64, 64, 2), picture(120, 90, 3), plain(128), picture(33, 47, 4)]


def check_extractor(extractor: Extractor, *, alternatives: Mapping[str, Sequence[Any]] | None = None) -> None:
    """Check that an extractor keeps its contract.

    Args:
        extractor: an instance, with the options to test, of a class defined at module level.
        alternatives: other values of options to try, such as `{"model": ["resnet18"]}`; for choices, numbers and
            booleans they are generated.

    Raises:
        ContractError: any check failed.

    >>> import imgrec
    >>> check_extractor(imgrec.build("extractor", "colour", bins=2))
    """
    kit.run(f"extractor {extractor.name}", CHECKS, Subject(extractor, alternatives or {}))


def _extract(extractor: Extractor, images: Sequence[Image]) -> Vectors:
    """Vectors of images, with their form verified."""
    vectors: Any = extractor.extract(images)
    form = f"{vectors.dtype} {vectors.shape}" if isinstance(vectors, np.ndarray) else type(vectors).__name__
    is_matrix = isinstance(vectors, np.ndarray) and vectors.ndim == 2 and len(vectors) == len(images)
    require(is_matrix, f"{form} for {len(images)} images")
    require(vectors.dtype == np.float32 and vectors.shape[1] > 0, f"{form} for {len(images)} images")
    return vectors  # type: ignore[no-any-return]


# --- the checks ---------------------------------------------------------------------------------------------


def vectors_are_a_matrix(subject: Subject) -> None:
    """`extract` returns float32 (n, dim), one row per image, and dim is the same for all images."""
    lengths = {_extract(subject.extractor, sample()[:count]).shape[1] for count in (1, 2, 5)}
    require(len(lengths) == 1, f"vectors of {sorted(lengths)} values")


def an_image_has_one_vector(subject: Subject) -> None:
    """The same images have the same vectors each time: what is random takes its seed from an option."""
    first, second = (_extract(subject.extractor, sample()) for _ in range(2))
    apart = kit.differ(
        np.nan_to_num(first), np.nan_to_num(second)
    )  # other checks look at values that are no numbers
    require(
        apart <= kit.TOLERANCE,
        f"it is random: the vectors of the same images, extracted twice, are {apart:.1e} apart",
    )


def vectors_tell_images_apart(subject: Subject) -> None:
    """Entirely different images have different vectors."""
    vectors = _extract(subject.extractor, sample())
    require((vectors != vectors[0]).any(), f"the same vector for {len(vectors)} images")


def values_are_finite(subject: Subject) -> None:
    """Every value is finite, also for images that are all black, white or grey."""
    for name, image in {
        "black": plain(0),
        "white": plain(255),
        "grey": plain(77),
        "coloured": picture(50, 70),
    }.items():
        vector = _extract(subject.extractor, [image])
        require(np.isfinite(vector).all(), f"{vector[~np.isfinite(vector)][:3]} of a {name} image")


def any_size_is_taken(subject: Subject) -> None:
    """Images may have any size from 1x1 to 4,000x3,000 pixels and any shape."""
    expected = _extract(subject.extractor, sample()[:1]).shape[1]
    for height, width in ((1, 1), (1, 2), (1, 400), (400, 1), (7, 5), (3000, 4000)):
        try:
            vectors = _extract(subject.extractor, [picture(height, width)])
        except Exception as error:
            seen = f"{type(error).__name__} for an image of {width}x{height}: {error}"
            raise kit.SeenError(seen) from error
        require(vectors.shape[1] == expected, f"{vectors.shape[1]} values for {width}x{height}, else {expected}")
        require(np.isfinite(vectors).all(), f"values that are not finite for an image of {width}x{height}")


def a_vector_is_the_same_alone_and_in_any_batch(subject: Subject) -> None:
    """An image has the same vector alone, in any batch and in any order, within a relative error of 1e-5."""
    images = sample() * 20
    alone = np.concatenate([_extract(subject.extractor, [image]) for image in sample()] * 20)
    together = _extract(subject.extractor, images)
    apart = kit.differ(alone, together)
    require(apart <= kit.TOLERANCE, f"in a batch of {len(images)}: {apart:.1e} from the vector alone")
    order = np.random.default_rng(0).permutation(len(images))
    apart = kit.differ(together[order], _extract(subject.extractor, [images[i] for i in order]))
    require(apart <= kit.TOLERANCE, f"in another order: {apart:.1e} apart")


def a_vector_is_the_same_in_another_process(subject: Subject) -> None:
    """The same options and image give the same vector and the same space, also in another process."""
    here = _extract(subject.extractor, sample())
    apart = kit.differ(here, _extract(kit.rebuilt(subject.extractor), sample()))
    require(apart <= kit.TOLERANCE, f"another extractor of the same options: {apart:.1e} apart")
    report = kit.in_new_process(subject.extractor, "extract", sample())
    apart = kit.differ(here, report["vectors"])
    require(apart <= kit.TOLERANCE, f"in another process: {apart:.1e} apart")
    key = Space.of(subject.extractor).key
    require(report["space"] == key, f"the space is {key} here and {report['space']} in another process")


def images_stay_as_they_are(subject: Subject) -> None:
    """Images are not modified, as several extractors share them."""
    images = sample()
    subject.extractor.extract(images)
    changed = [
        i for i, (one, other) in enumerate(zip(images, sample(), strict=True)) if not np.array_equal(one, other)
    ]
    require(not changed, f"image {changed[:1]} was changed")


def texts_are_vectors_of_the_same_space(subject: Subject) -> None:
    """`extract_text`, if offered, returns float32 (n, dim) of the images' dim: finite, alone as in a batch."""
    if not type(subject.extractor).takes_text():
        return
    texts = ["a red hat", "hat", "zwei rote Hüte 帽子", " ".join(["hat"] * 500)]
    vectors: Any = subject.extractor.extract_text(texts)
    seen = f"{getattr(vectors, 'dtype', type(vectors).__name__)} {np.shape(vectors)} for {len(texts)} texts"
    wanted = (len(texts), _extract(subject.extractor, sample()[:1]).shape[1])
    require(getattr(vectors, "dtype", None) == np.float32 and vectors.shape == wanted, f"{seen}, not {wanted}")
    require(np.isfinite(vectors).all(), "values that are not finite")
    require((vectors[0] != vectors[1]).any(), "the same vector for different texts")
    apart = kit.differ(vectors, np.concatenate([subject.extractor.extract_text([text]) for text in texts]))
    require(apart <= kit.TOLERANCE, f"alone {apart:.1e} from the vector in a batch")


def side_says_how_large(subject: Subject) -> None:
    """`side` is the shorter side in pixels that is enough, a positive integer, or None for full size."""
    side: Any = subject.extractor.side
    require(side is None or (type(side) is int and side > 0), f"{side!r}")
    subject.extractor.extract(sample()[:1])
    require(subject.extractor.side == side, f"{side!r}, and after the first images {subject.extractor.side!r}")


def options_come_through_yaml(subject: Subject) -> None:
    """Options, and so the space, are unchanged after a round trip through YAML."""
    kit.check_options(subject.extractor)
    space = Space.of(subject.extractor)
    recorded = Space.from_json(json.loads(json.dumps(space.to_json())))
    again = Space.of(registry.composed(type(subject.extractor), recorded.options))
    require(again.key == space.key, f"{space.key} became {again.key} from the options that a gallery keeps")


def _compared(subject: Subject) -> Iterator[tuple[str, bool, bool, float]]:
    """For each variant: `option=value`, whether vectors may change, whether the identity does, the difference."""
    images = sample()
    vectors, key = _extract(subject.extractor, images), Space.of(subject.extractor).key
    for name, value, variant, may_change in subject.variants():
        try:
            other, apart = Space.of(variant).key, kit.differ(vectors, _extract(variant, images))
        except UsageError:  # a device or weights that are not available
            continue
        except Exception as error:
            raise kit.SeenError(f"with {name}={value!r}: {type(error).__name__}: {error}") from error
        yield f"{name}={value!r}", may_change, other != key, apart


def identity_follows_what_changes_vectors(subject: Subject) -> None:
    """An option that changes vectors changes the identity, so that different vectors are never compared."""
    for option, may_change, identity_differs, apart in _compared(subject):
        if may_change and not identity_differs:
            require(apart <= kit.TOLERANCE, f"{option} changes vectors by {apart:.1e}, and not the identity")


def identity_ignores_what_does_not(subject: Subject) -> None:
    """Options that do not change vectors do not change the identity.

    These are `device`, `batch_size` and the like, and all declared with changes_vectors=False.
    """
    for option, may_change, identity_differs, apart in _compared(subject):
        if not may_change:
            require(
                not identity_differs, f"{option} changes the identity: is it declared with changes_vectors=False?"
            )
            require(apart <= kit.TOLERANCE, f"{option} changes vectors by {apart:.1e}")


def module_is_light(subject: Subject) -> None:
    """Importing the module and building the extractor imports no heavy library before its first use."""
    kit.check_light(subject.extractor)


CHECKS = (
    Check(vectors_are_a_matrix),
    Check(an_image_has_one_vector, is_gate=True),
    *map(
        Check,
        (
            images_stay_as_they_are,
            vectors_tell_images_apart,
            values_are_finite,
            any_size_is_taken,
            a_vector_is_the_same_alone_and_in_any_batch,
            a_vector_is_the_same_in_another_process,
            texts_are_vectors_of_the_same_space,
            side_says_how_large,
            options_come_through_yaml,
            identity_follows_what_changes_vectors,
            identity_ignores_what_does_not,
            module_is_light,
        ),
    ),
)
