"""The output of `--help`, without Hydra, whose own help takes seconds when there are many plugins."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from imgrec import presets, registry
from imgrec.errors import UsageError
from imgrec.kinds import GROUPS, KINDS, Source, Stage, kind_of
from imgrec.options import OptionRow, component_fields, first_line, option_rows, suggestion, written


def text(stage: str | None, user_folders: Sequence[str] = (), words: Sequence[str] = ()) -> str:
    """Help on all stages, on one stage with its options and components, or on single choices.

    Args:
        stage: the stage, or None for all of them.
        user_folders: folders with the user's presets.
        words: the command line; `extractor=colour` limits the help on extractors to that one.

    Raises:
        UsageError: there is no such stage or choice.
    """
    if stage is None:
        chosen = {group: names for group in (*GROUPS, *OF_NO_GROUP) if (names := _chosen(group, words))}
        lines_of = [_of_choice(group, name, user_folders) for group, names in chosen.items() for name in names]
        return "\n\n".join(lines_of) or _general(user_folders)
    known = registry.classes(Stage)
    if stage not in known:
        raise UsageError(f"there is no stage {stage!r}{suggestion(stage, known)}: there are {', '.join(known)}")
    return _of_stage(stage, known[stage], user_folders, words)


def _general(user_folders: Sequence[str]) -> str:
    return f"""imgrec: content-based image recommendation, every part a plugin.

  imgrec ingest photos                    or  python -m imgrec +stage=ingest source=photos
  imgrec recommend img.jpg k=10           or  python -m imgrec +stage=recommend query=img.jpg k=10
  imgrec visualise reducer=umap           or  python -m imgrec +stage=visualise reducer=umap
  imgrec replay outputs/DATE/TIME-STAGE   or  python -m imgrec +stage=replay run=outputs/DATE/TIME-STAGE

{stage_list()}

Choices, each with options of its own (extractor=timm extractor.model=resnet50):
{_all_choices(user_folders)}

imgrec STAGE --help        the stage's options, with those of its components
imgrec --help extractor=timm          the options of a choice
imgrec STAGE ... -m        a sweep: every combination of options given as a,b,c; of evaluate, a leaderboard
imgrec STAGE ... --cfg job the configuration as it would be, without a run
imgrec STAGE ... --config-dir mine    your own YAML files, before imgrec's; so does IMGREC_CONFIG_DIR
imgrec STAGE ... store.path=x         another gallery than outputs/gallery.sqlite; so does IMGREC_STORE
imgrec STAGE ... +experiment=x        the options in mine/experiment/x.yaml; or {_experiments(user_folders)}
imgrec STAGE ... plugins=[mine.py]    a plugin of your own that is a file; so does IMGREC_PLUGINS
imgrec -sc install=bash    completion by tab, for zsh too: eval "$(imgrec -sc install=bash)"
imgrec --hydra-help        what Hydra offers besides; imgrec --version

To read on, in the repository: README.md to begin with, conf/README.md (stages, options, sweeps),
plugins/README.md (a plugin of your own), imgrec/README.md (from Python; how images are read)"""


def stage_list() -> str:
    """One line for each stage."""
    width = max(map(len, registry.classes(Stage)))
    return "\n".join(
        ["Stages:", *(f"  {name:{width}}  {first_line(cls)}" for name, cls in registry.classes(Stage).items())]
    )


def _experiments(user_folders: Sequence[str]) -> str:
    return "|".join(presets.experiments(user_folders))


def _all_choices(user_folders: Sequence[str]) -> str:
    return "\n".join(f"  {group}={_choices(group, user_folders)}" for group in GROUPS)


def _choices(group: str, user_folders: Sequence[str]) -> str:
    return "|".join(presets.choices(group, user_folders))


def _of_stage(name: str, cls: type[Stage], user_folders: Sequence[str], words: Sequence[str]) -> str:
    bare = f" {cls.positional.upper()}" if cls.positional else ""
    defaults = presets.default_choices(name, user_folders)
    lines = [f"imgrec {name}{bare} [option=value ...]", "", first_line(cls), "", *_options(cls)]
    for key, chosen in defaults.items():
        spec, default = component_fields(cls)[key], f"  (default {chosen})" if chosen else ""
        group = spec.metadata["group"]
        lines += ["", f"{key}={_choices(group, user_folders)}{default}"]
        if spec.metadata["is_fallback"]:
            lines += [f"  {FALLBACK.get(group, 'used where there is no other')}"]
        else:
            lines += _components(key, group, _chosen(key, words), user_folders)
    return "\n".join([*lines, "", f"To read on, in the repository: {READ_ON.get(name, 'conf/README.md')}"])


READ_ON = dict.fromkeys(("new_plugin", "plugins"), "plugins/README.md")
"""Documents on stages that the configuration page does not cover."""

FALLBACK = {
    "extractor": "what a new gallery gets where no extractor= is given; options of it are written extractor.*"
}
"""The purpose of fields that are used only as a fallback, by group."""


def _chosen(group: str, words: Sequence[str]) -> list[str]:
    given = [word.partition("=")[2] for word in words if word.lstrip("+").partition("=")[0] == group]
    return list(dict.fromkeys(name for each in given for name in each.split(",")))


def _of_choice(group: str, name: str, user_folders: Sequence[str]) -> str:
    """Help on one choice: a plugin's options, with the values that a preset changes."""
    if group in OF_NO_GROUP:
        return _of_no_group(group, name)
    kind, known = kind_of(group), presets.choices(group, user_folders)
    if name in registry.available(kind) and (reason := GROUPS[group].refuses(registry.available(kind)[name].cls)):
        raise UsageError(f"{group}={name}: {reason}")
    if name not in known:
        raise UsageError(f"there is no {group} {name!r}{suggestion(name, known)}: there are {', '.join(known)}")
    if name == GROUPS[group].none:
        return f"{group}={name}: without"
    plugin = presets.begins_with(group, name, user_folders) or name
    lines = _component(group, group, plugin, presets.settings(group, name, user_folders))
    if plugin != name:
        about = presets.comment(presets.files(group, user_folders)[name]) or "a preset"
        lines = [f"{group}={name}: {about}", f"  a preset of {lines[0].strip()}", *lines[1:]]
    return "\n".join([lines[0].strip(), *lines[1:]])


OF_NO_GROUP = [kind for kind, cls in KINDS.items() if not cls.groups and kind not in (Stage.kind, Source.kind)]
"""Kinds without a config group: metrics, which options name, and decoders.

Sources are not chosen by name: `source=` is a location.
"""


def _of_no_group(kind: str, name: str) -> str:
    known = registry.available(kind)
    if name not in known:
        raise UsageError(f"there is no {kind} {name!r}{suggestion(name, known)}: there are {', '.join(known)}")
    needs = "".join(f" Needs {command}." for command in known[name].cls.missing_libraries().values())
    return f"{kind}={name}: {first_line(known[name].cls)}{needs}"


def _components(key: str, group: str, chosen: Sequence[str], user_folders: Sequence[str]) -> list[str]:
    """The plugins that a key may name, with their options; only the chosen ones if there are any."""
    kind = kind_of(group)
    for name in chosen:
        _of_choice(group, name, user_folders)  # raises if there is no such choice
    meant = {presets.begins_with(group, name, user_folders) for name in chosen} - {None}
    possible = [name for name in registry.available(kind) if name in presets.choices(group, user_folders)]
    of_plugins = [
        line for name in possible if not meant or name in meant for line in _component(key, group, name, {})
    ]
    return of_plugins + _presets(key, group, chosen, user_folders)


def _presets(key: str, group: str, chosen: Sequence[str], user_folders: Sequence[str]) -> list[str]:
    """A line for each preset that a key may name, or for the chosen ones: the default may be one."""
    lines = []
    for name in chosen or presets.choices(group, user_folders):
        try:
            plugin = presets.begins_with(group, name, user_folders)
        except UsageError:  # a broken one is told where it is asked for
            continue
        if plugin and plugin != name:
            about = presets.comment(presets.files(group, user_folders)[name])
            lines.append(f"  {key}={name}: {about or 'no comment says what it is'} (a preset of {plugin})")
    return lines


def _component(key: str, group: str, name: str, settings: Mapping[str, Any]) -> list[str]:
    """A plugin and its options under `key`, with a preset's values in place of the defaults."""
    cls = registry.available(kind_of(group))[name].cls
    needs = "".join(f" Needs {command}." for command in cls.missing_libraries().values())
    options = _options(cls, key, {**GROUPS[group].defaults, **settings})
    if beside := GROUPS[group].beside:
        options = [
            re.sub(r"path=\S+ +", lambda found: f"{'path=...':{len(found[0])}}beside the {beside}: ", line)
            for line in options
        ]
    return [f"  {key}={name}: {first_line(cls)}{needs}", *options]


def _options(cls: type, key: str | None = None, settings: Mapping[str, Any] | None = None) -> list[str]:
    rows = [
        (f"{key}.{row.name}" if key else row.name, _default(row, settings or {}), row.help)
        for row in option_rows(cls)
    ]
    width = max((len(f"{name}={default}") for name, default, _ in rows), default=0)
    indent = "    " if key else "  "
    return [f"{indent}{f'{name}={default}':{width}}  {lines_of}".rstrip() for name, default, lines_of in rows]


def _default(row: OptionRow, settings: Mapping[str, Any]) -> str:
    if row.name not in settings:
        return row.default
    value = settings[row.name]
    return _flow(value) if isinstance(value, Mapping | list) else written(value)


def _flow(value: Mapping[str, Any] | list[Any]) -> str:
    """One line of YAML in flow style."""
    import yaml

    return yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).strip()
