"""Translates command lines into Hydra's overrides.

`imgrec recommend "my photos/a, b.jpg" k=10` becomes `+stage=recommend 'query="my photos/a, b.jpg"' k=10`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgrec import presets, registry
from imgrec.cli import keys
from imgrec.errors import UsageError
from imgrec.kinds import Stage, kind_of
from imgrec.options import check_range, choices_of, component_fields, option_names, suggestion
from imgrec.paths import expanded

CONFIGURATIONS = ("job", "hydra", "all")
INFORMATION = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")

FLAGS_WITH_VALUE: Mapping[str, Sequence[str]] = {
    **dict.fromkeys("--config-dir -cd --config-name -cn --config-path -cp --package -p".split(), ()),
    **dict.fromkeys(("--cfg", "-c"), CONFIGURATIONS),
    **dict.fromkeys(("--info", "-i"), INFORMATION),
}
"""Hydra's flags that take a value, with the values that are allowed; empty if any is."""

FLAGS = frozenset("--help -h --hydra-help --version --resolve --run -r --multirun -m".split()).union(
    FLAGS_WITH_VALUE
)
MULTIRUN = frozenset(("-m", "--multirun", "hydra.mode=MULTIRUN"))

MODES = ("--run -r".split(), "--multirun -m".split(), "--cfg -c".split(), "--info -i".split())
"""Flags that say what is to be done: only one of them."""
NEEDS_NO_STAGE = frozenset("--help -h --hydra-help --version --info -i --cfg -c".split())

ADDED_GROUPS = frozenset(("experiment",))
"""Groups absent from the defaults list: Hydra requires a `+` to choose from them."""

HYDRA_FOLDERS = frozenset(("hydra.run.dir", "hydra.sweep.dir"))

OVERRIDE = re.compile(r"([+~]{0,2})([\w@./:-]+)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Arguments:
    """A parsed command line."""

    hydra: list[str]
    """Hydra's arguments, the stage first so that later ones override its defaults."""

    is_multirun: bool

    stage: str | None
    needs_stage: bool
    config_folders: tuple[str, ...] = ()
    """The user's folders of YAML files, in order of precedence."""

    keeps_record: bool = True
    """Whether the run leaves a folder: of a stage that does not, if it is a job of a sweep or one is named."""


CONFIG_DIR = ("--config-dir", "-cd")

CONFIG_DIR_VARIABLE = "IMGREC_CONFIG_DIR"
"""The environment variable that names further folders of YAML files."""


def read(words: Sequence[str]) -> Arguments:
    """Parse a command line.

    Args:
        words: the arguments, without the program's name.

    Raises:
        UsageError: a bare word that is neither a stage nor a value of its positional option; or a plugin file that
            cannot be loaded.
    """
    words = load_plugin_files(words)
    flags, words = _split_flags(words)
    folders, flags = split_config_folders(flags)
    stage, rest = _split_stage(words)
    is_multirun = not MULTIRUN.isdisjoint((*flags, *words))
    overrides, bare = _split_bare(rest, registry.classes(Stage).get(stage or ""))
    if bare:
        overrides.insert(0, _positional(bare, stage))
    hydra = [f"+stage={stage}"] if stage else []
    cls = registry.classes(Stage).get(stage or "")
    if cls is not None:
        overrides = [*_chosen_by_environment(cls, given_by(overrides)), *overrides]
        overrides += _named_as_themselves(cls, overrides, folders)
    overrides = [_experiment_for(word, stage, folders) for word in overrides]
    given = given_by(overrides)
    _check_mode(given, is_multirun=is_multirun)
    hydra += [_override(word, cls, given, folders, is_multirun=is_multirun) for word in overrides]
    keeps = cls is None or cls.keeps_record or is_multirun or not HYDRA_FOLDERS.isdisjoint(given)
    return Arguments(hydra + flags, is_multirun, stage, NEEDS_NO_STAGE.isdisjoint(flags), folders, keeps)


PLUGIN_FILES = re.compile(r"\+{0,2}plugins=(.*)", re.DOTALL)


def load_plugin_files(words: Sequence[str]) -> list[str]:
    """Load the plugins that `plugins=[FILE,...]` names; the other words.

    Raises:
        UsageError: a file cannot be read or loaded.
    """
    rest = []
    for word in words:
        if match := PLUGIN_FILES.fullmatch(word):
            value = match[1]
            is_list = value[:1] == "[" and value[-1:] == "]" and not _exists(value)
            for file in _split_commas(value[1:-1]) if is_list else [value]:
                registry.load_plugin(file[1:-1] if _is_quoted(file) else file)
        else:
            rest.append(word)
    return rest


def split_config_folders(words: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Split the words into the user's folders of YAML files, as absolute paths, and the rest.

    Hydra itself searches `--config-dir` last and silently ignores files there that share a name with imgrec's.
    """
    given, rest = [], []
    remaining = iter(words)
    for word in remaining:
        name, equals, value = word.partition("=")
        if name in CONFIG_DIR:
            given.append((name, value if equals else next(remaining, "")))
        else:
            rest.append(word)
    inherited = os.environ.get(CONFIG_DIR_VARIABLE, "").split(os.pathsep)
    given += [(CONFIG_DIR_VARIABLE, folder) for folder in inherited if folder]
    given = [(name, expanded(folder)) for name, folder in given]
    for name, folder in given:
        if not folder or not Path(folder).is_dir():
            raise UsageError(f"{name} {folder or '...'}: there is no such folder")
    return tuple(os.path.abspath(folder) for _, folder in given), rest


def _split_flags(words: Sequence[str]) -> tuple[list[str], list[str]]:
    flags, rest, remaining = [], [], list(words)
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("-") or word == "-" or _exists(word):
            rest.append(word)
            continue
        flag, _, value = word.partition("=")
        if flag not in FLAGS:
            raise UsageError(f"there is no flag {flag}: options are written {flag.lstrip('-')}={value or '...'}")
        flags.append(flag)
        if flag in FLAGS_WITH_VALUE:
            flags += _value_of_flag(flag, value, remaining)
    modes = [each for each in flags for names in MODES if each in names]
    if len({flag.lstrip("-")[0] for flag in modes}) > 1:
        raise UsageError(f"{' and '.join(dict.fromkeys(modes))} are two things to do: leave one out")
    if "--resolve" in flags and not {"--cfg", "-c"}.intersection(flags):
        raise UsageError("--resolve is of --cfg, and does nothing without it")
    return flags, rest


def _value_of_flag(flag: str, value: str, remaining: list[str]) -> list[str]:
    """The value given after `=`, else the following word, which is taken; `--info` needs none."""
    allowed, is_needed = FLAGS_WITH_VALUE[flag], flag not in ("--info", "-i")
    if not value and remaining and (is_needed or remaining[0] in allowed):
        value = remaining.pop(0)
    if (is_needed and not value) or (value and allowed and value not in allowed):
        raise UsageError(
            f"{flag} wants {'one of ' + ', '.join(allowed) if allowed else 'a value'}: {flag} {value}"
        )
    return [value] if value else []


def _split_stage(words: list[str]) -> tuple[str | None, list[str]]:
    """Extract the stage: `+stage=x`, `stage=x` or the first bare word; the last one wins."""
    named = [word for word in words if re.match(r"\+{0,2}stage=", word)]
    if named:
        return named[-1].partition("=")[2], [word for word in words if word not in named]
    if words and "=" not in words[0] and not words[0].startswith(("+", "~")):
        if words[0] not in registry.classes(Stage):
            known = registry.classes(Stage)
            near = suggestion(words[0], known)
            raise UsageError(f"there is no stage {words[0]!r}{near}: the stages are {', '.join(known)}")
        return words[0], words[1:]
    return None, words


def _split_bare(words: list[str], stage: type[Stage] | None) -> tuple[list[str], list[str]]:
    """Separate overrides from bare words; a file name with `=` is bare unless an option stands before the `=`.

    So is an address, `https://`.
    """
    overrides, bare = [], []
    known = set(option_names(stage)) if stage else set()
    for word in words:
        match = OVERRIDE.fullmatch(word)
        is_file = _exists(word) and not (match and match[2] in known)
        is_address = match is not None and "://" in match[2]
        if (match or word.startswith("~")) and not is_file and not is_address:
            overrides.append(word)
        else:
            bare.append(word)
    return overrides, bare


def _positional(bare: list[str], stage: str | None) -> str:
    cls = registry.classes(Stage).get(stage or "")
    if cls is None or cls.positional is None:
        raise UsageError(f"{bare[0]!r} is not understood: options are written key=value")
    if len(bare) == 1:
        return f"{cls.positional}={bare[0]}"
    whole = " ".join(bare)
    if _exists(whole) and not all(map(_exists, bare)):
        raise UsageError(f"{whole!r} is one path: write it in quotes")
    if not cls.takes_several:
        raise UsageError(
            f"{stage} takes one value for {cls.positional}=, and these are {len(bare)}: {' '.join(bare)}"
        )
    return f"{cls.positional}=[{','.join(map(_quoted_path, bare))}]"


def given_by(overrides: Iterable[str]) -> dict[str, str]:
    """The values that overrides set, by key; of `extractor@extractor.parts.shape=hog`, the key after the `@`."""
    pairs = (word.lstrip("+").partition("=")[::2] for word in overrides)
    return {key.rpartition("@")[2]: value for key, value in pairs}


def _experiment_for(word: str, stage: str | None, folders: Sequence[str]) -> str:
    """Replace an experiment that is a folder, with one file per stage, by the stage's file.

    Raises:
        UsageError: the experiment has no file for this stage.
    """
    key, _, value = word.partition("=")
    if key.lstrip("+") != "experiment" or stage is None:
        return word
    return f"{key}={','.join(_file_of_experiment(name, stage, folders) for name in value.split(','))}"


def _file_of_experiment(name: str, stage: str, folders: Sequence[str]) -> str:
    if not re.fullmatch(r"[\w.-]+", name):  # glob(*), or a file in a folder: left to Hydra
        return name
    known = presets.experiments(folders)
    if name not in known:
        raise UsageError(
            f"there is no experiment {name!r}{suggestion(name, known)}: available are {', '.join(known)}; "
            f"for one of your own name the folder that has experiment/{name}.yaml with --config-dir"
        )
    files = [each for each in known[name] if each in registry.classes(Stage)]
    if not files:
        return name
    if stage not in files:
        raise UsageError(f"experiment {name} is not for {stage}: it is for {', '.join(files)}")
    return f"{name}/{stage}"


SWEEPS_ONLY = re.compile(r"hydra[./](sweep|sweeper|launcher)([./].*)?")


def _check_mode(given: Mapping[str, str], *, is_multirun: bool) -> None:
    """Refuse Hydra's options that only a sweep, or only a single run, has a use for."""
    is_multirun = is_multirun or given.get("hydra.mode") == "MULTIRUN"
    for key in given:
        if SWEEPS_ONLY.fullmatch(key) and not is_multirun:
            raise UsageError(f"{key}= is of sweeps, and has no effect without -m")
        if key == "hydra.run.dir" and is_multirun:
            raise UsageError(f"{key}= has no effect in a sweep: hydra.sweep.dir= says where its jobs write")


def _chosen_by_environment(stage: type[Stage], given: Mapping[str, str]) -> list[str]:
    """The choices that environment variables make, of what the command line does not choose."""
    named = {
        name: presets.named_by_environment(spec.metadata["group"])
        for name, spec in component_fields(stage).items()
        if given.keys().isdisjoint((name, f"{name}.path"))
    }
    return [f"{name}={found[0]}" for name, found in named.items() if found and found[0]]


def _named_as_themselves(stage: type[Stage], overrides: Sequence[str], folders: Sequence[str]) -> list[str]:
    """Add choices for parts named after their plugin, which need not be written out.

    `extractor=fusion extractor.weights={colour: 1, hog: 1}` implies `extractor.parts.colour=colour`.
    """
    given, added = given_by(overrides), []
    for key, value in given.items():
        group = keys.resolved(stage, key, given, folders).group
        plugin = registry.available(kind_of(group)).get(value) if group else None
        for name, spec in component_fields(plugin.cls).items() if plugin else ():
            named_by = spec.metadata.get("named_by")
            if named_by and kind_of(spec.metadata["group"]) == plugin.kind:  # type: ignore[union-attr]
                named = re.findall(r"[\w.-]+(?=\s*['\"]?\s*:)", given.get(f"{key}.{named_by}", ""))
                wanted = (f"{key}.{name}.{each}" for each in dict.fromkeys(named))
                added += [f"{each}={each.rpartition('.')[2]}" for each in wanted if each not in given]
    return added


def _override(
    word: str,
    stage: type[Stage] | None,
    given: Mapping[str, str],
    folders: Sequence[str],
    *,
    is_multirun: bool,
) -> str:
    match = OVERRIDE.fullmatch(word)
    if not match:
        return word
    plus, key, value = match.groups()
    if key in ADDED_GROUPS:
        plus = "+"
    if key in HYDRA_FOLDERS and (folder := expanded(value, strict=False)) != value:
        value = path_value(folder, is_multirun=False)
    if stage is not None and "@" not in key:
        meant = keys.resolved(stage, key, given, folders)
        _check_values(meant, key, value, is_multirun=is_multirun)
        if meant.is_literal:
            value = path_value(value, is_multirun=is_multirun)
        if is_multirun:
            value = _globbed(key, value, meant)
            if not plus and meant.path and not meant.group and meant.is_of_some:
                plus = "++"  # or Hydra would refuse the jobs whose choice lacks it; see `config.leave_out`
        if meant.group and "." in key and not meant.is_listed:  # Hydra requires a plus for nested choices
            plus = "+"
        if meant.group and meant.group != key:
            key = f"{meant.group}@{key}"
    return f"{plus}{key}={value}"


def _check_values(meant: keys.Key, key: str, value: str, *, is_multirun: bool) -> None:
    """Refuse a plain value that no owner of the option allows, before the first job of a sweep."""
    if not re.fullmatch(r"[\w.+-]+(,[\w.+-]+)*" if is_multirun else r"[\w.+-]+", value):
        return  # quoted, a list, a function of sweeps, an interpolation
    specs = [spec for cls in meant.owners for spec in dataclasses.fields(cls) if spec.name == meant.name]
    for each in value.split(",") if is_multirun else [value]:
        errors = []
        for spec in specs if each != "null" else ():
            with contextlib.suppress(ValueError):  # of another type, which Hydra refuses
                is_number = {spec.metadata.get(end) for end in ("minimum", "maximum")} - {None}
                chosen = {str(choice): choice for choice in choices_of(spec.metadata)}
                try:
                    check_range(spec.metadata, json.loads(each) if is_number else chosen.get(each, each), key)
                except UsageError as error:
                    errors.append(error)
        if errors and len(errors) == len(specs):
            raise errors[0]


def _globbed(key: str, value: str, meant: keys.Key) -> str:
    """`glob(...)` of an option with choices as these; Hydra itself knows globs of config groups only."""
    if meant.group or not value.startswith("glob("):
        return value
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob

    (parsed,) = OverridesParser.create().parse_overrides([f"{key}={value}"])
    glob = parsed.value()
    assert isinstance(glob, Glob)
    if not meant.choices:
        raise UsageError(f"{key}={value}: {key} has no list of choices to take from, name them: {key}=a,b")
    if not (found := glob.filter(meant.choices)):
        raise UsageError(f"{key}={value} is none of {', '.join(meant.choices)}")
    return ",".join(found)


def path_value(value: str, *, is_multirun: bool) -> str:
    """Quote the value of a path option for Hydra's grammar.

    An existing file is one value whatever its name. Otherwise lists, sweeps (`a,b` in a multirun), quoted values,
    interpolations and `null` keep their meaning; anything else is taken literally.

    >>> path_value("my photos/a, b.jpg", is_multirun=False)
    "'my photos/a, b.jpg'"
    >>> path_value("a.jpg,b.jpg", is_multirun=True)
    "'a.jpg','b.jpg'"
    >>> path_value("[hats, 'more hats']", is_multirun=False)
    "['hats','more hats']"
    """
    if _exists(value):
        return _quoted_path(value)
    if value in ("", "null") or "${" in value or _is_quoted(value):
        return value
    if is_multirun and re.match(r"(choice|glob|shuffle|sort|interval|range|tag)\(", value):
        return value
    if value.startswith("[") and value.endswith("]"):
        return f"[{','.join(path_value(each, is_multirun=False) for each in _split_commas(value[1:-1]))}]"
    if is_multirun:
        return ",".join(path_value(each, is_multirun=False) for each in _split_commas(value))
    return quoted(value)


def _split_commas(text: str) -> list[str]:
    """Split at commas outside quotes."""
    parts = re.findall(r"(?:'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^,'\"]|['\"])+", text)
    return [part.strip() for part in parts]


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def _exists(value: str) -> bool:
    return bool(value) and os.path.exists(value)


def _quoted_path(value: str) -> str:
    """Quote the name of an existing file, with `${` escaped."""
    return quoted(re.sub(r"(\\*)\$\{", r"\1\1\\${", value))


def quoted(value: str) -> str:
    r"""Quote a value for Hydra's grammar, where a backslash is an escape only before a quote.

    >>> print(quoted(r"it's a \path"))
    'it\'s a \path'
    """
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value) + "'"
