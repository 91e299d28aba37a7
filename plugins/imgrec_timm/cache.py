"""What is found out once about a model and kept in the user's cache folder, so that later runs import no torch.

    <cache>/timm/resolved/<key>.json    preprocessing and weights of a set of options
    <cache>/timm/exported/<key>/        the model for OpenVINO, and how it compares with torch (see runtimes.py)

Keys are digests of all that decides the content. Everything may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgrec_timm import models
from imgrec_timm.preprocessing import Preprocessing

if TYPE_CHECKING:
    from imgrec_timm import Timm

FORMAT = 1
"""Of what is kept. Raised when it changes."""


@dataclass(frozen=True)
class Resolved:
    """What an extractor's options come to."""

    preprocessing: dict[str, Any]
    """See `models.preprocessing`."""

    weights: str
    """SHA-256 of the weights' file; of the values themselves where they are random."""

    weights_file: str | None
    """None where they are random."""


def folder() -> Path:
    """Where this plugin keeps things for the user."""
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
    """From the cache, as long as the weights' file is what it was; else from timm.

    Raises:
        UsageError: as `models.preprocessing`, `models.weights_file` and `models.make`.
    """
    options = extractor.plain_options()
    decisive = "model pretrained checkpoint model_kwargs pooling input_size mean std interpolation crop_pct"
    libraries = [version("timm"), version("torch")]  # the latter makes random weights
    file = folder() / "resolved" / f"{key(libraries=libraries, **{n: options[n] for n in decisive.split()})}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = Resolved(**json.loads(file.read_text(encoding="utf-8")))
        Preprocessing(**known.preprocessing, exact=True)  # a TypeError where it lacks something
        weights = extractor.checkpoint or known.weights_file
        if weights is None or models.digest_of(weights) == known.weights:
            return known
    preprocessing, weights = models.preprocessing(extractor), models.weights_file(extractor)
    digest = models.digest_of(weights) if weights else models.digest_of_values(models.make(extractor))
    found = Resolved(preprocessing, digest, weights)
    with contextlib.suppress(OSError):  # no cache folder can be written: it is found out again next time
        write_text(file, json.dumps(asdict(found)))
    return found


def write_text(file: Path, text: str) -> None:
    """A file that is there whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=file.parent, prefix=".new-", delete=False
    ) as aside:
        aside.write(text)
    Path(aside.name).replace(file)
