"""Pictures and texts in one space: the models of open_clip."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import imgrec
from imgrec import Image, Vectors, option

if TYPE_CHECKING:
    from imgrec_clip.models import Description, Model

FOLDER = "local-dir:"
"""How open_clip names a model that is a folder."""


@dataclass
class Clip(imgrec.Extractor):
    """CLIP (Radford et al. 2021) and its kin, image and text side: a gallery that can be asked in words.

    Vectors have unit length, as the models were trained for their cosines: Euclidean distances order alike.
    Preprocessing is the model's own, by open_clip itself.
    """

    requires: ClassVar[Mapping[str, str]] = {"open_clip": "imgrec[clip]"}

    model: str = option(
        "ViT-B-32",
        help="name, as open_clip.list_models() has it; or local-dir:FOLDER with an open_clip_config.json",
    )
    pretrained: str | None = option(
        "laion2b_s34b_b79k",
        help="which of the model's weights, downloaded once, and their preprocessing; null: those of CLIP, for "
        "checkpoint=. A local-dir: has its own",
    )
    checkpoint: str | None = option(None, path=True, help="weights from this file: safetensors or torch's own")
    device: str = option(
        "auto", choices=("auto", "cpu", "cuda", "mps"), help="where torch runs", changes_vectors=False
    )
    batch_size: int = option(32, minimum=1, help="images at once through the model", changes_vectors=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model.startswith(FOLDER):  # means the same from elsewhere
            self.model = f"{FOLDER}{Path(self.model.removeprefix(FOLDER)).expanduser().absolute()}"

    def extract(self, images: Sequence[Image]) -> Vectors:
        """The image side's vectors, `float32 (n, dim)`, of unit length."""
        return self._model.of_images(images)

    def extract_text(self, texts: Sequence[str]) -> Vectors:
        """The text side's, in the same space. A text longer than the model reads is cut, with a warning."""
        return self._model.of_texts(texts)

    def identity(self) -> dict[str, Any]:
        """The model, the digest of its weights, and its preprocessing."""
        return self._description.identity

    @functools.cached_property
    def _description(self) -> Description:
        from imgrec_clip import models

        return models.describe(self.model, self.pretrained, self.checkpoint)

    @functools.cached_property
    def _model(self) -> Model:
        from imgrec_clip import models

        return models.Model(self._description, self.device, self.batch_size)


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Extractor]]:
    """This plugin's components."""
    return [Clip]
