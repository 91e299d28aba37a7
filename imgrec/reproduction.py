"""Replays a run from its record and compares the results."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgrec import images, plugin_files, registry
from imgrec.errors import NoStoreError, UsageError
from imgrec.gallery.recorded import DEFAULT
from imgrec.ingestion.ingest import ingest
from imgrec.kinds import Batch, Extractor, Space, Stage, Store, kind_of
from imgrec.kinds.differences import differences
from imgrec.options import component_fields, option_names
from imgrec.run import DIFF, RECORD, Run, flat, git_commit, git_diff, read_record, version_of

log = logging.getLogger(__name__)

GROUPS = ("result", "data", "version", "weights")

COSTS = frozenset(("timings", "seconds", "bytes_per_image"))
"""Keys of results that may differ between runs on the same data, as may those that end in `COST_ENDINGS`."""

COST_ENDINGS = ("_mb", "_seconds", "_per_s", "_ms")

SHOWN = 10
"""How many differing values of a file are listed one by one."""


@dataclass(frozen=True)
class Difference:
    """A difference from the record."""

    group: str
    """One of `GROUPS`."""

    text: str

    def __str__(self) -> str:
        return f"{self.group}: {self.text}"


def replay(folder: str | os.PathLike[str], again: Path, run: Run) -> list[Difference]:
    """Repeat a recorded run and compare the results.

    The files of its gallery, or of its `source`, are extracted by the recorded extractors into a temporary store,
    on which the stage then runs. Components are built only by their plugins' names, never from anything else in
    the record. Relative paths start at the recorded working directory.

    Args:
        folder: the folder of the recorded run.
        again: an empty folder for the new results.
        run: the run of the replay itself, which records the timings.

    Raises:
        UsageError: the run cannot be repeated.
        ImgrecError: the repeated run failed.
    """
    before = Path(folder).absolute()
    record = read_record(before)
    _check(record, before)
    with (
        contextlib.chdir(record["directory"]),
        tempfile.TemporaryDirectory(prefix="imgrec-replay-") as temporary,
    ):
        stage, gallery = _stage_on_new_store(record, Path(temporary)), _recorded_store(record)
        spaces = [Space.from_json(each) for each in record["gallery"]["spaces"]]
        extractors = [registry.build("extractor", each.extractor, **each.options) for each in spaces]
        differences = [*_other_versions(record, before), *_other_spaces(spaces, extractors)]
        if not all(Space.of(each) == space for each, space in zip(extractors, spaces, strict=True)):
            return [*differences, Difference("result", "not made again: the vectors would be of another space")]
        files, gone = _files(record, gallery, spaces)
        if gone:
            text = f"{len(gone)} of {len(gone) + len(files)} files are gone, such as {gone[0]}"
            differences.append(Difference("data", text))
        made = Run(
            record["stage"], again, record["command"], record["configuration"], record["choices"], is_quiet=True
        )
        made.repeats = before
        made.works_with(stage)
        made_store: Store = getattr(stage, _store_field(type(stage)) or "")
        with run.timed("extract"):
            ingest(files, extractors, made_store, show_progress=True)
            if metadata := record["gallery"].get("notes"):
                with made_store as store:
                    store.write(Batch(metadata={DEFAULT: next(iter(metadata)), **metadata}))
        with run.timed("replay"):
            stage.execute(made)
        made.status = "done"
        made.save()
        differences += [*_other_data(record, made), *_other_plugins(record, made)]
        differences += _other_vectors(gallery, made_store, spaces)
        return [*differences, *_other_results(type(stage), before, again)]


# --- from the record to a stage -----------------------------------------------------------------------------

SHAPE = {
    "status": str,
    "command": list,
    "directory": str,
    "choices": dict,
    "components": dict,
    "configuration": dict,
    "inputs": dict,
    "plugins": dict,
    "versions": dict,
}
"""Required keys of a record and their types, besides `gallery`."""


def _check(record: Mapping[str, Any], folder: Path) -> None:
    """Validate a record before anything is built from it.

    Raises:
        UsageError: the run cannot be repeated.
    """
    file = folder / RECORD
    for name, kind in SHAPE.items():
        if not isinstance(record.get(name), kind):
            raise UsageError(f"{file} cannot be replayed: it lacks {name!r}, or was made by another imgrec")
    if not all(isinstance(each, str | None) for each in record["components"].values()):
        raise UsageError(f"{file} cannot be replayed: its components are no names")
    cls = registry.classes(Stage).get(record["stage"])
    if cls is not None and _store_field(cls) is None:
        raise UsageError(
            f"{folder} is a run of {record['stage']}, which has no gallery: there is nothing to replay"
        )
    if record["status"] != "done":
        raise UsageError(f"{folder} is a run that is {record['status']}, not done: there is nothing to compare")
    try:
        spaces = [Space.from_json(each) for each in record["gallery"]["spaces"]]
    except (KeyError, TypeError, ValueError):
        spaces = []
    if not spaces:
        raise UsageError(f"{file} cannot be replayed: it tells of no gallery that the run worked on")
    _check_plugin_files(record, folder)
    if not Path(record["directory"]).is_dir():
        raise UsageError(f"{file} cannot be replayed: it ran in {record['directory']}, which is gone")


def _check_plugin_files(record: Mapping[str, Any], folder: Path) -> None:
    """Refuse to replay without the plugin files of the record: these are never loaded by what a record says."""
    recorded, loaded = record.get("plugin_files") or {}, plugin_files.digests()
    if not isinstance(recorded, Mapping):
        raise UsageError(f"{folder / RECORD} cannot be replayed: its plugin files are no digests by path")
    for path, digest in recorded.items():
        if digest in loaded.values():
            continue
        if path in loaded:
            raise UsageError(
                f"{folder} cannot be replayed: the plugin file {path} has another content than it had then "
                f"(sha256 {str(digest)[:12]}..., now {loaded[path][:12]}...)"
            )
        raise UsageError(f"{folder} cannot be replayed without its plugin file: plugins=[{path}]")


def _stage_on_new_store(record: Mapping[str, Any], folder: Path) -> Stage:
    """Build the recorded stage with stores of the same kinds in another folder."""
    configuration, plugins = dict(record["configuration"]), record["components"]
    cls = registry.classes(Stage).get(record["stage"])
    for part, spec in (component_fields(cls) if cls else {}).items():
        plugin, options = registry.available("store").get(plugins.get(part) or ""), configuration.get(part, {})
        if kind_of(spec.metadata["group"]) == "store" and plugin and isinstance(options, Mapping):
            if "path" not in option_names(plugin.cls):
                raise UsageError(f"store={plugin.name} has no option path: no temporary one can be made")
            configuration[part] = {**options, "path": str(folder / part)}
    for spec in dataclasses.fields(cls) if cls else ():
        if spec.metadata.get("is_output"):
            configuration.pop(spec.name, None)
    return registry.stage(record["stage"], configuration, plugins)


def _recorded_store(record: Mapping[str, Any]) -> Store:
    field = _store_field(registry.classes(Stage)[record["stage"]]) or ""
    store: Store = registry.build("store", record["components"][field], **record["configuration"][field])
    return store


def _store_field(cls: type[Stage]) -> str | None:
    """The field that holds the store of a stage's gallery, or None."""
    fields = component_fields(cls)
    return next((name for name, spec in fields.items() if spec.metadata["group"] == Store.kind), None)


def _files(record: Mapping[str, Any], store: Store, spaces: Sequence[Space]) -> tuple[Sequence[str], list[str]]:
    """The files to extract, from the stage's source or else its gallery, and those that are gone."""
    if (source := record["configuration"].get("source")) is not None:
        return ([source] if isinstance(source, str) else source), []
    with store:
        held = {digest for space in spaces for digest in store.digests(space)}
        paths = sorted(each.path for each in store.records() if not each.missing and each.digest in held)
    found = [path for path in paths if images.is_there(path)]
    if not found:
        raise UsageError(f"none of the {len(paths)} files of the gallery {store.location} is there any more")
    return found, sorted(set(paths).difference(found))


# --- what differs -------------------------------------------------------------------------------------------


def _changes(group: str, what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            text = f"{what}{name} was {_shown(before, name)} and is {_shown(now, name)}"
            yield Difference(group, text)


def _shown(values: Mapping[str, Any], name: str) -> str:
    return str(values[name]) if values.get(name) is not None else "absent"


def _other_versions(record: Mapping[str, Any], folder: Path) -> Iterator[Difference]:
    yield from _changes("version", "", record["versions"], {name: version_of(name) for name in record["versions"]})
    commit = git_commit()
    if record.get("git") != commit:
        yield from _changes("version", "", {"git": record.get("git")}, {"git": commit})
    elif commit and commit.endswith("+"):
        file = folder / DIFF
        if not file.exists() or file.read_bytes() != git_diff():
            yield Difference("version", f"git: tracked files differ from the commit otherwise than in {file}")


def _other_spaces(spaces: Sequence[Space], extractors: Sequence[Extractor]) -> Iterator[Difference]:
    for space, extractor in zip(spaces, extractors, strict=True):
        before, now = dict(space.identity), dict(Space.of(extractor).identity)
        weights = ({"weights": each.pop("weights", None)} for each in (before, now))
        yield from _changes("weights", f"{space.key}: ", *weights)
        yield from _changes("version", f"{space.key}: ", before, now)


def _other_plugins(record: Mapping[str, Any], made: Run) -> Iterator[Difference]:
    # Records of earlier versions may lack some plugins.
    known = {name: origin for name, origin in made.plugins.items() if name in record["plugins"]}
    return _changes("version", "", record["plugins"], known)


def _other_data(record: Mapping[str, Any], made: Run) -> Iterator[Difference]:
    before, now = record["gallery"], made.gallery or {}
    if before.get("images") != now.get("images"):
        yield Difference("data", f"the gallery's images were {before.get('images')} and are {now.get('images')}")
    elif before.get("fingerprint") != now.get("fingerprint"):
        yield Difference("data", "the gallery has as many images, and not the same")
    for name in {**record["inputs"], **made.inputs}:
        if record["inputs"].get(name) != made.inputs.get(name):
            yield Difference("data", f"{name} has another content")


def _other_vectors(before: Store, now: Store, spaces: Sequence[Space]) -> Iterator[Difference]:
    """Compare new vectors with those of the recorded store, bit for bit."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(before)
        except NoStoreError:
            log.warning("the gallery %s is gone: vectors are not compared", before.location)
            return
        stack.enter_context(now)
        unequal: dict[Space, dict[str, float]] = {space: {} for space in spaces}
        compared = dict.fromkeys(spaces, 0)
        for found in differences(now, before, 65_536, spaces, by_value=True):
            for space in found.compared:
                compared[space] += found.compared[space]
                unequal[space] |= found.unequal[space]
        for space, apart in unequal.items():
            if apart:
                most = max(apart.values())
                text = (
                    f"{len(apart)} of {compared[space]} vectors of {space.key} differ, by {most:.3g} at the most"
                )
                yield Difference("result", text)


def _other_results(stage: type[Stage], before: Path, now: Path) -> Iterator[Difference]:
    """Compare results value by value; pictures are drawn from these and are not compared."""
    found = [{file.name for kind in ("*.json", "*.csv") for file in each.glob(kind)} for each in (before, now)]
    for name in sorted((found[0] | found[1]) - {RECORD}):
        if not all(name in names for names in found):
            yield Difference("result", f"{name} is {'new' if name in found[1] else 'not made any more'}")
            continue
        old, new = (_values(stage, folder / name) for folder in (before, now))
        changed = [key for key in {**old, **new} if repr(old.get(key)) != repr(new.get(key))]
        for key in changed[:SHOWN]:
            yield Difference("result", f"{name}: {key} was {_shown(old, key)} and is {_shown(new, key)}")
        if len(changed) > SHOWN:
            yield Difference("result", f"{name}: {len(changed) - SHOWN} more values differ")


def _values(stage: type[Stage], file: Path) -> dict[str, Any]:
    """The values in a file of results, by their position."""
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        if file.suffix == ".csv":
            return flat(list(csv.DictReader(lines)))
        try:
            data = json.load(lines)
            return flat(without_costs(stage.reproducible(data) if file.name == "results.json" else data))
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{file} is damaged: {type(error).__name__}: {error}") from None


def without_costs(data: Any) -> Any:
    """Results without times, speeds and sizes, which may differ between runs on the same data."""
    if isinstance(data, Mapping):
        return {name: without_costs(value) for name, value in data.items() if not _is_cost(name)}
    return [without_costs(each) for each in data] if isinstance(data, list) else data


def _is_cost(name: str) -> bool:
    return name in COSTS or name.endswith(COST_ENDINGS)
