"""What `--help` prints. Without Hydra, whose own help takes seconds where there are many plugins."""

from __future__ import annotations

import re
from collections.abc import Sequence

from imgrec import presets, registry
from imgrec.errors import UsageError
from imgrec.kinds import GROUPS, Stage, kind_of
from imgrec.options import first_line, option_rows, suggestion
from imgrec.views import Fusion


def text(stage: str | None, user_folders: Sequence[str] = (), words: Sequence[str] = ()) -> str:
    """All stages; or one stage with its options and its components'.

    Args:
        stage: which, or None for all of them.
        user_folders: where presets of the user's lie, besides.
        words: the command line: where it has `extractor=colour`, only that extractor is told of.

    Raises:
        UsageError: there is no such stage.
    """
    if stage is None:
        return _general(user_folders)
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
imgrec STAGE ... -m        a sweep: every combination of options given as a,b,c; of evaluate, a leaderboard
imgrec STAGE ... --cfg job the configuration as it would be, without a run
imgrec STAGE ... --config-dir mine    your own YAML files, before imgrec's; so does IMGREC_CONFIG_DIR
imgrec STAGE ... +experiment=x        the options in mine/experiment/x.yaml; or {_experiments(user_folders)}
imgrec -sc install=bash    completion by tab, for zsh too: eval "$(imgrec -sc install=bash)"
imgrec --hydra-help        what Hydra offers besides; imgrec --version"""


def stage_list() -> str:
    """The stages, a line each."""
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
    for key, spec in cls.component_fields().items():
        default = f"  (default {chosen})" if (chosen := defaults[key]) else ""
        group = spec.metadata["group"]
        lines += ["", f"{key}={_choices(group, user_folders)}{default}"]
        if spec.metadata["is_fallback"]:
            lines += [f"  {FALLBACK.get(group, 'used where there is no other')}"]
        else:
            lines += _components(key, group, _chosen(key, words))
    return "\n".join(lines)


FALLBACK = {
    "extractor": "what a new gallery gets where no extractor= is given; options of it are written extractor.*"
}
"""What a field is for that serves only where another component is not there, by its group."""


def _chosen(group: str, words: Sequence[str]) -> set[str]:
    given = [word.partition("=")[2] for word in words if word.lstrip("+").partition("=")[0] == group]
    return {name for each in given for name in each.split(",")}


def _components(key: str, group: str, chosen: set[str]) -> list[str]:
    """The plugins that a key may be given, with their options; of those chosen only, where plugins are."""
    lines = []
    plugins = registry.available(kind_of(group))
    for name, plugin in plugins.items():
        is_other = not chosen.isdisjoint([*plugins, Fusion.name]) and name not in chosen
        if is_other or GROUPS[group].refuses(plugin.cls):
            continue
        needs = "".join(f" Needs {command}." for command in plugin.cls.missing_libraries().values())
        lines += [f"  {key}={name}: {first_line(plugin.cls)}{needs}", *_options(plugin.cls, key)]
    if kind_of(group) == "extractor" and chosen <= {Fusion.name}:
        lines += [f"  {key}={Fusion.name}: {first_line(Fusion)}", *_options(Fusion, key)]
    if beside := GROUPS[group].beside:
        lines = [re.sub(r"path=\S+( +)", rf"path=...\1beside the {beside}: ", line) for line in lines]
    for option, default in GROUPS[group].defaults.items():
        lines = [re.sub(rf"(\.{option}=)\S+", rf"\g<1>{default}", line) for line in lines]
    return lines


def _options(cls: type, group: str | None = None) -> list[str]:
    rows = [(f"{group}.{row.name}" if group else row.name, row) for row in option_rows(cls)]
    width = max((len(f"{key}={row.default}") for key, row in rows), default=0)
    indent = "    " if group else "  "
    return [f"{indent}{f'{key}={row.default}':{width}}  {row.help}".rstrip() for key, row in rows]
