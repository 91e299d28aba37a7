"""Registers components and stages as Hydra's typed config groups and builds stages from composed configurations.

Only this package imports Hydra and OmegaConf.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar

from hydra.conf import HydraConf
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from imgrec import presets, registry
from imgrec.errors import UsageError
from imgrec.kinds import GROUPS, Component, Stage, kind_of
from imgrec.kinds.component import Group
from imgrec.options import (
    check_option_names,
    component_fields,
    default_values,
    holds_several,
    option_names,
    type_hints,
    written,
)

# --- from dataclasses to config groups ----------------------------------------------------------------------


log = logging.getLogger(__name__)

TYPES = "an option is bool, int, float, str, Path or an Enum, a list or dict of these, or one of them | None"


@functools.cache
def register(user_folders: tuple[str, ...] = (), stage: str | None = None) -> None:
    """Register plugins and stages in Hydra's ConfigStore, and all config folders in its search path.

    Args:
        user_folders: folders of YAML files, searched in order before imgrec's own.
        stage: if given, only what this stage uses is registered, which saves a tenth of a second.

    Raises:
        UsageError: a file in `user_folders` has the name of a plugin and would hide it.
    """
    SearchPath.user_folders = user_folders
    Plugins.instance().register(SearchPath)
    OmegaConf.register_new_resolver("beside", _beside, replace=True)
    OmegaConf.register_new_resolver("located", _located, replace=True)
    known = registry.classes(Stage)
    used = {stage: known[stage]} if stage in known else known
    groups = _groups_of(used.values())
    for kind in sorted(set(map(kind_of, groups))):
        for name, cls in _with_schema(kind).items():
            for group in groups:
                if kind_of(group) == kind and not GROUPS[group].refuses(cls):
                    _store(user_folders, group, name, _adapted(GROUPS[group], name, cls))
    for group in groups:
        if none := GROUPS[group].none:
            _store(user_folders, group, none, OmegaConf.create({}))
    for name, stage_class in used.items():
        _store_stage(user_folders, name, stage_class, is_asked=name == stage)


def _store_stage(user_folders: tuple[str, ...], name: str, cls: type[Stage], *, is_asked: bool) -> None:
    try:
        node = schema(cls)
    except Exception as error:  # an option's type is not supported by OmegaConf
        message = f"stage={name} of {registry.available(Stage.kind)[name].origin}"
        if is_asked:
            raise UsageError(f"{message} cannot be run: {first_line(error)}: {TYPES}") from error
        log.warning("%s left out: %s: %s", message, first_line(error), TYPES)
        return
    _store(user_folders, "options", name, node)
    if name not in presets.files(Stage.kind, user_folders):
        ConfigStore.instance().store(group=Stage.kind, name=name, node=_stage_file(name), package="_global_")


def _groups_of(classes: Iterable[type[Component]]) -> set[str]:
    """The config groups that the components' fields choose from, recursively."""
    found: set[str] = set()
    asked = list(classes)
    while asked:
        new = {spec.metadata["group"] for cls in asked for spec in component_fields(cls).values()} - found
        found |= new
        kinds = {kind_of(group) for group in new}
        asked = [plugin.cls for kind in kinds for plugin in registry.available(kind).values()]
    return found


def _with_schema(kind: str) -> dict[str, type[Component]]:
    """The plugins of a kind, without those that have an option of a type unknown to OmegaConf."""
    presets.names(kind)  # raises if two plugins claim one name
    found = {}
    for name, plugin in registry.available(kind).items():
        try:
            schema(plugin.cls)
        except Exception as error:
            log.warning("%s=%s of %s left out: %s: %s", kind, name, plugin.origin, first_line(error), TYPES)
        else:
            found[name] = plugin.cls
    return found


def _stage_file(name: str) -> DictConfig:
    """Generate `conf/stage/NAME.yaml` for a stage that does not ship one."""
    fields = component_fields(registry.classes(Stage)[name])
    chosen = {
        f"/{fields[key].metadata['group']}@{key}": each for key, each in presets.default_choices(name).items()
    }
    defaults = [f"/options/{name}@_global_", *({group: choice} for group, choice in chosen.items()), "_self_"]
    return OmegaConf.create({"defaults": defaults})


def _adapted(group: Group, name: str, cls: type[Component]) -> DictConfig:
    """A plugin's options with the group's own defaults."""
    node = schema(cls)
    if group.variable and "path" in default_values(cls):
        node["path"] = f"${{located:{group.name},{name}}}"
    if group.beside and "path" in node:
        node["path"] = f"${{beside:{group.beside},{name}}}"
    for option, default in group.defaults.items():
        if option in node:
            node[option] = default
    return node


def _store(user_folders: tuple[str, ...], group: str, name: str, node: DictConfig) -> None:
    for folder in user_folders:
        if (file := Path(folder, group, f"{name}.yaml")).exists():
            raise UsageError(
                f"{file} has the name of the plugin {group}={name} and would hide it: "
                + (
                    "such settings go into experiment/"
                    if group == "options"
                    else f"rename it, and begin it with `defaults: [{name}, _self_]`"
                )
            )
    ConfigStore.instance().store(group=group, name=name, node=node)


class SearchPath(SearchPathPlugin):
    """Hydra's search path: the user's folders, then imgrec's, then those of plugins."""

    user_folders: tuple[str, ...] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Put the folders first; called by Hydra."""
        for folder in reversed(self.user_folders):
            search_path.prepend(provider="user", path=f"file://{folder}")
        for brought in presets.conf_folders()[1:]:  # the first is imgrec's, already Hydra's primary
            search_path.append(provider=brought.origin, path=f"file://{brought.path}")


def _beside(group: str, name: str, *, _parent_: DictConfig, _root_: DictConfig) -> str:
    """The default location of a backup: beside the stage's store, named after it; of one elsewhere in `outputs`.

    The store is the first component of this kind in another field of the stage.
    """
    held = (node for key in _root_ if (node := _root_._get_node(key)) is not _parent_)
    classes = ((each, class_of(each)) for each in held)
    store = next((each for each, cls in classes if cls is not None and cls.kind == kind_of(group)), None)
    path = store.get("path") if isinstance(store, DictConfig) else None
    if not path or "://" in path:
        path = f"outputs/{(path or 'gallery').rstrip('/').rpartition('/')[2]}"
    return f"{Path(path).with_suffix('')}-{name}"


def _located(group: str, name: str) -> Any:
    """The default `path` of a plugin: what the group's environment variable names, else the plugin's own."""
    chosen, path = presets.named_by_environment(group) or ("", None)
    own = default_values(registry.available(kind_of(group))[name].cls)["path"]
    return own if path is None or chosen not in ("", name) else path


def schema(cls: type[Component]) -> DictConfig:
    """A component's options as a typed node: Hydra rejects wrong names and types; mappings accept any key.

    Types of nested components are hidden from OmegaConf: such a field starts as an empty mapping, which the config
    group's typed node replaces.
    """
    node: DictConfig = OmegaConf.structured(_without_components(cls))
    OmegaConf.set_struct(node, True)
    for name in node:
        value = node._get_node(name)  # `node[name]` raises if the value is missing
        if isinstance(value, DictConfig):
            OmegaConf.set_struct(value, False)
    if "seed" in node and not issubclass(cls, Stage):
        node["seed"] = "${oc.select:seed,0}"
    return node


def _without_components(cls: type[Component]) -> type:
    """The class, or a copy of it without the types of nested components; see `class_of`."""
    inner = component_fields(cls)
    if not inner and not issubclass(cls, Stage):
        return cls
    hints = type_hints(cls)
    specs: list[tuple[str, Any, Any]] = []
    for spec in dataclasses.fields(cls):
        if spec.name in inner:
            specs.append((spec.name, Any, field(default_factory=dict)))
        elif spec.default_factory is not dataclasses.MISSING:
            specs.append((spec.name, hints[spec.name], field(default_factory=spec.default_factory)))
        else:
            specs.append((spec.name, hints[spec.name], field(default=spec.default)))
    return dataclasses.make_dataclass(cls.__name__, specs, kw_only=True, namespace={"_made_of": cls})


def class_of(node: Any) -> type[Component] | None:
    """The component class that a node was created from, or None."""
    made = OmegaConf.get_type(node) if isinstance(node, DictConfig) else None
    cls = getattr(made, "_made_of", made)
    return cls if isinstance(cls, type) and issubclass(cls, Component) else None


def through_yaml(component: Component) -> dict[str, Any]:
    """The options of a component, without nested components, after a round trip through YAML.

    Raises:
        OmegaConfBaseException: an option's type is not supported in a configuration.
    """
    node, held = schema(type(component)), component_fields(type(component))
    given = {name: value for name, value in component.options().items() if name not in held}
    text = OmegaConf.to_yaml(OmegaConf.merge(node, given))
    read: Any = OmegaConf.to_object(OmegaConf.merge(node, OmegaConf.create(text)))
    return {name: getattr(read, name) for name in given}


# --- from a composed configuration to a stage ---------------------------------------------------------------


def build_stage(name: str, configuration: DictConfig, chosen: Mapping[str, str | None]) -> Stage:
    """Build a stage and its components from a composed configuration and the choice made in each group.

    Raises:
        UsageError: an option is missing, unknown or not allowed; a library is not installed.
    """
    cls = registry.classes(Stage)[name]
    if absent := sorted(OmegaConf.missing_keys(configuration)):
        raise UsageError(f"{name} needs {', '.join(f'{key}=' for key in absent)}: see imgrec {name} --help")
    if "stage" in configuration:
        raise UsageError(f"stage/{name}.yaml: its first line is not `# @package _global_`")
    check_option_names(name, option_names(cls), configuration)
    for key, spec in component_fields(cls).items():
        group = spec.metadata["group"]
        if class_of(configuration[key]) is None and chosen.get(key) not in (None, GROUPS[group].none):
            raise UsageError(
                f"{group}/{chosen[key]}.yaml does not say which plugin it is a preset of: "
                f"begin it with `defaults: [{next(iter(registry.available(kind_of(group))))}, _self_]`"
            )
    plugins = _plugins_in(cls, configuration, "")
    # Unlike `plain`, this keeps paths and enum members.
    options: Any = OmegaConf.to_container(configuration, resolve=True)
    return registry.stage(name, options, plugins)


def _plugins_in(cls: type[Component], node: DictConfig, prefix: str) -> dict[str, str]:
    """The plugin of each nested component, as in `Stage.plugins`.

    Raises:
        UsageError: options are given for a component that was not chosen.
    """
    found: dict[str, str] = {}
    for name, spec in component_fields(cls).items():
        if holds_several(spec) and not isinstance(node[name], DictConfig):
            raise UsageError(
                f"{prefix}{name} holds components by name, not {written(node[name])}: {prefix}{name}.NAME="
            )
        inside = (
            {f"{name}.{key}": node[name][key] for key in node[name]} if holds_several(spec) else {name: node[name]}
        )
        for key, inner in inside.items():
            inner_class = class_of(inner)
            if inner_class is not None:
                found |= {f"{prefix}{key}": inner_class.title()}
                found |= _plugins_in(inner_class, inner, f"{prefix}{key}.")
            elif holds_several(spec) and inner:
                raise UsageError(
                    f"{prefix}{key} has options, and no {spec.metadata['group']} was chosen for it: "
                    f"{prefix}{key}=NAME"
                )
    return found


def choices(settings: HydraConf) -> dict[str, str | None]:
    """The choice made in each config group, without Hydra's own."""
    chosen = {group: name for group, name in settings.runtime.choices.items() if not group.startswith("hydra/")}
    return {group.rpartition("@")[2]: name for group, name in chosen.items() if not group.startswith("options")}


def overrides(settings: HydraConf) -> dict[str, str]:
    """The values set on the command line, by option; in a sweep, those of this job."""
    words: Any = OmegaConf.to_container(settings.overrides.task)  # as written: interpolations are not resolved
    parsed = OverridesParser.create().parse_overrides(words)
    return {each.package or each.key_or_group: _unquoted(each) for each in parsed}


def _unquoted(override: Override) -> str:
    value = override.value()
    return value if isinstance(value, str) else override.get_value_element_as_str()


class SweepFolder(Callback):
    """A callback, named in `conf/config.yaml`, through which Hydra reports where a sweep writes."""

    path: ClassVar[str | None] = None
    """The sweep's folder as configured; None outside a sweep."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Store the folder."""
        SweepFolder.path = config.hydra.sweep.dir


def job_folders(returned: Sequence[Sequence[JobReturn]]) -> list[Path]:
    """The folders of a sweep's jobs by job number, from Hydra's return value."""
    jobs = [job.hydra_cfg for batch in returned for job in batch]
    return [Path(settings.hydra.runtime.output_dir) for settings in jobs if settings is not None]


def first_line(error: BaseException) -> str:
    """The first line of an error's message: Hydra and OmegaConf add more."""
    return str(error).strip().split("\n")[0]
