"""What `--help` prints. Without Hydra, whose own help takes seconds where there are many plugins."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from imgrec import presets, registry, stages
from imgrec.errors import UsageError
from imgrec.options import first_line, option_rows, suggestion
from imgrec.stages import Stage
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
    known = stages.available()
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
  extractor={_choices("extractor", user_folders)}
  store={_choices("store", user_folders)}
  backup={_choices("backup", user_folders)}
  reducer={_choices("reducer", user_folders)}
  projection={_choices("projection", user_folders)}
  rerank={_choices("rerank", user_folders)}

imgrec STAGE --help        the stage's options, with those of its components
imgrec STAGE ... -m        a sweep: every combination of options given as a,b,c; of evaluate, a leaderboard
imgrec STAGE ... --cfg job the configuration as it would be, without a run
imgrec STAGE ... --config-dir mine    your own YAML files, before imgrec's; so does IMGREC_CONFIG_DIR
imgrec STAGE ... +experiment=x        the options in mine/experiment/x.yaml; or {_experiments(user_folders)}
imgrec -sc install=bash    completion by tab, for zsh too: eval "$(imgrec -sc install=bash)"
imgrec --hydra-help        what Hydra offers besides; imgrec --version"""


def stage_list() -> str:
    """The stages, a line each."""
    width = max(map(len, stages.available()))
    return "\n".join(
        ["Stages:", *(f"  {name:{width}}  {first_line(cls)}" for name, cls in stages.available().items())]
    )


def _experiments(user_folders: Sequence[str]) -> str:
    return "|".join(presets.experiments(user_folders))


def _choices(group: str, user_folders: Sequence[str]) -> str:
    return "|".join(choices(group, user_folders))


def choices(group: str, user_folders: Sequence[str]) -> list[str]:
    """What can be chosen of a config group."""
    if group in stages.OPTIONAL:
        return [*presets.choices(stages.OPTIONAL[group]), *presets.files(group, user_folders), "none"]
    return presets.choices(group, user_folders)


def _of_stage(name: str, cls: type[Stage], user_folders: Sequence[str], words: Sequence[str]) -> str:
    bare = f" {cls.positional.upper()}" if cls.positional else ""
    defaults = default_choices(name, user_folders)
    lines = [f"imgrec {name}{bare} [option=value ...]", "", first_line(cls), "", *_options(cls)]
    for group, spec in cls.parts().items():
        default = f"  (default {chosen})" if (chosen := defaults.get(group)) else ""
        lines += ["", f"{group}={_choices(spec.metadata['group'], user_folders)}{default}"]
        lines += (
            _components(group, spec, _chosen(group, words))
            if group != "default_extractor"
            else [f"  {DEFAULT_EXTRACTOR}"]
        )
    return "\n".join(lines)


DEFAULT_EXTRACTOR = "what a new gallery gets where no extractor= is given; options of it are written extractor.*"


def default_choices(stage: str, user_folders: Sequence[str] = ()) -> dict[str, str]:
    """What a stage's YAML file chooses of each config group, `null` left out."""
    text = presets.files("stage", user_folders)[stage].read_text()
    found = re.findall(r"^ +- /(?:\w+@)?(\w+): (\w+)", text, re.MULTILINE)
    return {group: choice for group, choice in found if choice != "null"}


def _chosen(group: str, words: Sequence[str]) -> set[str]:
    given = [word.partition("=")[2] for word in words if word.lstrip("+").partition("=")[0] == group]
    return {name for each in given for name in each.split(",")}


def _components(group: str, spec: dataclasses.Field[Any], chosen: set[str]) -> list[str]:
    lines = []
    plugins = registry.available(stages.kind_of(spec))
    for name, plugin in plugins.items():
        if not chosen.isdisjoint([*plugins, Fusion.name]) and name not in chosen:
            continue
        needs = "".join(f" Needs {command}." for command in plugin.cls.missing_libraries().values())
        lines += [f"  {group}={name}: {first_line(plugin.cls)}{needs}", *_options(plugin.cls, group)]
    if group == "extractor" and chosen <= {Fusion.name}:
        lines += [f"  {group}={Fusion.name}: {first_line(Fusion)}", *_options(Fusion, group)]
    if group == "backup":  # conf has it so, see config.register
        lines = [re.sub(r"path=\S+( +)", r"path=...\1beside the store: ", line) for line in lines]
    for option, default in stages.DEFAULTS.get(group, {}).items():
        lines = [re.sub(rf"(\.{option}=)\S+", rf"\g<1>{default}", line) for line in lines]
    return lines


def _options(cls: type, group: str | None = None) -> list[str]:
    rows = [(f"{group}.{row.name}" if group else row.name, row) for row in option_rows(cls)]
    width = max((len(f"{key}={row.default}") for key, row in rows), default=0)
    indent = "    " if group else "  "
    return [f"{indent}{f'{key}={row.default}':{width}}  {row.help}".rstrip() for key, row in rows]
