"""new_plugin: writes a template for a plugin's distribution."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from imgrec import presets, registry
from imgrec.errors import UsageError
from imgrec.installation import pip_install
from imgrec.kinds import KINDS, Stage
from imgrec.kinds.checks import NO_NAMES
from imgrec.options import option
from imgrec.run import Run


@dataclass(kw_only=True)
class NewPlugin(Stage):
    """Write a plugin of your own: a distribution that works, with its test, for you to change."""

    positional: ClassVar[str | None] = "name"

    name: str = option(help="lower-case letters, digits and _: what the plugin will be chosen by")  # type: ignore[misc]
    kind: str = option("extractor", choices=tuple(KINDS), help="what it will be")  # type: ignore[misc]
    folder: str | None = option(None, path=True, is_local=True, help="where to; null: imgrec-NAME, here")

    def execute(self, run: Run) -> None:
        """Write the files, list them, and print what to do next."""
        folder = Path(self.folder or f"imgrec-{self.name}")
        written = new_plugin(self.kind, self.name, folder)
        run.counts.update(files=len(written))
        run.write_json("results.json", {"folder": str(folder.absolute()), "files": written})
        run.print("\n".join(str(folder / file) for file in written))
        install = f"{pip_install()} -e {shlex.quote(f'{folder}[test]')}"
        run.note(f"next: {install} && pytest {shlex.quote(str(folder))}; then put your own in its place")


def new_plugin(kind: str, name: str, folder: Path) -> list[str]:
    """Write a distribution with one working plugin, which passes the checks of its kind.

    Args:
        kind: one of `imgrec.kinds.KINDS`.
        name: the plugin's name; the distribution is called `imgrec-NAME`.
        folder: where to write; created if needed, else it must be empty.

    Returns:
        The files, relative to the folder.

    Raises:
        UsageError: the name is taken or invalid, or the folder is not empty.
    """
    if name in NO_NAMES or keyword.iskeyword(name):
        raise UsageError(f"name={name} means something else to Python or YAML: take another name")
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise UsageError(
            f"name={name} cannot be a plugin's: lower-case letters and digits make one, with _ in between"
        )
    if name in presets.names(kind):
        origin = registry.available(kind)[name].origin if name in registry.available(kind) else "a preset"
        raise UsageError(f"{kind}={name} is there already ({origin}): take another name")
    if importlib.util.find_spec(f"imgrec_{name}") is not None:
        raise UsageError(f"the module imgrec_{name} is installed already: take another name")
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{folder} is there already: remove it, or give another folder=")
    template = _template(kind)
    old = _name_in(template)
    files = {
        file: file.read_text(encoding="utf-8") for file in sorted(template.rglob("*")) if file.suffix in SUFFIXES
    }
    taken = {word for file, text in files.items() if file.suffix == ".py" for word in re.findall(r"\w+", text)}
    if not taken.isdisjoint((name, _class_name(name))):
        raise UsageError(f"name={name} is a word of what is written: take another name")
    written = []
    try:
        for file, text in files.items():
            to = _renamed(str(file.relative_to(template)), old, name)
            (folder / to).parent.mkdir(parents=True, exist_ok=True)
            (folder / to).write_text(_renamed(text, old, name), encoding="utf-8")
            written.append(to)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}") from None
    return written


SUFFIXES = (".py", ".toml", ".md", ".yaml")
"""Suffixes of the template's files that are copied."""


def _template(kind: str) -> Path:
    """A tested third-party distribution used as template: inside the package in a wheel, else among the tests."""
    package = Path(__file__).parent.parent
    inside = package / "templates"
    return (inside if inside.is_dir() else package.parent / "tests" / "thirdparty") / kind


def _name_in(template: Path) -> str:
    """The name of a template's plugin, from its only entry point."""
    project = tomllib.loads((template / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (name,) = project["entry-points"]["imgrec"]
    return str(name)


def _renamed(text: str, old: str, new: str) -> str:
    """Rename a plugin, and its class, in a text.

    >>> _renamed("from imgrec_lbp import LBP  # alb", "lbp", "my_foo")
    'from imgrec_my_foo import MyFoo  # alb'
    """
    name = re.compile(rf"(?<![A-Za-z0-9]){old}(?![A-Za-z0-9])", re.IGNORECASE)
    return name.sub(lambda found: new if found[0].islower() else _class_name(new), text)


def _class_name(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))
