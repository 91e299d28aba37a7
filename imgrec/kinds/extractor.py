"""Extractors turn images into vectors, and every vector belongs to a space."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

import numpy as np
import numpy.typing as npt

from imgrec.errors import ImgrecError
from imgrec.kinds.component import Component, Group, plain

if TYPE_CHECKING:
    from imgrec.kinds.reducer import Reducer

Image = npt.NDArray[np.uint8]
"""An image: `uint8 (height, width, 3)`, RGB, upright."""


Vectors = npt.NDArray[np.float32]
"""Vectors as rows: `float32 (n, dim)`."""


NOISE = 1e-5
"""Vectors of equal pixels are apart by at most this share of their length, since rounding depends on the batch."""


DECODING_VERSION = 1
"""The version of the rules in `images.decoding`, part of every space: raised when the pixels of all images change.

For a change of some formats see `images.versions`.
"""


class FusionSpec(TypedDict):
    """A fusion as a store records it: JSON data by the names of its terms."""

    weights: dict[str, float]
    spaces: dict[str, str]
    """The key of each space."""

    projections: dict[str, list[Any]]
    """Name and options of the reducer of each projected term."""

    metrics: dict[str, str]
    projected_from: int | dict[str, int]
    """From how many images on vectors are projected; by term if these numbers differ."""


@dataclass
class Extractor(Component):
    """Turns images into vectors.

    >>> import numpy as np, imgrec
    >>> extractor = imgrec.build("extractor", "colour", bins=2)
    >>> extractor.extract([np.zeros((4, 6, 3), np.uint8)])
    array([[1., 0., 0., 0., 0., 0., 0., 0.]], dtype=float32)
    """

    kind: ClassVar[str] = "extractor"
    groups: ClassVar[tuple[Group, ...]] = (Group("extractor"),)

    sees: ClassVar[str | None] = None
    """What alone is compared, if it is not what a picture shows: `shapes`, `colours`. A new gallery is told so."""

    version: ClassVar[int] = 1
    """Raise it when the same options no longer give the same vectors."""

    @property
    def side(self) -> int | None:
        """The shorter side, in pixels, that is enough; None for full size.

        Decoding may then stop at a half, a quarter or an eighth of the resolution, never below this side. It must
        depend on options only.
        """
        return None

    @abstractmethod
    def extract(self, images: Sequence[Image]) -> Vectors:
        """Vectors of images of any sizes.

        Args:
            images: each `uint8 (height, width, 3)`, RGB, upright; at least one.

        Returns:
            `float32 (len(images), dim)`, finite. An image has the same vector alone and in any batch, to 1e-5.
        """

    def extract_text(self, texts: Sequence[str]) -> Vectors:
        """Vectors of texts in the space of the images, for searching these by words; may be left out.

        Args:
            texts: none empty; at least one.

        Returns:
            `float32 (len(texts), dim)`, finite. A text has the same vector alone and in any batch, to 1e-5.
        """
        raise NotImplementedError(f"extractor {self.name} takes no text")

    @classmethod
    def takes_text(cls) -> bool:
        """Whether it has `extract_text`."""
        return cls.extract_text is not Extractor.extract_text

    def terms(self) -> dict[str, TermSpec]:
        """The terms of the extractor's distance by name, one for each space it fills: by default itself, named ''.

        An extractor made of several returns one for each.
        """
        return {"": TermSpec(self)}

    def fusion_spec(self) -> FusionSpec | None:
        """What a store records of several terms, so that searches use all of them by default; None for one."""
        return None

    def identity(self) -> dict[str, Any]:
        """Everything that determines a vector's values, as JSON data: by default the options that change vectors.

        An extractor with weights adds their digest, as `weights`; one whose library sets defaults adds the values
        in force. Names that may come to mean something else are left out.
        """
        return {
            spec.name: getattr(self, spec.name)
            for spec in dataclasses.fields(self)
            if spec.metadata.get("changes_vectors", True)
        }


@dataclass(frozen=True)
class TermSpec:
    """One term of an extractor's distance."""

    extractor: Extractor
    weight: float = 1.0
    """Its share, from 0 on; distances of several terms are divided by the usual one in each term's space."""

    metric: str | None = None
    """Its own metric; None for the one that is asked for."""

    projection: Reducer | None = None
    projected_from: int = 0
    """With fewer images, copies not counted, vectors are not projected."""


@dataclass(frozen=True)
class Recorded:
    """Stands for the extractor that a gallery recorded, with some options changed."""

    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Space:
    """The identity of a vector space, and what it takes to extract into it again.

    Vectors of different spaces are never compared.
    """

    key: str
    """The extractor's name and a digest of the identity: `colour-5b0e5a83c1d2`."""

    extractor: str
    options: dict[str, Any] = field(compare=False)
    identity: dict[str, Any] = field(compare=False)

    @classmethod
    def of(cls, extractor: Extractor) -> Space:
        """The space that a configured extractor fills."""
        identity = {
            "extractor": extractor.name,
            "version": extractor.version,
            "decoding": DECODING_VERSION,
            **extractor.identity(),
        }
        identity = json.loads(json.dumps(identity, default=_identified))
        options = {name: _absolute(extractor, name, value) for name, value in extractor.plain_options().items()}
        return cls.identified(extractor.name, options, identity)

    @classmethod
    def identified(cls, extractor: str, options: dict[str, Any], identity: dict[str, Any]) -> Space:
        """The space of an identity, which its key is a digest of."""
        canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(canonical.encode()).hexdigest()[:12]
        return cls(f"{extractor}-{digest}", extractor, options, identity)

    def to_json(self) -> dict[str, Any]:
        """Plain data for a store to keep; the inverse of `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Space:
        """The space that `to_json` made data of.

        Raises:
            ValueError: the data are not those of a space.
        """
        kinds = {"key": str, "extractor": str, "options": dict, "identity": dict}
        is_one = isinstance(data, dict) and data.keys() == kinds.keys()
        if not (is_one and all(isinstance(data[name], kind) for name, kind in kinds.items())):  # type: ignore[index]
            raise ValueError("a space has key, extractor, options and identity, and nothing else")
        return cls(**data)  # type: ignore[arg-type]


def _identified(value: object) -> Any:
    """As `plain`, but an extractor inside another becomes its identity."""
    if isinstance(value, Extractor):
        return {"extractor": value.name, "version": value.version, **value.identity()}
    return plain(value)


def check_vectors(vectors: object, count: int, extractor: Extractor, of: str = "images") -> Vectors:
    """Check what an extractor returned for `count` images, or texts, against its contract.

    Raises:
        ImgrecError: saying what was returned.
    """
    if not (isinstance(vectors, np.ndarray) and vectors.dtype == np.float32 and vectors.ndim == 2):
        seen = f"{vectors.dtype} {vectors.shape}" if isinstance(vectors, np.ndarray) else type(vectors).__name__
        raise ImgrecError(f"extractor {extractor.name} returned {seen}, not float32 (n, dim)")
    if len(vectors) != count or not vectors.shape[1]:
        raise ImgrecError(f"extractor {extractor.name} returned {vectors.shape} vectors for {count} {of}")
    if not np.isfinite(vectors).all():
        raise ImgrecError(f"extractor {extractor.name} returned values that are not finite")
    return vectors


def are_equal(vectors: npt.NDArray[Any], others: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether vectors `(n, dim)` are those in the same rows of others, or one other `(dim,)`, but for `NOISE`.

    >>> are_equal(np.array([[1.0, 0], [1, 1e-6], [0, 0]]), np.array([1.0, 0])).tolist()
    [True, True, False]
    """
    points, exact = vectors.astype(np.float64), others.astype(np.float64)
    longest = np.maximum(np.linalg.norm(points, axis=1), np.linalg.norm(exact, axis=-1))
    close: npt.NDArray[np.bool_] = np.linalg.norm(points - exact, axis=1) <= NOISE * longest
    return close


def _absolute(component: Component, name: str, value: Any) -> Any:
    """The value of an option, made absolute if it is a path."""
    metadata = {spec.name: spec.metadata for spec in dataclasses.fields(component)}[name]
    return str(Path(value).absolute()) if metadata.get("path") and value else value
