"""Bringing a store up to date with the images under a source."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgrec import images, presets, registry
from imgrec.errors import ImgrecError, NoStoreError, UsageError
from imgrec.extraction import extract
from imgrec.ingestion.estimate import MANY, Estimate, estimate
from imgrec.ingestion.report import IngestReport
from imgrec.ingestion.steps import Ingestion, process
from imgrec.kinds import Component, Engine, Extractor, Space, Store
from imgrec.kinds.component import check_component
from imgrec.kinds.store import only_writer
from imgrec.run import progress

log = logging.getLogger(__name__)


def extractors_of(chosen: Extractor | Sequence[Extractor]) -> list[Extractor]:
    """The extractors that fill one space each, no space twice."""
    several = [chosen] if isinstance(chosen, Extractor) else chosen
    found = [term.extractor for each in several for term in each.terms().values()]
    return list({Space.of(each): each for each in found}.values())


def ingest(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    extractor: Extractor | Sequence[Extractor],
    store: Store,
    backup: Store | None = None,
    *,
    engine: Engine | None = None,
    exclude: str | Sequence[str] | None = None,
    batch_size: int = 64,
    retry_failed: bool = False,
    bring_back: bool = False,
    prune: bool = False,
    force: bool = False,
    report: IngestReport | None = None,
    show_progress: bool = False,
    before: Callable[[Estimate], bool] | None = None,
    before_from: int = MANY,
    seed: int = 0,
) -> IngestReport:
    """Bring a store up to date with the images under a source.

    Only what the store lacks is decoded and extracted. After an interruption, the next call resumes from the last
    batch written.

    Args:
        source: folders and files. One that is gone may be given if the store has images of it: they are missing.
        extractor: one extractor or several, or a fusion, which the store records; each image is decoded once for
            all that need the same size.
        store: created if it does not exist.
        backup: a second store, made a copy of `store` and kept so.
        engine: where the work is done; by default the choice of `conf/stage/ingest.yaml`.
        exclude: patterns as in `.gitignore`, relative to each folder of the source: what they name is no
            photograph, nor what a file `.imgrecignore` in a folder names, nor what `images.Exclusion` excludes by
            itself. Excluded images that the store has count as missing.
        batch_size: images that are extracted at once; a transaction has as many, or more if the store wants it.
        retry_failed: read files again that failed and have not changed since; changed ones are read anyway.
        bring_back: take images again that were forgotten on purpose; one that is named itself is taken anyway.
        prune: forget the images below the source that are missing.
        force: prune although more than half of the gallery is missing.
        report: counts to add to, which are then known even if the call fails.
        show_progress: whether to show a progress bar on stderr.
        before: called first with an estimate of what it will take, from a probe of 64 files; where it returns
            False, nothing is done. None: there is no probe.
        before_from: how many files must be new at the least for this.
        seed: of the choice of files that are probed.

    Returns:
        How many files were new, unchanged, moved, missing and failed.

    Raises:
        UsageError: the source does not exist or has no images; a pattern is none; the store is not one; the
            extractor cannot work.
        ImgrecError: none of the files could be read; the store could not be written; the extractor broke its
            contract.
    """
    if force and not prune:
        raise UsageError("force=true has no effect without prune=true, which forgets missing images")
    _check_components(extractor, store, backup, engine)
    roots = roots_of(source, store)
    extractors = extractors_of(extractor)
    _check_batches(extractors, batch_size)
    exclusion = images.Exclusion(roots, exclude)
    with progress("looking for images", None, shown=show_progress) as advance:
        files = images.Listing(roots, exclusion, advance)
    _tell_away(roots, files.present)
    if not files.total and not knows_any(store, roots):
        but = f", but {images.passed_over(files.passed_over)}" if files.passed_over else ""
        others = f" and {len(roots) - 3:,} others" if len(roots) > 3 else ""
        raise UsageError(f"there are no images in {', '.join(roots[:3])}{others}{but}")
    spaces = {Space.of(each): each for each in extractors}

    def takes(path: str) -> bool:
        return bring_back or path in roots

    _check_before(store, backup, extractors)
    found = IngestReport() if report is None else report
    if before is not None and files.total - _known(store, roots, spaces) >= before_from:
        ingestion = Ingestion(
            spaces, [store], IngestReport(), exclusion, retry_failed=retry_failed, bring_back=takes
        )
        if not before(_estimated(ingestion, files, backup, engine or _usual_engine(), batch_size, seed)):
            return found
    with contextlib.ExitStack() as stack:
        stack.enter_context(only_writer(store, backup))
        _check_backup(store, backup)
        stores = [stack.enter_context(store.open(create=True))]
        store.keep_paths()
        if backup is not None:
            stores.append(stack.enter_context(backup.open(create=True)))
            backup.copy_from(store, exactly=True)
        advance = stack.enter_context(progress("ingest", files.total, shown=show_progress))
        ingestion = Ingestion(
            spaces,
            stores,
            found,
            exclusion,
            retry_failed=retry_failed,
            bring_back=takes,
        )
        ingestion.report.passed_over = files.passed_over
        ingestion.remember([extractor] if isinstance(extractor, Extractor) else extractor)
        try:
            process(ingestion, files, engine or _usual_engine(), batch_size, advance)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the same command goes on from here") from None
        if lost := _lost(ingestion, files.present):
            raise ImgrecError(f"source {lost} is gone: what was read of it is kept, the rest left as it was")
        ingestion.mark_missing(roots, files.present)
        ingestion.note_decoding()
        if prune:
            ingestion.forget_missing(roots, force=force)
        ingestion.record_drives(files.present)
        ingestion.check_read(roots, files.total)
    return ingestion.report


def _check_components(extractor: object, *others: object) -> None:
    """Refuse what is no component of its kind: the name of one, say."""
    bases: tuple[type[Component], ...] = (Store, Store, Engine)
    for component, base, name in zip(others, bases, ("store", "backup", "engine"), strict=True):
        check_component(component, base, name)
    for each in extractor if isinstance(extractor, list | tuple) else [extractor]:
        check_component(each, Extractor, "extractor")


def _check_batches(extractors: Sequence[Extractor], batch_size: int) -> None:
    if not extractors or batch_size < 1:
        raise UsageError("ingest wants an extractor at least, and batches of 1 image at least")


def what_alone_is_seen(store: Store, extractors: Sequence[Extractor]) -> str | None:
    """A line for a new gallery that will not compare what its pictures show, with what does; None for others."""
    seen = [each.sees for each in extractors]
    with contextlib.suppress(NoStoreError), store:
        if store.spaces():
            return None
    if None in seen:
        return None
    kind = Extractor.kind
    plugins = {
        name: presets.plugin_of(kind, name) for name in presets.files(kind) if not presets.inside(kind, name)
    }
    others = [name for name, plugin in plugins.items() if plugin and getattr(plugin.cls, "sees", "") is None]
    what = " and ".join(dict.fromkeys(filter(None, seen)))
    return f"images are compared by {what} alone; by what they show with extractor=, one of {', '.join(others)}"


def _known(store: Store, roots: Sequence[str], spaces: Mapping[Space, Extractor]) -> int:
    """How many files below the roots the store has; none, if it lacks a space, into which all are extracted."""
    below = set(roots)
    with contextlib.suppress(NoStoreError), store:
        if spaces.keys() <= set(store.spaces()):
            return sum(images.is_inside(row.path, below) for row in store.records())
    return 0


def _estimated(
    ingestion: Ingestion, files: images.Listing, backup: Store | None, engine: Engine, batch_size: int, seed: int
) -> Estimate:
    store = ingestion.store
    options: dict[str, Any] = {"batch_size": batch_size, "seed": seed}
    stores = [store] if backup is None else [store, backup]
    with contextlib.suppress(NoStoreError), store:
        todo = ingestion.to_do(files)
        return estimate(
            todo,
            ingestion.spaces,
            engine,
            stores,
            is_held=lambda *one: bool(store.digests(one[0], one[1:])),
            **options,
        )
    return estimate(files, ingestion.spaces, engine, stores, is_held=lambda *_: False, **options)


def _usual_engine() -> Engine:
    engine: Engine = registry.build(Engine.kind, presets.default_choices("ingest")["engine"] or "")
    return engine


def _is_there(store: Store) -> bool:
    with contextlib.suppress(NoStoreError), store:
        return True
    return False


def _try_out(extractor: Extractor) -> None:
    """Run an extractor once: if it cannot work, for lack of a device say, no store is created for it."""
    black = np.zeros((64, 64, 3), np.uint8)
    extract(extractor, [black], ["a black image"])


def roots_of(source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], store: Store) -> images.Roots:
    """The folders and files of a source, as absolute paths; one that is gone if the store knows files of it.

    Raises:
        UsageError: there is none, or one does not exist, and never did as far as the store knows.
    """
    found = images.roots(source, may_be_gone=lambda path: knows_any(store, [path]))
    with contextlib.suppress(NoStoreError), store:
        return images.Roots(images.outermost([store.named(path) for path in found]))
    return found


def _lost(ingestion: Ingestion, present: Sequence[str]) -> str | None:
    """A root that is gone by now; one elsewhere that is a file itself was found, and is not asked for again."""
    seen = ingestion.seen.has(present)
    folders = [root for root, is_file in zip(present, seen, strict=True) if not is_file]
    there = zip(folders, images.are_there(folders), strict=True)
    return next((root for root, is_there in there if not is_there), None)


def _tell_away(roots: Sequence[str], present: Sequence[str]) -> None:
    """Say which roots are not there, or cannot be opened."""
    if away := sorted(set(roots) - set(present)):
        example = images.state(away[0])
        why = (example and example.problem) or "does not exist"
        some = f"{len(away):,} of the source's {len(roots):,} roots" if len(roots) > 1 else "the source"
        log.warning("%s %s left out: %s %s", some, "is" if len(away) == 1 else "are", away[0], why)


def knows_any(store: Store, roots: Sequence[str]) -> bool:
    """Whether a store has records or failures below the roots: then that they are gone is a change, no error."""
    below = set(roots)
    with contextlib.suppress(NoStoreError), store:
        paths = (row.path for rows in (store.records(), store.failures()) for row in rows)
        return any(images.is_inside(path, below) for path in paths)
    return False


def _check_before(store: Store, backup: Store | None, extractors: Sequence[Extractor]) -> None:
    """Refuse what cannot work, before any store is created or changed."""
    if backup is not None and Path(backup.location).absolute() == Path(store.location).absolute():
        raise UsageError(f"store and backup are both {store.location}: give backup.path=")
    if not _is_there(store):
        for extractor in extractors:
            _try_out(extractor)


def _check_backup(store: Store, backup: Store | None) -> None:
    """Refuse to overwrite a backup with images by a store without any, whose content may be lost."""
    if backup is None:
        return
    with contextlib.suppress(NoStoreError), backup:
        held = next(backup.records(), None)
        with contextlib.suppress(NoStoreError), store:
            if next(store.records(), None) is not None:
                return
        if held is not None:
            raise UsageError(
                f"the backup {backup.location} holds images, and the store {store.location} none: "
                f"`imgrec restore` it first, or give another backup.path="
            )
