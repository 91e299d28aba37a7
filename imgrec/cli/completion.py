"""Completion of command lines in bash and zsh: `eval "$(imgrec -sc install=bash)"`.

It does without Hydra, whose own completion takes seconds and only understands `+stage=`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgrec import presets, registry
from imgrec.cli import arguments, keys
from imgrec.errors import UsageError
from imgrec.kinds import Component, Stage
from imgrec.options import component_fields, holds_several, option_rows, values_of

FLAGS = ("-sc", "--shell-completion")

SHELLS = {
    # COMP_WORDBREAKS tells whether readline completes only what follows the last `=`. bash 3.2 has no mapfile.
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
    """The output of `-sc`.

    Args:
        words: `install=SHELL` for the shell script, or `query=SHELL` for the completions of a line.
        environment: for a query, holds the line (COMP_LINE) and the cursor's offset in it (COMP_POINT).

    Raises:
        UsageError: `words` is neither of these, or the shell is not supported.
    """
    task, _, shell = (words[0] if words else "").partition("=")
    if shell not in SHELLS or task not in ("install", "query"):
        raise UsageError('completion is for bash and zsh: eval "$(imgrec -sc install=bash)"')
    if task == "install":
        return SHELLS[shell]
    point = environment.get("COMP_POINT", "")
    line = environment.get("COMP_LINE", "")
    before, current = _split(line[: int(point)] if point.isdigit() else line)
    with contextlib.suppress(UsageError):  # a file that does not load has nothing to complete
        before = arguments.load_plugin_files(before)
    found = candidates(before, current)
    if shell == "bash":
        kept = _kept_by_readline(current, environment.get("COMP_WORDBREAKS", "=:"))
        found = [each[kept:] for each in found]
    return "".join(f"{each}\n" for each in found)


def _split(line: str) -> tuple[list[str], str]:
    """The last command's words before the cursor, without the program's name, and the word at the cursor."""
    line = re.split(r"[;&|\n]\s*", line)[-1]
    try:
        words = shlex.split(line)
    except ValueError:  # unclosed quote
        words = line.split()
    if not line or line[-1].isspace():
        words.append("")
    return words[1:-1], words[-1]


def _kept_by_readline(current: str, breaks: str) -> int:
    """The length of the prefix that readline leaves alone, completing only what follows it."""
    return max((current.rfind(each) + 1 for each in breaks if each in "=:"), default=0)


def candidates(before: Sequence[str], current: str) -> list[str]:
    """The completions of a word, each followed by a space if it completes the word.

    Args:
        before: the words before it, without the program's name.
        current: the beginning of the word.

    >>> candidates([], "rec")
    ['recommend ']
    >>> candidates(["recommend", "q.png"], "metric=co")
    ['metric=cosine ']
    """
    if current.startswith("-"):
        return _beginning(current, [f"{flag} " for flag in sorted(arguments.FLAGS)])
    if before and before[-1] in arguments.FLAGS_WITH_VALUE:
        return _beginning(current, [f"{value} " for value in arguments.FLAGS_WITH_VALUE[before[-1]]])
    stage = _stage(before)
    if stage is None or re.match(r"\+{0,2}stage=", current):
        prefix = "".join(re.findall(r"^\+{0,2}stage=", current))
        named = [f"{prefix}{name} " for name in registry.classes(Stage)]
        return _beginning(current, named if prefix else [*named, "+stage="])
    line = _Line(stage, before)
    plus, key, equals, value = re.fullmatch(r"(\+*)([^=]*)(=?)(.*)", current, re.DOTALL).groups()  # type: ignore[union-attr]
    if not equals:
        return _beginning(current, [*(plus + each for each in line.keys(key)), *_files(current, line.cls)])
    is_multirun = not arguments.MULTIRUN.isdisjoint(before)
    *earlier, last = value.split(",") if is_multirun else [value]
    start, end = current.removesuffix(last), "" if is_multirun else " "
    known = [each for each in sorted(line.values(key)) if each not in earlier]
    return [f"{start}{each}{end}" for each in _beginning(last, known)]


def _beginning(current: str, known: Iterable[str]) -> list[str]:
    return [each for each in known if each.startswith(current)]


def _stage(before: Sequence[str]) -> str | None:
    for word in before:
        name = re.sub(r"^\+{0,2}stage=", "", word)
        if name in registry.classes(Stage):
            return name
    return None


@dataclass
class _Line:
    """A stage's command line and what may be added to it."""

    stage: str
    before: Sequence[str]

    @functools.cached_property
    def cls(self) -> type[Stage]:
        return registry.classes(Stage)[self.stage]

    @functools.cached_property
    def folders(self) -> tuple[str, ...]:
        """The user's folders of YAML files; empty if one of them does not exist."""
        with contextlib.suppress(UsageError):
            return arguments.split_config_folders(self.before)[0]
        return ()

    def keys(self, typed: str) -> Iterator[str]:
        """Candidates before `=`: options, groups and, after a dot, a component's options."""
        path, dot, _ = typed.rpartition(".")
        if dot and path.partition(".")[0] in component_fields(self.cls):
            for cls in self.classes(path):
                yield from (
                    f"{path}.{row.name}=" for row in option_rows(cls) if row.name not in component_fields(cls)
                )
                for name, spec in component_fields(cls).items():
                    yield f"{path}.{name}{'.' if holds_several(spec) else '='}"
            return
        yield from (f"{row.name}=" for row in option_rows(self.cls))
        for part in component_fields(self.cls):
            yield f"{part}="
            yield f"{part}."
        yield "experiment="
        yield "plugins="

    def values(self, key: str) -> Iterable[str]:
        """Known candidates after `=`."""
        if key == "experiment":
            found = presets.experiments(self.folders)
            return [name for name, of_stages in found.items() if not of_stages or self.stage in of_stages]
        meant = keys.resolved(self.cls, key, self.given, self.folders)
        if meant.group:
            return presets.choices(meant.group, self.folders)
        owners = self.classes(meant.path) if meant.path else meant.owners
        specs = [(cls, spec) for cls in owners for spec in dataclasses.fields(cls) if spec.name == meant.name]
        return [value for cls, spec in specs[:1] for value in values_of(cls, spec)]

    @functools.cached_property
    def given(self) -> dict[str, str]:
        return arguments.given_by(self.before)

    def classes(self, path: str) -> Sequence[type[Component]]:
        """The classes chosen at a path, explicitly or by default; empty if nothing is chosen."""
        meant = keys.resolved(self.cls, path, self.given, self.folders)
        if not meant.group:
            return ()
        choices = self.given.get(path)
        if choices is None and "." not in path:  # a new gallery's default, as none is recorded yet
            defaults, inside = presets.default_choices(self.stage, self.folders), component_fields(self.cls)
            fallbacks = (each for each in inside if inside[each].metadata["is_fallback"] and each.endswith(path))
            choices = next(filter(None, (defaults.get(each) for each in (path, *fallbacks))), None)
        return keys.chosen_by(choices, meant.group, self.folders) if choices else ()


def _files(current: str, cls: type[Stage]) -> list[str]:
    """Files and folders that complete a bare word; names that need quoting are left to the shell."""
    if cls.positional is None or not current:
        return []
    folder, start = os.path.split(current)
    try:
        entries = [entry for entry in Path(folder or ".").iterdir() if entry.name.startswith(start)]
    except OSError:
        return []
    names = [f"{os.path.join(folder, entry.name)}{'/' if entry.is_dir() else ' '}" for entry in sorted(entries)]
    return [name for name in names if re.fullmatch(r"[\w./+-]+ ?", name)]
