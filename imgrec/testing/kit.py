"""Shared by the checks of all kinds: running them, reporting failures, and the contract of all components."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from imgrec.cli import config
from imgrec.errors import PluginError
from imgrec.kinds import Component, Stage
from imgrec.kinds.checks import checked_class
from imgrec.options import allowed_types, choices_of, type_hints
from imgrec.testing import process

Subject = TypeVar("Subject")
C = TypeVar("C", bound=Component)

HEAVY = frozenset(
    "PIL cv2 faiss hydra jax matplotlib mlflow numba omegaconf onnxruntime open_clip openTSNE openvino pandas "
    "pyarrow scipy skimage sklearn sqlalchemy tensorflow timm torch torchvision transformers umap".split()
)
"""Libraries to be imported lazily, as every run imports the modules of all plugins, even for `--help`."""

IMGREC = Path(__file__).parent.parent
"""The folder of the package."""

TOLERANCE = 1e-5
"""The relative difference up to which two vectors count as equal."""


class ContractError(AssertionError):
    """A plugin breaks its contract. The message lists each failed check with its contract and what was seen."""

    def __init__(self, title: str, failures: Mapping[str, str]) -> None:
        self.failures = dict(failures)
        """The messages of the failed checks, by name."""
        count = f"{len(failures)} check{'s' if len(failures) != 1 else ''}"
        super().__init__(f"{title} fails {count} of its contract\n" + "\n".join(failures.values()))


class SeenError(Exception):
    """A check failed; the message is what was seen."""


def require(condition: bool | np.bool_, seen: str) -> None:
    """Fail a check unless a condition holds.

    Raises:
        SeenError: with `seen` as its message.
    """
    if not condition:
        raise SeenError(seen)


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One check of a contract."""

    function: Callable[[Subject], None]

    is_gate: bool = False
    """Whether all checks after it would fail alike if it fails, so that they are not run."""

    @property
    def name(self) -> str:
        """The name under which a failure is listed."""
        return self.function.__name__

    @property
    def contract(self) -> str:
        """The contract in a sentence or two."""
        return " ".join((inspect.getdoc(self.function) or "").split())


def run(title: str, checks: Sequence[Check[Subject]], subject: Subject) -> None:
    """Run all checks, up to the first or a gate that fails.

    Raises:
        ContractError: any check failed; it lists all failures.
    """
    __tracebackhide__ = True  # pytest then shows a plugin's author the message instead of this function
    failures: dict[str, str] = {}
    for check in checks:
        try:
            check.function(subject)
        except (Exception, SystemExit) as error:
            is_seen = isinstance(error, SeenError)
            message = str(error) if is_seen else f"{type(error).__name__} was raised: {error}"
            raised = error.__cause__ if is_seen else error
            if raised is not None and (place := _place_in_plugin(raised)):
                message += f" ({place})"
            failures[check.name] = f"- {check.name}\n    contract: {check.contract}\n    seen: {message}"
            if check is checks[0] or check.is_gate:
                break
    if failures:
        raise ContractError(title, failures)


def _place_in_plugin(error: BaseException) -> str | None:
    """File and line in the plugin's module where an error comes from; None if it comes from imgrec itself.

    The plugin's module is the first outside imgrec that the checks have called.
    """
    frames = traceback.extract_tb(error.__traceback__)
    outside = [frame for frame in frames if IMGREC not in Path(frame.filename).parents]
    in_plugin = [frame for frame in frames if outside and frame.filename == outside[0].filename]
    return f"{in_plugin[-1].filename}:{in_plugin[-1].lineno}" if in_plugin else None


# --- the same for every component ---------------------------------------------------------------------------


def rebuilt(component: C, **changes: Any) -> C:
    """A copy of a component with some options changed."""
    return type(component)(**{**component.options(), **changes})


def check_class(component: Component) -> None:
    """Check that a component's class can be listed, chosen and built."""
    try:
        checked_class(type(component))
    except PluginError as error:
        raise SeenError(str(error)) from error


def check_options(component: Component) -> None:
    """Check that a component's options can be listed and survive a round trip through YAML."""
    check_class(component)
    for name, value in config.through_yaml(component).items():
        wanted = component.options()[name]
        require(value == wanted, f"option {name} was {wanted!r} and came back as {value!r}")


def check_light(component: Component) -> None:
    """Check that importing a component's module and building the component imports no heavy library.

    A stage is not built, as its options may not be plain data.
    """
    modules = set(in_new_process(component, "import" if isinstance(component, Stage) else "build")["modules"])
    loaded = HEAVY & {name.partition(".")[0] for name in modules}
    if "imgrec.testing" in modules:  # a class in a test or script, which may import these
        loaded -= {"PIL", "hydra", "omegaconf"}
    require(not loaded, f"{', '.join(sorted(loaded))} was imported")


def write_pictures(folder: Path) -> None:
    """Write nine small, distinct pictures to three folders, `a`, `b` and `c`, similar within each folder."""
    import PIL.Image

    rng = np.random.default_rng(0)
    for name, colour in {"a": (200, 60, 40), "b": (40, 160, 70), "c": (50, 70, 190)}.items():
        (folder / name).mkdir(parents=True)
        for number in range(3):
            noise = rng.normal(0, 20 + 5 * number, size=(48, 64, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            PIL.Image.fromarray(pixels).save(folder / name / f"{number}.png")


def in_new_process(component: Component, task: str, images: Iterable[npt.NDArray[Any]] = ()) -> dict[str, Any]:
    """The report of `process.py` on the component, rebuilt from its options in a new Python process.

    Raises:
        SeenError: the class cannot be found there, or the process fails.
    """
    cls = type(component)
    require("<locals>" not in cls.__qualname__, f"{cls.__qualname__} is inside a function: no process can find it")
    request = {
        "task": task,
        "module": cls.__module__,
        "file": inspect.getfile(cls),
        "class": cls.__qualname__,
        "options": {} if isinstance(component, Stage) else component.plain_options(),
    }
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "images.npz"), **{str(i): image for i, image in enumerate(images)})  # type: ignore[arg-type]
        done = subprocess.run(
            # -P: do not put the folder of process.py on sys.path
            [sys.executable, "-P", process.__file__, folder],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
        )
        last = (done.stderr.strip() or "nothing was said").splitlines()[-1]
        require(done.returncode == 0, f"in a new process: {last}")
        report: dict[str, Any] = json.loads(Path(folder, "report.json").read_text())
        if (vectors := Path(folder, "vectors.npy")).exists():
            report["vectors"] = np.load(vectors, allow_pickle=False)
        return report


def differ(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """The largest relative difference between rows of two matrices.

    It is infinite if their shapes differ, or values are not finite.

    >>> differ(np.array([[3.0, 4.0]]), np.array([[3.0, 4.5]]))
    0.1
    """
    if one.shape != other.shape or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return float("inf")
    lengths = np.linalg.norm(one.astype(np.float64), axis=1)
    apart = np.linalg.norm(one.astype(np.float64) - other, axis=1)
    return float(np.max(apart / np.where(lengths > 0, lengths, 1), initial=0))


def others(component: Component, spec: dataclasses.Field[Any], given: Mapping[str, Sequence[Any]]) -> list[Any]:
    """Other values of an option to try: those given, else some chosen by its type and range."""
    value = getattr(component, spec.name)
    if spec.name in given:
        return [each for each in given[spec.name] if each != value]
    if choices := choices_of(spec.metadata):
        return [each for each in choices if each != value]
    for kind in allowed_types(type_hints(type(component))[spec.name]):
        if isinstance(kind, type) and issubclass(kind, Enum):
            return [each for each in kind if each is not value]
        if value is None and kind in (int, float):  # not the minimum, which may be equivalent to None
            return [kind(max(2, spec.metadata.get("minimum") or 0))]
        if value is None and kind is bool:
            return [True, False]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1] if value > 1 else [value + 1]
    if isinstance(value, float):
        return [value * 1.5 + 0.25, value / 2]
    return []
