"""Finds plugins through entry points, and builds components by kind and name."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import importlib.metadata
import importlib.util
import inspect
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import pluggy

from imgrec import hookspecs
from imgrec.contracts import CONTRACT_VERSION, Component, Decoder, Extractor, Reducer, RunInfo, Store
from imgrec.errors import UsageError
from imgrec.options import values_of, written

log = logging.getLogger(__name__)

KINDS: dict[str, type[Component]] = {cls.kind: cls for cls in (Extractor, Store, Reducer, Decoder)}
"""Kind to base class. The plugins of a kind come from the hook `imgrec_<kind>s`."""


NO_NAMES = frozenset("none null true false yes no on off y n nan inf".split())
"""What YAML and Hydra take for something else than a name."""


@dataclass(frozen=True)
class Plugin:
    """A component class, and where it comes from."""

    cls: type[Component]
    source: importlib.metadata.Distribution | None

    @property
    def distribution(self) -> str:
        """What was installed to have it."""
        return _distribution(self.source)[0]

    @property
    def version(self) -> str:
        """Of the distribution."""
        return _distribution(self.source)[1]

    @property
    def origin(self) -> str:
        """Distribution and version, for messages."""
        return _origin(self.source)


@functools.cache
def _distribution(source: importlib.metadata.Distribution | None) -> tuple[str, str]:
    """Name and version. Asked for late: it takes milliseconds, which many plugins would add up to a wait."""
    metadata: Any = source.metadata if source else {"Name": "unknown", "Version": ""}
    return metadata["Name"] or "unknown", metadata["Version"] or ""


def _origin(source: importlib.metadata.Distribution | None) -> str:
    return " ".join(_distribution(source))


class PluginError(Exception):
    """What is wrong with a plugin, in words; no bug of ours and none that the user could have made."""


@functools.cache
def manager() -> pluggy.PluginManager:
    """The plugin manager with every installed plugin that could be loaded.

    A plugin that fails to load costs a warning with its distribution and version, nothing else.
    """
    plugins = pluggy.PluginManager("imgrec")
    plugins.add_hookspecs(hookspecs)
    for entry in _entries():
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
                plugin = entry.load()
            _check_contract(plugin)
            if not plugins.is_registered(plugin):
                plugins.register(plugin, name=f"{entry.name}:{entry.value}")
                _sources()[id(plugin)] = entry.dist
                _check_hooks(plugins, plugin)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            log.warning("plugin %s of %s left out: %s", entry.name, _origin(entry.dist), _told(error))
    return plugins


def _entries() -> Iterator[importlib.metadata.EntryPoint]:
    """The entry points of all plugins; a distribution whose own cannot be read is left out."""
    try:
        yield from importlib.metadata.entry_points(group="imgrec")
    except Exception:
        for source in importlib.metadata.distributions():
            try:
                yield from (entry for entry in source.entry_points if entry.group == "imgrec")
            except Exception as error:
                log.warning(
                    "plugins of %s left out: its entry points are unreadable: %s", _origin(source), _told(error)
                )


def _check_contract(plugin: object) -> None:
    made_for = getattr(plugin, "imgrec_contract", 1)
    if not isinstance(made_for, int):
        raise PluginError(f"imgrec_contract is a whole number, not {made_for!r}")
    if made_for != CONTRACT_VERSION:
        older = made_for < CONTRACT_VERSION
        raise PluginError(
            f"it was made for version {made_for} of the contract, and this imgrec has {CONTRACT_VERSION}: "
            f"{'upgrade it, or take an older imgrec' if older else 'upgrade imgrec, or take an older one of it'}"
        )


def _check_hooks(plugins: pluggy.PluginManager, plugin: object) -> None:
    """Warn of hooks that nobody will ever call: misspelt ones, and those that were not marked."""
    known = [name for name in vars(hookspecs) if name.startswith("imgrec_")]
    callers = plugins.get_hookcallers(plugin) or []
    if unmarked := [name for name in known if hasattr(plugin, name) and name not in {c.name for c in callers}]:
        _warn_of(
            plugin,
            "hook",
            PluginError(f"not marked with @imgrec.hookimpl: {', '.join(unmarked)}"),
        )
    elif not callers:
        _warn_of(plugin, "plugin", PluginError(f"it has no hook: there are {', '.join(known)}"))
    for caller in callers:
        if not caller.has_spec():
            near = suggestion(caller.name, known)
            _warn_of(plugin, "hook", PluginError(f"there is no {caller.name}{near}: there are {', '.join(known)}"))


def _told(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "an error that cannot be printed"
    return text if isinstance(error, PluginError) else f"{type(error).__name__}: {text}"


@functools.cache
def _sources() -> dict[int, importlib.metadata.Distribution | None]:
    """The distribution of each registered plugin, by the plugin's id."""
    return {}


@functools.cache
def available(kind: str) -> dict[str, Plugin]:
    """The plugins of a kind by name, in alphabetical order.

    Raises:
        UsageError: there is no such kind, or two plugins claim one name.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no plugin kind {kind!r}: the kinds are {', '.join(KINDS)}")
    found: dict[str, Plugin] = {}
    for plugin in _plugins_of(kind):
        name = plugin.cls.name
        if name in found:
            raise UsageError(
                f"two plugins claim {kind}={name}: {found[name].origin} and {plugin.origin}; uninstall one"
            )
        found[name] = plugin
    return dict(sorted(found.items()))


def origin_of(component: Component) -> str:
    """The distribution and version that a component's class comes from, for messages."""
    plugin = available(component.kind).get(component.name)
    return plugin.origin if plugin else type(component).__module__


def tell(hook: str, run: RunInfo) -> None:
    """Tell every listener of a run's event; one that fails costs a warning, not the run."""
    for implementation in getattr(manager().hook, hook).get_hookimpls():
        try:
            with contextlib.redirect_stdout(sys.stderr):
                implementation.function(**dict.fromkeys(implementation.argnames, run))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            _warn_of(implementation.plugin, f"listener {hook}", error)


def _plugins_of(kind: str) -> list[Plugin]:
    """What the plugins' hooks return, each plugin for itself: one with anything wrong in it is left out."""
    found: list[Plugin] = []
    for implementation in getattr(manager().hook, f"imgrec_{kind}s").get_hookimpls():
        source = _sources().get(id(implementation.plugin))
        try:
            with contextlib.redirect_stdout(sys.stderr):
                classes: Any = implementation.function()
            if isinstance(classes, type):
                raise PluginError(f"imgrec_{kind}s returned a class: it returns a list of them")
            found += [Plugin(checked_class(kind, cls), source) for cls in classes]
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            _warn_of(implementation.plugin, f"{kind}s", error)
    return found


@dataclass(frozen=True)
class ConfFolder:
    """A folder of YAML files, laid out like `conf/`, and where it comes from."""

    path: str
    origin: str


@functools.cache
def conf_folders() -> list[ConfFolder]:
    """The folders of YAML files: imgrec's own, then what plugins bring (`imgrec_conf_packages`)."""
    here = Path(__file__).parent
    inside = here / "conf"  # in a wheel; in a checkout it lies beside the package
    found = [ConfFolder(str(inside if inside.is_dir() else here.parent / "conf"), "imgrec")]
    for implementation in manager().hook.imgrec_conf_packages.get_hookimpls():
        try:
            with contextlib.redirect_stdout(sys.stderr):
                packages: Any = implementation.function()
            if isinstance(packages, str):
                raise PluginError(f"imgrec_conf_packages returned {packages!r}: it returns a list")
            for package in packages:
                spec = importlib.util.find_spec(package)
                if spec is None or not spec.submodule_search_locations:
                    raise PluginError(f"there is no package {package!r}")
                origin = _origin_of(implementation.plugin)
                found += [ConfFolder(folder, origin) for folder in spec.submodule_search_locations]
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            _warn_of(implementation.plugin, "presets", error)
    return found


def presets(group: str, user_folders: Iterable[str] = ()) -> dict[str, Path]:
    """The YAML files of a config group by name: imgrec's and the plugins', then the user's, which win.

    Raises:
        UsageError: two plugins bring a preset of one name, or one has the name of a plugin.
    """
    claimed = {name: plugin.origin for name, plugin in available(group).items()} if group in KINDS else {}
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


def plugin_of(kind: str, name: str, user_folders: Iterable[str] = ()) -> Plugin | None:
    """The plugin that a choice stands for: itself, or what a preset begins with; None where there is none."""
    folders = list(user_folders)
    plugins = available(kind)
    for _ in range(10):  # presets on presets
        if name in plugins:
            return plugins[name]
        if (preset := presets(kind, folders).get(name)) is None:
            return None
        begins = re.search(r"defaults:\s*\[?\s*-?\s*(\w+)", preset.read_text(encoding="utf-8"))
        name = begins[1] if begins else ""
    return None


def choices(kind: str, user_folders: Iterable[str] = ()) -> list[str]:
    """What can be chosen of a kind: plugins, and the YAML presets on them."""
    return sorted({*available(kind), *presets(kind, user_folders)})


def _origin_of(plugin: object) -> str:
    return _origin(_sources().get(id(plugin)))


def warn_of(cls: type[Component], error: BaseException) -> None:
    """Say that a component is left out, and where it comes from."""
    log.warning("%s=%s of %s left out: %s", cls.kind, cls.name, available(cls.kind)[cls.name].origin, _told(error))


def _warn_of(plugin: object, what: str, error: BaseException) -> None:
    log.warning("%s of %s left out: %s", what, _origin_of(plugin), _told(error))


def checked_class(kind: str, cls: object) -> type[Component]:
    """A plugin's class, if it is one that can be listed, chosen and built.

    Raises:
        PluginError: saying what is wrong with it.
    """
    base = KINDS[kind]
    if not (isinstance(cls, type) and issubclass(cls, base) and dataclasses.is_dataclass(cls)):
        raise PluginError(f"imgrec_{kind}s returned {cls!r}, which is no dataclass derived from {base.__name__}")
    if inspect.isabstract(cls):
        raise PluginError(f"{cls.__name__} lacks {', '.join(sorted(cls.__abstractmethods__))}")
    _check_dataclass(cls)
    if not (isinstance(cls.name, str) and re.fullmatch(r"[A-Za-z]\w*", cls.name)) or cls.name in NO_NAMES:
        raise PluginError(f"{cls.__name__}.name cannot be chosen: it is {cls.name!r}, not letters, digits and _")
    if not (
        isinstance(cls.requires, Mapping) and all(re.fullmatch(r"\w+(\.\w+)*", each) for each in cls.requires)
    ):
        raise PluginError(
            f"{cls.__name__}.requires maps modules to commands that install them, not {cls.requires!r}"
        )
    try:
        option_rows(cls)
    except Exception as error:
        raise PluginError(f"the options of {cls.__name__} cannot be listed: {_told(error)}") from error
    inherited = {spec.name for spec in dataclasses.fields(base)}
    options = [name for name in option_names(cls) if name not in inherited]
    if taken := [
        name for name in options if hasattr(base, name) or name in base.__annotations__ or name == "name"
    ]:
        raise PluginError(
            f"{cls.__name__} has an option {taken[0]!r}, and that name means something else in the contract: "
            "rename it, or annotate it as ClassVar"
        )
    if issubclass(cls, Decoder):
        if options:
            raise PluginError(f"{cls.__name__} has options, {', '.join(options)}, and a decoder has none")
        is_right = not isinstance(cls.suffixes, str) and all(
            isinstance(each, str) and re.fullmatch(r"\.[^.A-Z]+", each) for each in cls.suffixes
        )
        if not is_right:
            raise PluginError(f"{cls.__name__}.suffixes are lower case with their dot, not {cls.suffixes!r}")
    return cls


def _check_dataclass(cls: type) -> None:
    """Find options that no @dataclass has made fields of."""
    if "__dataclass_fields__" not in cls.__dict__:
        hints = inspect.get_annotations(cls)
        annotated = [name for name, hint in hints.items() if "ClassVar" not in str(hint)]
        if annotated:
            raise PluginError(f"{cls.__name__} has options, {', '.join(annotated)}, and no @dataclass above it")
    if bare := [name for name, value in vars(cls).items() if isinstance(value, dataclasses.Field)]:
        raise PluginError(f"{cls.__name__}.{bare[0]} has no type: write `{bare[0]}: int = option(...)`")


@overload
def build(kind: Literal["extractor"], name: str, **options: Any) -> Extractor: ...
@overload
def build(kind: Literal["store"], name: str, **options: Any) -> Store: ...
@overload
def build(kind: Literal["reducer"], name: str, **options: Any) -> Reducer: ...
@overload
def build(kind: str, name: str, **options: Any) -> Component: ...
def build(kind: str, name: str, **options: Any) -> Component:
    """A component by kind and name, with its options.

    Raises:
        UsageError: no such kind, plugin or option; an option is missing or of the wrong type; a library that
            the plugin needs is not installed.

    >>> build("extractor", "colour", bins=4).options()["bins"]
    4
    """
    plugins = available(kind)
    if name not in plugins:
        raise UsageError(
            f"there is no {kind} {name!r}{suggestion(name, plugins)}: available are {', '.join(plugins)}"
        )
    cls = plugins[name].cls
    check_option_names(f"{kind} {name}", option_names(cls), options)
    if absent := [wanted for wanted in option_names(cls) if wanted not in {**defaults(cls), **options}]:
        raise UsageError(f"{kind} {name} needs {', '.join(absent)}")
    return cls(**options)


def defaults(cls: type) -> dict[str, Any]:
    """The options of a component or stage that have a default, with it."""
    found = {}
    for spec in dataclasses.fields(cls):
        if spec.default is not dataclasses.MISSING:
            found[spec.name] = spec.default
        elif spec.default_factory is not dataclasses.MISSING:
            found[spec.name] = spec.default_factory()
    return found


def option_names(cls: type) -> list[str]:
    """The names of a component's or stage's options."""
    return [spec.name for spec in dataclasses.fields(cls)]


def others() -> list[tuple[str, str, str, str]]:
    """Plugins without components: kind (`listener` or `presets`), name, distribution and version."""
    kinds = {
        "imgrec_run_started": "listener",
        "imgrec_run_finished": "listener",
        "imgrec_conf_packages": "presets",
    }
    return sorted(
        {
            (
                kind,
                implementation.plugin_name.partition(":")[0],
                *_distribution(_sources().get(id(implementation.plugin))),
            )
            for hook, kind in kinds.items()
            for implementation in getattr(manager().hook, hook).get_hookimpls()
        }
    )


def summary(cls: type) -> str:
    """The first line of a docstring; nothing where a dataclass has only the one that Python gave it."""
    line = (cls.__doc__ or "").strip().split("\n")[0]
    return "" if line.startswith(f"{cls.__name__}(") else line


@dataclass(frozen=True)
class OptionRow:
    """One option, as help and README tell of it."""

    name: str
    default: str
    help: str


def option_rows(cls: type) -> list[OptionRow]:
    """The options of a stage or component, without what config groups fill."""
    known, rows = defaults(cls), []
    for spec in dataclasses.fields(cls):
        if "group" not in spec.metadata:
            values = values_of(cls, spec)
            default = known.get(spec.name, "...")
            listed = f" ({', '.join(values)})" if values and not isinstance(default, bool) else ""
            rows.append(OptionRow(spec.name, written(default), spec.metadata.get("help", "") + listed))
    return rows


def check_option_names(owner: str, known: Iterable[str], given: Iterable[str]) -> None:
    """Refuse options that a component does not have.

    Raises:
        UsageError: naming the first one, the nearest that exists, and all that exist.
    """
    known = list(known)
    for name in given:
        if name not in known:
            raise UsageError(
                f"{owner} has no option {name!r}{suggestion(name, known)}: it has {', '.join(known) or 'none'}"
            )


def suggestion(word: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)`, or nothing where no known word is near.

    >>> suggestion("colr", ["colour", "timm"])
    ' (did you mean colour?)'
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
