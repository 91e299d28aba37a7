"""YAML presets of imgrec, of plugins and of the user, and what can be chosen in each config group."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgrec import registry
from imgrec.errors import PluginError, UsageError
from imgrec.kinds import GROUPS, KINDS, Stage, kind_of
from imgrec.options import component_fields, holds_several


@dataclass(frozen=True)
class ConfFolder:
    """A folder of YAML files, laid out like `conf/`, and where it comes from."""

    path: str
    origin: str


@functools.cache
def conf_folders() -> list[ConfFolder]:
    """The folders of YAML files: imgrec's own, then those of plugins (`imgrec_conf_packages`)."""
    here = Path(__file__).parent
    inside = here / "conf"  # in a wheel; in a checkout it lies beside the package
    own = ConfFolder(str(inside if inside.is_dir() else here.parent / "conf"), "imgrec")
    return [own, *registry.ask("imgrec_conf_packages", "presets", _folders_of)]


def _folders_of(packages: Any, source: registry.Origin) -> Iterator[ConfFolder]:
    if isinstance(packages, str):
        raise PluginError(f"imgrec_conf_packages returned {packages!r}: it returns a list")
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise PluginError(f"there is no package {package!r}")
        yield from (ConfFolder(folder, registry.origin(source)) for folder in spec.submodule_search_locations)


def _plugins(group: str) -> dict[str, registry.Plugin]:
    """The plugins that a config group chooses from; none for a folder that is no group of components."""
    return registry.available(kind_of(group)) if group in GROUPS else {}


def files(group: str, user_folders: Iterable[str] = ()) -> dict[str, Path]:
    """The YAML files of a config group by name; the user's take precedence over imgrec's and the plugins'.

    Raises:
        UsageError: two plugins bring a preset of one name, or one has the name of a plugin.
    """
    claimed = {name: plugin.origin for name, plugin in _plugins(group).items()}
    found: dict[str, Path] = {}
    for folder in conf_folders():
        for file in sorted(Path(folder.path, group).glob("*.yaml")):
            if file.stem in claimed:
                raise UsageError(
                    f"two plugins claim {group}={file.stem}: {claimed[file.stem]} and {folder.origin}; "
                    "uninstall one"
                )
            claimed[file.stem], found[file.stem] = folder.origin, file
    for user_folder in reversed(list(user_folders)):
        found |= {file.stem: file for file in sorted(Path(user_folder, group).glob("*.yaml"))}
    return found


def begins_with(group: str, name: str, user_folders: Iterable[str] = ()) -> str | None:
    """The plugin that a choice stands for: itself, or the one that a preset extends; None if none."""
    _, begins = _presets_under(group, name, user_folders)
    return begins


def settings(group: str, name: str, user_folders: Iterable[str] = ()) -> dict[str, Any]:
    """The options set by a preset and by the presets that it extends; empty for a plugin."""
    found: dict[str, Any] = {}
    for file in reversed(_presets_under(group, name, user_folders)[0]):
        found = _merged(found, _read(file))
    return {option: value for option, value in found.items() if option != "defaults"}


def inside(group: str, name: str, user_folders: Iterable[str] = ()) -> dict[str, str]:
    """What a preset chooses for nested components, by their dotted names: `{"parts.hog": "hog"}`."""
    found: dict[str, str] = {}
    for file in reversed(_presets_under(group, name, user_folders)[0]):
        for entry in _defaults(file):
            for key, choice in entry.items() if isinstance(entry, Mapping) else ():
                path = str(key).rpartition("@")[2]
                if path != key and isinstance(choice, str):
                    found[path] = choice
    return found


def _read(file: Path) -> Mapping[str, Any]:
    """The options by name in a YAML file; raises a UsageError if it holds anything else."""
    import yaml

    try:
        safe = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # as yaml.safe_load does, eight times as fast
        read = safe(file.read_text(encoding="utf-8")).get_single_data() or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not understood: {' '.join(str(error).split())}") from error
    if not isinstance(read, Mapping):
        raise UsageError(f"{file} holds {type(read).__name__}, not options by name")
    return read


def _defaults(file: Path) -> list[Any]:
    defaults = _read(file).get("defaults") or []
    return defaults if isinstance(defaults, list) else []


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Merge configurations as Hydra does: mappings key by key."""
    both = {
        key: _merged(one[key], value)
        if isinstance(value, Mapping) and isinstance(one.get(key), Mapping)
        else value
        for key, value in other.items()
    }
    return {**one, **both}


def comment(file: Path) -> str:
    """The comment at the head of a preset, which describes it in one line."""
    line = file.read_text(encoding="utf-8").partition("\n")[0]
    return line.removeprefix("#").strip() if line.startswith("#") else ""


def _presets_under(group: str, name: str, user_folders: Iterable[str]) -> tuple[list[Path], str | None]:
    """The files of a preset and of those that it extends, and the plugin that these extend; None if none."""
    folders, known = list(user_folders), _plugins(group)
    found: list[Path] = []
    for _ in range(10):  # presets on presets
        if name in known:
            return found, name
        if (preset := files(group, folders).get(name)) is None:
            break
        found.append(preset)
        defaults = _defaults(preset)
        name = defaults[0] if defaults and isinstance(defaults[0], str) else ""
    return found, None


def plugin_of(group: str, name: str, user_folders: Iterable[str] = ()) -> registry.Plugin | None:
    """The plugin that a choice stands for; None if there is none."""
    return _plugins(group).get(begins_with(group, name, user_folders) or "")


def experiments(user_folders: Iterable[str] = ()) -> dict[str, list[str]]:
    """The experiments by name, and the stages that each has a file for; empty if one file serves all."""
    folders = [*user_folders, *(folder.path for folder in conf_folders())]
    found: dict[str, list[str]] = {name: [] for name in files("experiment", user_folders)}
    for folder in folders:
        for file in sorted(Path(folder, "experiment").glob("*/*.yaml")):
            if file.parent.name not in files("experiment", user_folders):
                found.setdefault(file.parent.name, []).append(file.stem)
    return dict(sorted(found.items()))


def names(kind: str, user_folders: Iterable[str] = ()) -> list[str]:
    """The names of a kind's plugins, and of the YAML presets that extend them."""
    folders = [group.name for group in KINDS[kind].groups] or [kind]
    return sorted({*registry.available(kind), *(name for each in folders for name in files(each, user_folders))})


def choices(group: str, user_folders: Sequence[str] = ()) -> list[str]:
    """What can be chosen in a config group."""
    taken = [name for name, plugin in _plugins(group).items() if not GROUPS[group].refuses(plugin.cls)]
    found = sorted({*taken, *files(group, user_folders)})
    none = GROUPS[group].none
    return [*found, none] if none else found


def named_by_environment(group: str) -> tuple[str, str] | None:
    """The choice, empty if it names none, and the path that the environment variable of a config group holds."""
    value = os.environ.get(GROUPS[group].variable or "", "")
    name, _, path = value.partition(":")
    if path and name in registry.available(kind_of(group)):
        return name, path
    return ("", value) if value else None


def default_choices(stage: str, user_folders: Iterable[str] = ()) -> dict[str, str | None]:
    """The default choice for each component of a stage, from its YAML file, else its class; None: nothing."""
    fields = {
        name: spec
        for name, spec in component_fields(registry.classes(Stage)[stage]).items()
        if not holds_several(spec)
    }
    if (file := files(Stage.kind, user_folders).get(stage)) is not None:
        groups = [group for group in _defaults(file) if isinstance(group, Mapping)]
        chosen = {re.split("[/@]", key)[-1]: choice for group in groups for key, choice in group.items()}
        return {name: chosen.get(name) for name in fields}
    return {name: _by_its_class(spec.metadata) for name, spec in fields.items()}


def _by_its_class(metadata: Mapping[str, Any]) -> str | None:
    return metadata["choice"] or GROUPS[metadata["group"]].none
