"""Components and stages become Hydra's typed config groups; a composed configuration becomes a stage.

With `__main__` the only file that knows Hydra and OmegaConf.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
from collections.abc import Mapping, Sequence
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
from hydra.errors import MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from imgrec import presets, registry, stages
from imgrec.errors import UsageError
from imgrec.gallery.similarity import Fusion
from imgrec.kinds import GROUPS, Component, Stage, kind_of
from imgrec.kinds.component import Group
from imgrec.options import check_option_names, option_names, suggestion, type_hints

# --- from dataclasses to config groups ----------------------------------------------------------------------


log = logging.getLogger(__name__)

TYPES = "an option is bool, int, float, str, Path or an Enum, a list or dict of these, or one of them | None"


@functools.cache
def register(user_folders: tuple[str, ...] = (), stage: str | None = None) -> None:
    """Put plugins and stages into Hydra's store of typed configurations, and all folders into its search path.

    Args:
        user_folders: folders of YAML files that are searched before imgrec's own, the first one first.
        stage: the only stage that will be run: what it does not use is left out, which saves a tenth of a second.

    Raises:
        UsageError: a file in one of them has the name of a plugin, and would hide it.
    """
    _SearchPath.user_folders = user_folders
    Plugins.instance().register(_SearchPath)
    OmegaConf.register_new_resolver("beside", _beside, replace=True)
    known = registry.classes(Stage)
    used = {stage: known[stage]} if stage in known else known
    groups = {spec.metadata["group"] for cls in used.values() for spec in cls.component_fields().values()}
    if "extractor" in groups:
        groups.add("projection")  # of a fusion's parts
        _store(user_folders, "extractor", Fusion.name, schema(Fusion))
    for kind in sorted(set(map(kind_of, groups))):
        for name, cls in _with_schema(kind).items():
            for group in groups:
                if kind_of(group) == kind and not GROUPS[group].refuses(cls):
                    _store(user_folders, group, name, _adapted(GROUPS[group], name, schema(cls)))
    for group in groups:
        if none := GROUPS[group].none:
            _store(user_folders, group, none, OmegaConf.create({}))
    files = presets.files(Stage.kind, user_folders)
    for name, stage_class in used.items():
        _store(user_folders, "options", name, _stage_schema(stage_class))
        if name not in files:
            ConfigStore.instance().store(group=Stage.kind, name=name, node=_stage_file(name), package="_global_")


def _with_schema(kind: str) -> dict[str, type[Component]]:
    """The plugins of a kind but for those that have an option of a type that OmegaConf does not take."""
    presets.names(kind)  # finds out whether two plugins claim one name
    found = {}
    for name, plugin in registry.available(kind).items():
        try:
            schema(plugin.cls)
        except Exception as error:
            log.warning("%s=%s of %s left out: %s: %s", kind, name, plugin.origin, _first_line(error), TYPES)
        else:
            found[name] = plugin.cls
    return found


def _stage_file(name: str) -> DictConfig:
    """What `conf/stage/NAME.yaml` would have, for a stage that brings no such file."""
    fields = registry.classes(Stage)[name].component_fields()
    chosen = {
        f"/{spec.metadata['group']}@{key}": presets.default_choices(name)[key] for key, spec in fields.items()
    }
    defaults = [f"/options/{name}@_global_", *({group: choice} for group, choice in chosen.items()), "_self_"]
    return OmegaConf.create({"defaults": defaults})


def _adapted(group: Group, name: str, node: DictConfig) -> DictConfig:
    """A plugin's options with the defaults that suit a group."""
    if group.beside and "path" in node:
        node["path"] = f"${{beside:${{{group.beside}}},{name}}}"
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


class _SearchPath(SearchPathPlugin):
    """Lets Hydra find the user's YAML files, before all others, and those of plugins, behind imgrec's own."""

    user_folders: tuple[str, ...] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in reversed(self.user_folders):
            search_path.prepend(provider="user", path=f"file://{folder}")
        for brought in presets.conf_folders()[1:]:  # the first is imgrec's, Hydra's primary one
            search_path.append(provider=brought.origin, path=f"file://{brought.path}")


def _beside(store: DictConfig, name: str) -> str:
    """Where a backup lies by default: beside the store, by its name."""
    path = store.get("path")
    return f"{Path(path).with_suffix('')}-{name}" if path else f"outputs/gallery-{name}"


def schema(cls: type[Component | Fusion]) -> DictConfig:
    """A plugin's options as a typed node: a wrong name or type is Hydra's to refuse, mappings take any key."""
    node: DictConfig = OmegaConf.structured(cls)
    OmegaConf.set_struct(node, True)
    for name in node:
        value = node._get_node(name)  # the value itself may be missing, and asking for it would raise
        if isinstance(value, DictConfig):
            OmegaConf.set_struct(value, False)
    if "seed" in node:
        node["seed"] = "${oc.select:seed,0}"
    return node


def _stage_schema(stage: type[Stage]) -> DictConfig:
    """A stage's options as a typed node.

    OmegaConf must not see the types of components: what a config group fills starts as an empty mapping, and the
    group's typed node takes its place.
    """
    hints, parts = type_hints(stage), stage.component_fields()
    fields: list[tuple[str, Any, Any]] = []
    for spec in dataclasses.fields(stage):
        if spec.name in parts:
            fields.append((spec.name, Any, field(default_factory=dict)))
        elif spec.default_factory is not dataclasses.MISSING:
            fields.append((spec.name, hints[spec.name], field(default_factory=spec.default_factory)))
        else:
            fields.append((spec.name, hints[spec.name], field(default=spec.default)))
    node: DictConfig = OmegaConf.structured(dataclasses.make_dataclass(stage.__name__, fields, kw_only=True))
    for name in parts:
        OmegaConf.set_struct(node[name], False)
    return node


def through_yaml(component: Component) -> dict[str, Any]:
    """The options of a component written as YAML and read again; of a stage without its components.

    Raises:
        OmegaConfBaseException: an option is of a type that a configuration cannot have.
    """
    if isinstance(component, Stage):
        node, held = _stage_schema(type(component)), list(component.component_fields())
    else:
        node, held = schema(type(component)), []
    given = {name: value for name, value in component.options().items() if name not in held}
    text = OmegaConf.to_yaml(OmegaConf.merge(node, given))
    read: Any = OmegaConf.to_object(OmegaConf.merge(node, OmegaConf.create(text)))
    return {name: getattr(read, name) for name in given}


# --- from a composed configuration to a stage ---------------------------------------------------------------


def build_stage(name: str, configuration: DictConfig, chosen: Mapping[str, str | None]) -> Stage:
    """The stage with its components, from what Hydra composed, and what was chosen of each group.

    Raises:
        UsageError: an option is missing, unknown or not allowed; a library is not installed.
    """
    cls = registry.classes(Stage)[name]
    if absent := sorted(OmegaConf.missing_keys(configuration)):
        raise UsageError(f"{name} needs {', '.join(f'{key}=' for key in absent)}: see {name} --help")
    if "stage" in configuration:
        raise UsageError(f"stage/{name}.yaml: its first line is not `# @package _global_`")
    check_option_names(name, option_names(cls), configuration)
    plugins: dict[str, str] = {}
    for key, spec in cls.component_fields().items():
        component = OmegaConf.get_type(configuration[key])
        group = spec.metadata["group"]
        if component is dict and chosen.get(key) not in (None, GROUPS[group].none):
            raise UsageError(
                f"{group}/{chosen[key]}.yaml does not say which plugin it is a preset of: "
                f"begin it with `defaults: [{next(iter(registry.available(kind_of(group))))}, _self_]`"
            )
        if isinstance(component, type) and issubclass(component, Component | Fusion):
            plugins[key] = component.name
        if component is Fusion:
            plugins |= _parts_of_fusion(key, configuration[key])
    # Not `plain`: paths and members of an Enum stay what they are.
    options: Any = OmegaConf.to_container(configuration, resolve=True)
    return stages.build(name, options, plugins)


def _parts_of_fusion(key: str, fusion: DictConfig) -> dict[str, str]:
    """The plugin of each part's extractor and projection, as `Stage.plugins` has them.

    Raises:
        UsageError: options are given of a part for which nothing was chosen.
    """
    found = {}
    for what, group in (("parts", "extractor"), ("projections", "projection")):
        for name in fusion[what]:
            component = OmegaConf.get_type(fusion[what][name])
            if isinstance(component, type) and issubclass(component, Component):
                found[f"{key}.{what}.{name}"] = component.name
            elif fusion[what][name]:
                raise UsageError(
                    f"{key}.{what}.{name} has options, and no {group} was chosen for it: {key}.{what}.{name}=NAME"
                )
    return found


def choices(settings: HydraConf) -> dict[str, str | None]:
    """What was chosen of each config group, Hydra's own left out."""
    chosen = {group: name for group, name in settings.runtime.choices.items() if not group.startswith("hydra/")}
    return {group.rpartition("@")[2]: name for group, name in chosen.items() if not group.startswith("options")}


def overrides(settings: HydraConf) -> dict[str, str]:
    """What the command line set, by option; of a sweep, what this job has of it."""
    parsed = OverridesParser.create().parse_overrides(list(settings.overrides.task))
    return {each.package or each.key_or_group: _unquoted(each) for each in parsed}


def _unquoted(override: Override) -> str:
    value = override.value()
    return value if isinstance(value, str) else override.get_value_element_as_str()


class SweepFolder(Callback):
    """Called by Hydra (conf/config.yaml), which alone knows where a sweep writes."""

    path: ClassVar[str | None] = None
    """As the configuration has it; None where there is no sweep."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remember it."""
        SweepFolder.path = config.hydra.sweep.dir


def job_folders(returned: Sequence[Sequence[JobReturn]]) -> list[Path]:
    """The folders of a sweep's jobs, in the order of their numbers, from what Hydra returns."""
    jobs = [job.hydra_cfg for batch in returned for job in batch]
    return [Path(settings.hydra.runtime.output_dir) for settings in jobs if settings is not None]


def plain(configuration: DictConfig) -> dict[str, Any]:
    """A configuration as plain data, interpolations resolved."""
    return OmegaConf.to_container(configuration, resolve=True, enum_to_str=True)  # type: ignore[return-value]


# --- what went wrong, in a line -----------------------------------------------------------------------------


def explain(error: Exception, stage: str | None, words: Sequence[str]) -> UsageError:
    """What Hydra or OmegaConf refuse, as one line that names what there is instead."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing(error.missing_cfg_file, error.options or [])
    text = str(error)
    if match := re.match(r"Could not override '([^']+)'", text):
        return _unknown_option(match[1], stage, words)
    if match := re.match(r"In '([^']+)': \w+ raised while composing config:\n(.*)", text):
        return _wrong_in_file(match[1], match[2], text, stage, words)
    if isinstance(error, YAMLError):
        return UsageError(f"a YAML file is not understood: {' '.join(text.split())}")
    if match := re.match(r"Error merging override (.*)", text):
        return UsageError(f"{match[1]}: {_first_line(error.__cause__ or error)}")
    if isinstance(error, OverrideParseException):
        return UsageError(f"{error.override!r} is not understood: quote what is not a plain value, key='a, b'")
    if text.startswith("Config group override"):
        return UsageError("a choice cannot be null: leave it out to get the default")
    if match := re.match(r"Ambiguous value for argument '(.*?)'", text):
        return UsageError(f"{match[1]}: several values want -m, for a sweep; or quotes, if it is one value")
    return UsageError(_first_line(error))


def _missing(file: str, options: Sequence[str | None]) -> UsageError:
    """A choice, or a preset, that is not there."""
    group, _, name = file.rpartition("/")
    if file == "hydra/launcher/joblib":
        return UsageError(f"{group}={name} needs hydra-joblib-launcher: pip install 'imgrec[parallel]'")
    plugin = registry.available(kind_of(group)).get(name) if group in GROUPS else None
    if plugin and (reason := GROUPS[group].refuses(plugin.cls)):
        return UsageError(f"{group}={name}: {reason}")
    known = [each for each in options if each]
    if group in GROUPS:
        known = known or presets.choices(group, _SearchPath.user_folders)
    listed = f": available are {', '.join(known)}" if known else ""
    return UsageError(f"there is no {group or 'configuration'} {name!r}{suggestion(name, known)}{listed}")


def _wrong_in_file(file: str, problem: str, text: str, stage: str | None, words: Sequence[str]) -> UsageError:
    """An option that a file of YAML sets, a preset or an experiment, and that is not there or not allowed."""
    key = re.search(r"full_key: (\S+)", text)
    if key and file.startswith("experiment/") and key[1].startswith("experiment"):
        return UsageError(f"{file}.yaml: its first line is not `# @package _global_`")
    if key and re.match(r"Key '.*' (is )?not in ", problem):
        return UsageError(f"{file}.yaml: {_unknown_option(key[1], stage, words)}")
    return UsageError(f"{file}.yaml: {f'{key[1]}: ' if key else ''}{problem}")


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


def _unknown_option(key: str, stage: str | None, words: Sequence[str]) -> UsageError:
    """As `check_option_names` has it, for an option of a stage or of a component."""
    group, _, name = key.split("@", maxsplit=1)[0].partition(".")
    cls = registry.classes(Stage).get(stage or "")
    parts = cls.component_fields() if cls else {}
    if name and group in parts:
        kind = kind_of(parts[group].metadata["group"])
        plugins = registry.available(kind)
        given = ",".join(word.partition("=")[2] for word in words if word.lstrip("+").startswith(f"{group}="))
        meant = [presets.plugin_of(kind, choice, _SearchPath.user_folders) for choice in given.split(",")]
        chosen = [plugin for plugin in meant if plugin] or list(plugins.values())
        lacking = [plugin for plugin in chosen if name not in option_names(plugin.cls)] or chosen
        known = {option for plugin in lacking for option in option_names(plugin.cls)}
        owner = f"{group}={lacking[0].cls.name}" if len(lacking) == 1 else f"{group}="
    else:
        known, owner, name = set(option_names(cls)) if cls else set(), stage or "imgrec", key
    return UsageError(
        f"{owner} has no option {name!r}{suggestion(name, known)}: it has {', '.join(sorted(known))}"
    )
