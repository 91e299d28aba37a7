"""Calls extractors, and checks their contract."""

from __future__ import annotations

from collections.abc import Sequence

from imgrec.errors import ImgrecError, PluginFailedError
from imgrec.kinds import Extractor, Image, Vectors
from imgrec.kinds.extractor import check_vectors
from imgrec.registry import origin_of


def extract(extractor: Extractor, images: Sequence[Image], names: Sequence[str]) -> Vectors:
    """Extract vectors of images, `float32 (n, dim)`, and check the extractor's contract.

    Args:
        extractor: any.
        images: of the size that it asks for.
        names: of the images, for error messages.

    Raises:
        ImgrecError: the extractor failed; the message names it, its distribution and the image.
    """
    try:
        return check_vectors(extractor.extract(images), len(images), extractor)
    except ImgrecError:
        raise
    except Exception as error:
        failing = (name for image, name in zip(images, names, strict=True) if _fails_alone(extractor, image))
        where = next(failing, None) or f"a batch of {len(names)} that begins with {names[0]}"
        name = f"extractor {extractor.name} of {origin_of(extractor)}"
        raise PluginFailedError(f"{name} failed on {where}: {type(error).__name__}: {error}") from error


def extract_text(extractor: Extractor, text: str) -> Vectors:
    """The vector of a text, `float32 (dim,)`, with the extractor's contract checked.

    Raises:
        ImgrecError: the extractor failed; the message names it, its distribution and the text.
    """
    try:
        vector: Vectors = check_vectors(extractor.extract_text([text]), 1, extractor, "texts")[0]
    except ImgrecError:
        raise
    except Exception as error:
        name = f"extractor {extractor.name} of {origin_of(extractor)}"
        raise PluginFailedError(f"{name} failed on {text!r:.60}: {type(error).__name__}: {error}") from error
    return vector


def _fails_alone(extractor: Extractor, image: Image) -> bool:
    try:
        extractor.extract([image])
    except Exception:
        return True
    return False
