"""Facts about models in the user's cache folder, so that later runs need not import torch.

    <cache>/timm/resolved/<key>.json    preprocessing and weights of a set of options
    <cache>/timm/exported/<key>/        the model for OpenVINO, and its agreement with torch (see runtimes.py)

Keys are digests of everything that the content depends on. Any of it may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgrec_timm import hubs, models
from imgrec_timm.preprocessing import Preprocessing

if TYPE_CHECKING:
    from imgrec_timm import Timm

FORMAT = 1
"""Version of the cache's format, to be incremented when it changes."""


@dataclass(frozen=True)
class Resolved:
    """The preprocessing and weights that an extractor's options resolve to."""

    preprocessing: dict[str, Any]
    """See `models.preprocessing`."""

    weights: str
    """SHA-256 of the weights' file, or of the values if they are random."""

    weights_file: str | None
    """None for random weights."""

    architecture: str | None = None
    """timm's name of a model from a folder or hub; None for one that timm knows by the name that was given."""

    arguments: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments for timm.create_model that such a model has of its own."""

    def made_of(self, extractor: Timm) -> dict[str, Any]:
        """Model and keyword arguments by timm's names, so that a folder that was moved stays the same space."""
        kwargs = {**self.arguments, **extractor.model_kwargs}
        return {"model": self.architecture or extractor.model, "model_kwargs": kwargs}


def folder() -> Path:
    """This plugin's folder in the user's cache."""
    import platformdirs

    return platformdirs.user_cache_path("imgrec") / "timm"


def key(**parts: Any) -> str:
    """A digest of plain data."""
    text = json.dumps({"format": FORMAT, **parts}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@functools.cache
def version(distribution: str) -> str:
    """The version of an installed distribution, without importing it."""
    return importlib.metadata.version(distribution)


def resolved(extractor: Timm) -> Resolved:
    """Resolve an extractor's options, from the cache if the weights' file is unchanged, else by timm.

    Raises:
        UsageError: see `models.preprocessing`, `models.weights_file` and `models.make`.
    """
    options = extractor.plain_options()
    decisive = "model pretrained checkpoint model_kwargs pooling input_size mean std interpolation crop_pct"
    libraries = [version("timm"), version("torch")]  # torch generates random weights
    parts = {name: options[name] for name in decisive.split()}
    if is_elsewhere := hubs.is_elsewhere(extractor.model):
        parts["config"] = models.digest_of(str(hubs.config_file(extractor.model)))
    file = folder() / "resolved" / f"{key(libraries=libraries, **parts)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = Resolved(**json.loads(file.read_text(encoding="utf-8")))
        Preprocessing(**known.preprocessing, exact=True)  # raises a TypeError if a field is missing
        weights = extractor.checkpoint or known.weights_file
        if weights is None or models.digest_of(weights) == known.weights:
            return known
    preprocessing, weights = models.preprocessing(extractor), models.weights_file(extractor)
    digest = models.digest_of(weights) if weights else models.digest_of_values(models.make(extractor))
    about = models.described(extractor.model)
    own = (about.architecture, about.arguments) if is_elsewhere else (None, {})
    found = Resolved(preprocessing, digest, weights, *own)
    with contextlib.suppress(OSError):  # the cache is not writable: resolved again next time
        write_text(file, json.dumps(asdict(found)))
    return found


def write_text(file: Path, text: str) -> None:
    """Write a file atomically."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=file.parent, prefix=".new-", delete=False
    ) as aside:
        aside.write(text)
    Path(aside.name).replace(file)
