"""Completion of command lines by bash and zsh: `eval "$(imgrec -sc install=bash)"`.

Without Hydra, whose own completion takes seconds and knows `+stage=` only.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from imgrec import arguments, help, registry, stages  # noqa: A004 - it knows what can be chosen
from imgrec.errors import UsageError
from imgrec.options import values_of
from imgrec.stages import Stage

FLAGS = ("-sc", "--shell-completion")

SHELLS = {
    # COMP_WORDBREAKS tells whether readline keeps what stands before the last `=`. No mapfile: bash 3.2 has none.
    "bash": r"""
_imgrec_complete() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
        export COMP_LINE COMP_POINT COMP_WORDBREAKS
        "$1" -sc query=bash 2>/dev/null
    )
}
complete -o nospace -o bashdefault -o default -F _imgrec_complete imgrec
""",
    "zsh": r"""
_imgrec_complete() {
    local -a found
    found=(${(f)"$(COMP_LINE="$BUFFER" COMP_POINT="$CURSOR" $words[1] -sc query=zsh 2>/dev/null)"})
    if (( $#found )); then
        compadd -Q -S '' -- $found
    else
        compset -P '*='
        _files
    fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _imgrec_complete imgrec
""",
}


def answer(words: Sequence[str], environment: Mapping[str, str]) -> str:
    """What `-sc` prints.

    Args:
        words: `install=SHELL` for the shell's own code, or `query=SHELL` for what it asks at a press of tab.
        environment: with a query the line so far, COMP_LINE, and where the cursor is in it, COMP_POINT.

    Raises:
        UsageError: neither of them.
    """
    task, _, shell = (words[0] if words else "").partition("=")
    if shell not in SHELLS or task not in ("install", "query"):
        raise UsageError('completion is for bash and zsh: eval "$(imgrec -sc install=bash)"')
    if task == "install":
        return SHELLS[shell]
    point = environment.get("COMP_POINT", "")
    line = environment.get("COMP_LINE", "")
    before, current = _split(line[: int(point)] if point.isdigit() else line)
    found = candidates(before, current)
    if shell == "bash":
        kept = _kept_by_readline(current, environment.get("COMP_WORDBREAKS", "=:"))
        found = [each[kept:] for each in found]
    return "".join(f"{each}\n" for each in found)


def _split(line: str) -> tuple[list[str], str]:
    """The words before the cursor, without the program's, and the one at the cursor; of the last command."""
    line = re.split(r"[;&|\n]\s*", line)[-1]
    try:
        words = shlex.split(line)
    except ValueError:  # in the middle of a quote
        words = line.split()
    if not line or line[-1].isspace():
        words.append("")
    return words[1:-1], words[-1]


def _kept_by_readline(current: str, breaks: str) -> int:
    """How much of a word readline keeps, and completes only what follows."""
    return max((current.rfind(each) + 1 for each in breaks if each in "=:"), default=0)


def candidates(before: Sequence[str], current: str) -> list[str]:
    """What a word may become; with a space behind it where it is complete then.

    Args:
        before: the words before it, without the program's name.
        current: what there is of it.

    >>> candidates([], "rec")
    ['recommend ']
    >>> candidates(["recommend", "q.png"], "metric=c")
    ['metric=cosine ']
    """
    try:
        folders = arguments.read(["info", *_config_flags(before)]).config_folders
    except UsageError:
        folders = ()
    is_multirun = not arguments.MULTIRUN.isdisjoint(before)
    if current.startswith("-"):
        return _beginning(current, (f"{flag} " for flag in sorted(arguments.FLAGS)))
    if before and before[-1] in arguments.FLAGS_WITH_VALUE:
        return []
    stage = _stage(before)
    if stage is None or re.match(r"\+{0,2}stage=", current):
        plus = re.match(r"\+{0,2}(stage=)?", current)
        prefix = plus[0] if plus and plus[1] else ""
        named = [f"{prefix}{name} " for name in stages.available()]
        return _beginning(current, named if prefix else [*named, "+stage="])
    key, equals, value = current.partition("=")
    plus_signs = re.match(r"\+*", key)
    key = key[plus_signs.end() if plus_signs else 0 :]
    cls = stages.available()[stage]
    if not equals:
        keys = [f"{current[: len(current) - len(key)]}{each}" for each in _keys(cls, key, stage, before, folders)]
        return _beginning(current, [*keys, *_files(current, cls)])
    known = sorted(_values(cls, key, stage, before, folders))
    *earlier, last = value.split(",") if is_multirun else [value]
    start = f"{current[: len(current) - len(last)]}"
    end = "" if is_multirun else " "
    return [f"{start}{each}{end}" for each in known if each.startswith(last) and each not in earlier]


def _beginning(current: str, known: Any) -> list[str]:
    return [each for each in known if each.startswith(current)]


def _config_flags(before: Sequence[str]) -> Iterator[str]:
    for i, word in enumerate(before):
        if word.partition("=")[0] in arguments.CONFIG_DIR:
            yield from before[i : i + 1 if "=" in word else i + 2]


def _stage(before: Sequence[str]) -> str | None:
    """The stage among the words, if there is one."""
    for word in before:
        name = re.sub(r"^\+{0,2}stage=", "", word)
        if name in stages.available():
            return name
    return None


def _keys(
    cls: type[Stage], typed: str, stage: str, before: Sequence[str], folders: Sequence[str]
) -> Iterator[str]:
    """What may stand before a `=`: options, groups, and behind a group's dot its component's options."""
    group, dot, _ = typed.partition(".")
    if dot and group in cls.parts():
        component = _component(cls, group, stage, before, folders)
        yield from (f"{group}.{name}=" for name in (registry.option_names(component) if component else ()))
        return
    yield from (f"{row.name}=" for row in registry.option_rows(cls))
    for part in cls.parts():
        yield f"{part}="
        yield f"{part}."
    if registry.presets("experiment", folders):
        yield "+experiment=" if typed.startswith("+") else "experiment="


def _values(
    cls: type[Stage], key: str, stage: str, before: Sequence[str], folders: Sequence[str]
) -> Sequence[str]:
    """What may stand behind a `=`, where that is known."""
    if key == "experiment":
        return list(registry.presets(key, folders))
    if key in cls.parts():
        return help.choices(cls.parts()[key].metadata["group"], folders)
    group, dot, name = key.partition(".")
    owner = _component(cls, group, stage, before, folders) if dot else cls
    for spec in dataclasses.fields(owner) if owner else ():
        if spec.name == (name if dot else key):
            return values_of(owner or cls, spec)
    return ()


def _component(
    cls: type[Stage], group: str, stage: str, before: Sequence[str], folders: Sequence[str]
) -> type[Any] | None:
    """The class of what is chosen of a group: by a word, or by default; a preset's is what it begins with."""
    if group not in cls.parts():
        return None
    kind = stages.kind_of(cls.parts()[group])
    chosen = [word.partition("=")[2] for word in before if word.lstrip("+").partition("=")[0] == group]
    defaults = help.default_choices(stage, folders)
    name = chosen[-1] if chosen else defaults.get(group) or defaults.get(f"default_{group}", "")
    plugin = registry.plugin_of(kind, name, folders)
    return plugin.cls if plugin else None


def _files(current: str, cls: type[Stage]) -> list[str]:
    """Files and folders for a bare word, beside the options that begin alike; odd names are left to the shell."""
    if cls.positional is None or not current:
        return []
    folder, start = os.path.split(current)
    try:
        entries = [entry for entry in Path(folder or ".").iterdir() if entry.name.startswith(start)]
    except OSError:
        return []
    names = [f"{os.path.join(folder, entry.name)}{'/' if entry.is_dir() else ' '}" for entry in sorted(entries)]
    return [name for name in names if re.fullmatch(r"[\w./+-]+ ?", name)]
