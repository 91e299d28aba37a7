"""Errors of Hydra and OmegaConf as one line that names the alternatives."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra.errors import MissingConfigException, OverrideParseException
from yaml import YAMLError

from imgrec import presets, registry
from imgrec.cli import arguments, keys
from imgrec.cli.config import SearchPath, first_line
from imgrec.errors import UsageError
from imgrec.installation import install_command
from imgrec.kinds import GROUPS, Stage, kind_of
from imgrec.options import option_names, suggestion

MESSAGES = {
    "option": re.compile(r"Could not override '([^']+)'"),
    "file": re.compile(r"In '([^']+)': \w+ raised while composing config:\n(.*)"),
    "merge": re.compile(r"Error merging override (.*)"),
    "list": re.compile(r"Invalid value assigned: \w+ is not a ListConfig"),
    "null choice": re.compile(r"Config group override"),
    "ambiguous": re.compile(r"Ambiguous value for argument '(.*?)'"),
    "key": re.compile(r"full_key: (\S+)"),
    "unknown key": re.compile(r"Key '.*' (is )?not in "),
}
"""Errors of Hydra and OmegaConf that are recognised by their text; see tests/test_hydra_messages.py."""


def explain(error: Exception, stage: str | None, words: Sequence[str]) -> UsageError:
    """Turn an error of Hydra or OmegaConf into one line that names the alternatives."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing(error.missing_cfg_file, error.options or [])
    text = str(error)
    if match := MESSAGES["option"].match(text):
        return _unknown_option(match[1], stage, words)
    if match := MESSAGES["file"].match(text):
        return _wrong_in_file(match[1], match[2], text, stage, words)
    if isinstance(error, YAMLError):
        return UsageError(f"a YAML file is not understood: {' '.join(text.split())}")
    if match := MESSAGES["merge"].match(text):
        problem = first_line(error.__cause__ or error)
        if MESSAGES["list"].match(problem):
            name, _, value = match[1].partition("=")
            problem = f"it takes a list, {name}=[{value}]"
        return UsageError(f"{match[1]}: {problem}")
    if isinstance(error, OverrideParseException):
        return UsageError(f"{error.override!r} is not understood: quote what is not a plain value, key='a, b'")
    if MESSAGES["null choice"].match(text):
        return UsageError("a choice cannot be null or a number, it is a name: leave it out to get the default")
    if match := MESSAGES["ambiguous"].match(text):
        return UsageError(f"{match[1]}: several values want -m, for a sweep; or quotes, if it is one value")
    return UsageError(first_line(error))


HYDRA_PLUGINS = {
    "hydra/launcher/joblib": ("hydra-joblib-launcher", "imgrec[parallel]"),
    "hydra/launcher/submitit_local": ("hydra-submitit-launcher", "hydra-submitit-launcher"),
    "hydra/launcher/submitit_slurm": ("hydra-submitit-launcher", "hydra-submitit-launcher"),
    "hydra/launcher/ray": ("hydra-ray-launcher", "hydra-ray-launcher"),
    "hydra/sweeper/optuna": ("hydra-optuna-sweeper", "hydra-optuna-sweeper"),
}
"""Plugins of Hydra that sweeps use, and the requirements that bring them."""


def _missing(file: str, options: Sequence[str | None]) -> UsageError:
    """The error for a missing choice or preset."""
    group, _, name = file.rpartition("/")
    if file in HYDRA_PLUGINS:
        plugin_of_hydra, requirement = HYDRA_PLUGINS[file]
        return UsageError(f"{group}={name} needs {plugin_of_hydra}: {install_command(requirement)}")
    plugin = registry.available(kind_of(group)).get(name) if group in GROUPS else None
    if plugin and (reason := GROUPS[group].refuses(plugin.cls)):
        return UsageError(f"{group}={name}: {reason}")
    known = [each for each in options if each]
    if group in GROUPS:
        known = known or presets.choices(group, SearchPath.user_folders)
    listed = f": available are {', '.join(known)}" if known else ""
    return UsageError(f"there is no {group or 'configuration'} {name!r}{suggestion(name, known)}{listed}")


def _wrong_in_file(file: str, problem: str, text: str, stage: str | None, words: Sequence[str]) -> UsageError:
    """The error for an unknown or invalid option set by a preset or an experiment."""
    key = MESSAGES["key"].search(text)
    if key and file.startswith("experiment/") and key[1].startswith("experiment"):
        return UsageError(f"{file}.yaml: its first line is not `# @package _global_`")
    if key and MESSAGES["unknown key"].match(problem):
        return UsageError(f"{file}.yaml: {_unknown_option(key[1], stage, words)}")
    return UsageError(f"{file}.yaml: {f'{key[1]}: ' if key else ''}{problem}")


def _unknown_option(key: str, stage: str | None, words: Sequence[str]) -> UsageError:
    """The error of `check_option_names` for an option of a stage or of a component."""
    key = key.split("@", maxsplit=1)[0]
    cls = registry.classes(Stage).get(stage or "")
    if cls is None:
        return UsageError(f"imgrec has no option {key!r}: name a stage, see --help")
    meant = keys.resolved(cls, key, arguments.given_by(words), SearchPath.user_folders)
    name = meant.name.partition(".")[0] if meant.path else key
    lacking = [owner for owner in meant.owners if name not in option_names(owner)] or list(meant.owners)
    known = {option for owner in lacking for option in option_names(owner)}
    if not meant.path:
        owner = stage or ""
    else:
        owner = f"{meant.path}={lacking[0].title()}" if len(lacking) == 1 else f"{meant.path}="
    return UsageError(
        f"{owner} has no option {name!r}{suggestion(name, known)}: it has {', '.join(sorted(known)) or 'none'}"
    )
