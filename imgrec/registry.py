"""Finds plugins through entry points, and builds components by kind and name."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import importlib.metadata
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, TypeVar, cast

import pluggy

from imgrec import hookspecs, plugin_files
from imgrec.errors import PluginError, UsageError
from imgrec.hookspecs import RunInfo
from imgrec.kinds import KINDS, Component, Decoder, Recorded, Source, Stage, kind_of
from imgrec.kinds.checks import base_of, checked_class, message_of
from imgrec.options import (
    allowed_types,
    check_option_names,
    component_fields,
    default_values,
    holds_several,
    option_names,
    suggestion,
    type_hints,
)

log = logging.getLogger(__name__)

T = TypeVar("T")
C = TypeVar("C", bound=Component)
Origin = importlib.metadata.Distribution | plugin_files.PluginFile | None
"""Where a plugin comes from; None if that is not known."""

Recogniser = TypeVar("Recogniser", bound=type[Decoder] | type[Source])


@dataclass(frozen=True)
class Plugin:
    """A component class, and its distribution."""

    cls: type[Component]
    source: Origin

    @property
    def kind(self) -> str:
        """The kind of its base class."""
        return base_of(self.cls).kind

    @property
    def name(self) -> str:
        """The name it is chosen by."""
        return self.cls.title()

    @property
    def distribution(self) -> str:
        """The name of its distribution."""
        return _distribution(self.source)[0]

    @property
    def version(self) -> str:
        """The version of its distribution."""
        return _distribution(self.source)[1]

    @property
    def origin(self) -> str:
        """Distribution and version, for messages."""
        return origin(self.source)


@functools.cache
def _distribution(source: Origin) -> tuple[str, str]:
    """Name and version, read lazily: it takes milliseconds for each distribution."""
    metadata: Any = source.metadata if source else {"Name": "unknown", "Version": ""}
    return metadata["Name"] or "unknown", metadata["Version"] or ""


def origin(source: Origin) -> str:
    """A distribution and its version, for messages."""
    return " ".join(_distribution(source))


@functools.cache
def manager() -> pluggy.PluginManager:
    """The plugin manager with every installed plugin that could be loaded.

    A plugin that fails to load costs a warning with its distribution and version, nothing else.

    Raises:
        PluginError: a plugin looks up plugins while it is imported, before all of them are known.
        UsageError: a plugin file cannot be loaded.
    """
    if _importing.get():
        raise PluginError("it asks for plugins while it is imported: ask in a function or a method")
    plugins = pluggy.PluginManager("imgrec")
    plugins.add_hookspecs(hookspecs)
    for entry in _entries():
        _register(plugins, entry)
    return plugins


def _register(plugins: pluggy.PluginManager, entry: importlib.metadata.EntryPoint) -> None:
    with _contained(f"plugin {entry.name}", entry.dist):
        plugin = _imported(entry)
        hookspecs.check_version(plugin)
        if not plugins.is_registered(plugin):
            plugins.register(plugin, name=f"{entry.name}:{entry.value}")
            _sources()[id(plugin)] = entry.dist
            with _contained(f"hook of plugin {entry.name}", entry.dist):
                hookspecs.check_hooks(plugins, plugin)


def load_plugin(path: str | os.PathLike[str]) -> list[str]:
    """Load a plugin from a file, also for processes that this one starts; again, if it has changed.

    Args:
        path: a Python file with the hook `imgrec_components`, as a plugin's module has it. Its code is run.

    Returns:
        How its components are chosen: `["extractor=grey"]`.

    Raises:
        UsageError: it cannot be read or loaded, or has the name of another plugin.
    """
    plugins = manager()
    entry = plugin_files.add(path).entry_point()
    if plugins.has_plugin(name := f"{entry.name}:{entry.value}"):
        plugins.unregister(name=name)
    for known in (available, _components):
        known.cache_clear()
    _register(plugins, entry)
    own = [plugin for plugin in _components() if plugin.source is entry.dist]
    for kind in {plugin.kind for plugin in own}:
        available(kind)
    return [plugin.cls.choice() for plugin in own]


_importing: contextvars.ContextVar[bool] = contextvars.ContextVar("importing", default=False)
"""Whether this thread is importing a plugin."""


def _imported(entry: importlib.metadata.EntryPoint) -> object:
    token = _importing.set(True)
    try:
        return entry.load()
    finally:
        _importing.reset(token)


@contextlib.contextmanager
def _contained(what: str, source: Origin, *, is_listener: bool = False) -> Iterator[None]:
    """Run code of a plugin: what it raises becomes a warning, except Ctrl-C, and what it prints goes to stderr.

    A plugin file was named on purpose: unless it listens to a run, what it raises is an error.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(source, plugin_files.PluginFile) and not is_listener:
            where = source.line_of(error)
            raise UsageError(f"{what} of {source.path} cannot be loaded: {message_of(error)}{where}") from error
        log.warning("%s of %s left out: %s", what, origin(source), message_of(error))


def _entries() -> Iterator[importlib.metadata.EntryPoint]:
    """The entry points of all plugins; a distribution whose entry points cannot be read is left out."""
    try:
        yield from importlib.metadata.entry_points(group="imgrec")
    except Exception:
        for source in importlib.metadata.distributions():
            try:
                yield from (entry for entry in source.entry_points if entry.group == "imgrec")
            except Exception as error:
                log.warning(
                    "plugins of %s left out: its entry points are unreadable: %s",
                    origin(source),
                    message_of(error),
                )
    yield from (file.entry_point() for file in plugin_files.named())


@functools.cache
def _sources() -> dict[int, Origin]:
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
    for plugin in _components():
        name = plugin.name
        if plugin.kind != kind:
            continue
        if name in found:
            is_file = isinstance(plugin.source, plugin_files.PluginFile)  # these come last
            way_out = "leave the file out, or rename its class" if is_file else "uninstall one"
            raise UsageError(
                f"two plugins claim {kind}={name}: {found[name].origin} and {plugin.origin}; {way_out}"
            )
        found[name] = plugin
    return dict(sorted(found.items()))


def classes(base: type[C]) -> dict[str, type[C]]:
    """The classes of a kind, given by its base class, by name.

    >>> from imgrec.kinds import Store
    >>> list(classes(Store))
    ['csv', 'lance', 'sqlite']
    """
    return {name: cast("type[C]", plugin.cls) for name, plugin in available(base.kind).items()}


@functools.cache
def _components() -> list[Plugin]:
    """The classes of all plugins; one with anything wrong is left out, with a warning."""

    def check(classes: Any, source: Origin) -> Iterator[Plugin]:
        if isinstance(classes, type):
            raise PluginError("imgrec_components returned a class: it returns a list of them")
        for cls in classes:
            with _contained(f"component {getattr(cls, '__name__', cls)}", source):
                yield Plugin(checked_class(cls), source)

    return ask("imgrec_components", "components", check)


def origin_of(component: Component) -> str:
    """The distribution and version that a component's class comes from, for messages."""
    plugin = available(component.kind).get(component.title())
    return plugin.origin if plugin else type(component).__module__


def notify(hook: str, run: RunInfo) -> None:
    """Call every listener of a run's event; one that fails costs a warning, not the run."""
    for implementation in getattr(manager().hook, hook).get_hookimpls():
        with _contained(f"listener {hook}", _source_of(implementation), is_listener=True):
            implementation.function(**dict.fromkeys(implementation.argnames, run))


def ask(hook: str, what: str, check: Callable[[Any, Origin], Iterable[T]]) -> list[T]:
    """Call a hook of every plugin, and collect what `check` yields for each result; failing plugins are left out.

    Args:
        hook: one without arguments.
        what: what the results are, for warnings.
        check: takes a plugin's result and distribution.
    """
    found: list[T] = []
    for implementation in getattr(manager().hook, hook).get_hookimpls():
        source = _source_of(implementation)
        with _contained(what, source):
            found += list(check(implementation.function(), source))
    return found


def _source_of(implementation: pluggy.HookImpl) -> Origin:
    return _sources().get(id(implementation.plugin))


def warn_of(cls: type[Component], error: BaseException) -> None:
    """Warn that a component is left out, naming its distribution."""
    log.warning("%s of %s left out: %s", cls.choice(), available(cls.kind)[cls.title()].origin, message_of(error))


def recognising(known: list[Recogniser], what: Any) -> Recogniser | None:
    """The first of some classes that recognises something; one that raises is removed, with a warning."""
    for cls in [*known]:
        try:
            if cls.recognises(what):
                return cls
        except Exception as error:
            with contextlib.suppress(ValueError):  # another thread has removed it
                known.remove(cls)
                warn_of(cls, error)
    return None


def build(kind: str, name: str, **options: Any) -> Any:
    """Build a component by kind and name, with its options: an `Extractor`, a `Store`, ...

    Raises:
        UsageError: no such kind, plugin or option; an option is missing or of the wrong type; a library that
            the plugin needs is not installed.

    >>> build("extractor", "colour", bins=4).options()["bins"]
    4
    """
    plugins = available(kind)
    if name not in plugins:
        raise _unknown(kind, name)
    return composed(plugins[name].cls, options)


def composed(cls: type[C], options: Mapping[str, Any], chosen: Mapping[str, str | None] | None = None) -> C:
    """Build a component with those that it holds, finding all of them by name and checking their options.

    Args:
        cls: its class.
        options: by name. A nested component is given as itself, as what `component.plain` makes of it, or as
            options of the plugin in `chosen`.
        chosen: the plugin of each nested component by its dotted key, as `Stage.plugins` returns them.

    Raises:
        UsageError: there is no such plugin; an option is missing, unknown or not allowed; a library is not
            installed.
    """
    owner = cls.title() if issubclass(cls, Stage) else f"{cls.kind} {cls.title()}"
    check_option_names(owner, option_names(cls), options)
    values = dict(options)
    for name, spec in component_fields(cls).items():
        values |= _component_at(cls, name, spec, values.get(name), chosen or {})
    if absent := [wanted for wanted in option_names(cls) if wanted not in {**default_values(cls), **values}]:
        if issubclass(cls, Stage):
            raise UsageError(f"{owner} needs {', '.join(f'{key}=' for key in absent)}: see imgrec {owner} --help")
        raise UsageError(f"{owner} needs {', '.join(absent)}")
    return cls(**values)


def stage(name: str, configuration: Mapping[str, Any], plugins: Mapping[str, str | None]) -> Stage:
    """Build a stage with its components, finding all of them by name and checking their options; run nothing.

    Args:
        name: of the stage.
        configuration: its options; those of its components under the names of the fields that they fill.
        plugins: the plugin of each component, as `Stage.plugins` returns them; None if the component is left out,
            or only its options are changed.

    Raises:
        UsageError: there is no such stage or plugin; an option is missing, unknown or not allowed; a library is
            not installed.
    """
    known = classes(Stage)
    if name not in known:
        raise UsageError(f"there is no stage {name!r}{suggestion(name, known)}: the stages are {', '.join(known)}")
    return composed(known[name], configuration, plugins)


def _component_at(
    cls: type[Component], name: str, spec: dataclasses.Field[Any], given: Any, chosen: Mapping[str, str | None]
) -> dict[str, Any]:
    """The value of a field that holds components, by the field's name; empty if its default is used."""
    kind = kind_of(spec.metadata["group"])
    if holds_several(spec):
        if not isinstance(given or {}, Mapping):
            raise UsageError(f"{cls.title()}.{name} holds components by name, not {given!r}")
        found = {key: _inner(kind, value, chosen, f"{name}.{key}") for key, value in (given or {}).items()}
        return {name: {key: value for key, value in found.items() if value is not None}}
    if given is not None and not isinstance(given, Mapping | Recorded | Component):
        raise UsageError(f"{cls.title()}.{name} holds options by name, not {given!r}")
    if chosen.get(name) or isinstance(given, Component) or _is_plain_component(given):
        return {name: _inner(kind, given, chosen, name)}
    allowed = allowed_types(type_hints(cls)[name])
    if Recorded in allowed:
        return {name: given if isinstance(given, Recorded) else Recorded(given or {})}
    if NoneType in allowed and not given:
        return {name: None}
    if spec.default is not dataclasses.MISSING and not given:
        return {}
    if NoneType in allowed and isinstance(given, Mapping):
        raise UsageError(f"{name}.{next(iter(given))} has no effect: no {name} is chosen, {name}=NAME does")
    raise UsageError(f"{cls.title()} needs {name}=")


def _is_plain_component(value: object) -> bool:
    return isinstance(value, Mapping) and value.keys() == {"name", "options"}


def _inner(kind: str, given: Any, chosen: Mapping[str, str | None], key: str) -> Component | None:
    """A nested component; None if nothing is chosen."""
    if isinstance(given, Component):
        return given
    if _is_plain_component(given):
        built: Component = build(kind, given["name"], **given["options"])
        return built
    if not (name := chosen.get(key)):
        return None
    plugin = available(kind).get(name)
    if plugin is None:
        raise _unknown(kind, name)
    below = {path.removeprefix(f"{key}."): each for path, each in chosen.items() if path.startswith(f"{key}.")}
    return composed(plugin.cls, given or {}, below)


def changed(component: C, changes: Mapping[str, Any]) -> C:
    """A copy of a component with options changed, also of nested components; mappings are merged.

    Raises:
        UsageError: it has no such option.

    >>> changed(build("extractor", "colour"), {"bins": 3}).options()["bins"]
    3
    """
    check_option_names(component.title(), option_names(type(component)), changes)
    values = component.options()
    for name, change in changes.items():
        values[name] = _changed(f"{component.title()}.{name}", values[name], change)
    return type(component)(**values)


def _changed(owner: str, value: Any, change: Any) -> Any:
    if isinstance(value, Component) and isinstance(change, Mapping):
        return changed(value, change)
    if not (isinstance(value, Mapping) and isinstance(change, Mapping)):
        return change
    if any(isinstance(each, Component) for each in value.values()):
        check_option_names(owner, value, change)
    return {**value, **{key: _changed(f"{owner}.{key}", value.get(key), each) for key, each in change.items()}}


def _unknown(kind: str, name: str) -> UsageError:
    plugins = available(kind)
    listed = f"available are {', '.join(plugins)}" if plugins else "none is installed"
    return UsageError(f"there is no {kind} {name!r}{suggestion(name, plugins)}: {listed}")


def others() -> list[tuple[str, str, str, str]]:
    """Plugins without components: kind (`listener` or `presets`), name, distribution and version."""
    kinds = {
        "imgrec_run_started": "listener",
        "imgrec_run_finished": "listener",
        "imgrec_conf_packages": "presets",
    }
    return sorted(
        {
            (kind, implementation.plugin_name.partition(":")[0], *_distribution(_source_of(implementation)))
            for hook, kind in kinds.items()
            for implementation in getattr(manager().hook, hook).get_hookimpls()
        }
    )
