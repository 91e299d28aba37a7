"""Writes a gallery's vectors and records to a file or folder that other programs read."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from imgrec.batches import chunks
from imgrec.errors import ImgrecError, UsageError
from imgrec.exchange.arrays import Numpy
from imgrec.exchange.contents import BLOCK, About, Block, Column, Form
from imgrec.exchange.duckdb import DuckDB
from imgrec.exchange.parquet import Parquet
from imgrec.gallery import similarity as similarities
from imgrec.gallery.narrowing import Where, filter_of
from imgrec.gallery.results import Filter
from imgrec.gallery.similarity import Similarity
from imgrec.images import versions
from imgrec.kinds import Record, Store
from imgrec.kinds.component import check_component
from imgrec.paths import expanded
from imgrec.run import progress
from imgrec.search import tables

FORMS: dict[str, Form] = {"parquet": Parquet(), "numpy": Numpy(), "duckdb": DuckDB()}


@dataclass(frozen=True)
class Exported:
    """What was exported."""

    similarity: Similarity
    """Of the spaces whose vectors they are."""

    images: int
    dims: dict[str, int]
    """By the keys of spaces, how many values a vector has."""

    digest: str
    """SHA-256 of paths, contents and vectors, in order. It does not depend on the form."""

    fingerprint: str
    """Of the contents; see `tables.fingerprint`."""

    without_vector: int
    """Images that were left out, since they have no vector in one of the spaces."""

    missing: int
    """Images that were left out, since they were missing at the last ingest."""


def export_vectors(
    store: Store,
    to: str | os.PathLike[str],
    form: str = "parquet",
    *,
    space: str | None = None,
    where: Filter | Mapping[str, Any] | None = None,
    force: bool = False,
    show_progress: bool = False,
) -> Exported:
    """Write vectors and records to a file or folder, in the order of paths; all of it or nothing.

    Args:
        store: filled by `ingest`.
        to: what does not exist yet; for `parquet` a file whose name ends so.
        form: `parquet`; `numpy`, a folder of arrays with a CSV file; or `duckdb`, a folder with a script
            that loads it.
        space: which space or fusion, of which all spaces are written; None: what images are compared by.
        where: which files: a function of a record, or options, `{"label": "hat"}`; None for all.
        force: replace an earlier export.
        show_progress: whether to show a progress bar on stderr.

    Raises:
        UsageError: there is no such space or form, no image, or `to` exists.
        ImgrecError: it cannot be written.

    >>> import imgrec, tempfile
    >>> from imgrec.testing import write_pictures
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_pictures(Path(folder, "photos"))
    ...     store = imgrec.build("store", "sqlite", path=f"{folder}/gallery.sqlite")
    ...     _ = imgrec.ingest(f"{folder}/photos", imgrec.build("extractor", "colour"), store)
    ...     exported = imgrec.export_vectors(store, f"{folder}/vectors", form="numpy")
    ...     np.load(f"{folder}/vectors/vectors.npy", mmap_mode="r").shape
    (9, 125)
    """
    check_component(store, Store, "store")
    if form not in FORMS:
        raise UsageError(f"form is one of {', '.join(FORMS)}, not {form!r}")
    where = filter_of(where)
    target = Path(expanded(os.fspath(to))).absolute()
    _check_place(target, FORMS[form], force=force)
    with store, store.snapshot():
        chosen = _Chosen(store, similarities.choose(store, space), where)
        blocks = chosen.blocks()
        if (first := next(blocks, None)) is None:
            if isinstance(where, Where) and not chosen.paths and not chosen.missing and chosen.all:
                raise where.refusal(store.records())
            raise UsageError(f"there is nothing to export: of {chosen.told()} are left")
        about = chosen.about(FORMS[form].vectors, first)
        noted = _Noted(about)
        with _put_in_place(target) as aside, progress("export", len(chosen.paths), shown=show_progress) as advance:
            FORMS[form].write(aside, about, noted.renamed(itertools.chain([first], blocks), advance))
    return Exported(
        chosen.similarity,
        noted.images,
        {each.space.key: each.dim for each in about.columns},
        noted.digest(),
        tables.fingerprint(noted.contents),
        chosen.without_vector,
        chosen.missing,
    )


class _Chosen:
    """The images to export, and their vectors."""

    def __init__(self, store: Store, similarity: Similarity, where: Filter | None) -> None:
        self.similarity, self._store = similarity, store
        self.paths: list[str] = []
        self.all = self.missing = self.without_vector = 0
        for record in store.records():
            self.all += 1
            if where is None or where(record):
                self.missing += record.missing
                self.paths += [] if record.missing else [record.path]
        self.paths.sort()

    def told(self) -> str:
        """How many there are, in words."""
        return f"{self.all:,} images, {self.missing:,} of them missing, {len(self.paths) - self.without_vector:,}"

    def blocks(self) -> Iterator[Block]:
        """The images that have a vector in each space, and their vectors by the names of terms."""
        keys = {term.space.key for term in self.similarity.terms}
        for paths in chunks(self.paths, BLOCK):
            records = {record.path: record for record in self._store.records(paths=paths)}
            contents = sorted({record.digest for record in records.values()})
            vectors, rows = {}, {}
            for term in self.similarity.terms:
                digests, vectors[term.name] = self._store.vectors(term.space, contents)
                rows[term.name] = {digest: row for row, digest in enumerate(digests)}
            found = [records[path] for path in paths if path in records]
            held = [record for record in found if all(record.digest in each for each in rows.values())]
            self.without_vector += len(paths) - len(held)
            if held:
                of_terms = {name: vectors[name][[rows[name][record.digest] for record in held]] for name in rows}
                yield Block([_noting_only(record, keys) for record in held], of_terms)

    def about(self, prefix: str, first: Block) -> About:
        """What the file says; `prefix` is what the only column of vectors is called."""
        terms, names = self.similarity.terms, [prefix]
        if self.similarity.names:
            names = [f"{prefix}_{re.sub(r'[^A-Za-z0-9_-]', '_', term.name)}" for term in terms]
            if len({name.lower() for name in names}) < len(names):
                names = [f"{name}_{i}" for i, name in enumerate(names)]
        pairs = zip(terms, names, strict=True)
        columns = tuple(
            Column(name, term.name, first.vectors[term.name].shape[1], term.space) for term, name in pairs
        )
        return About(columns, self.similarity.fusion_spec)


@dataclass
class _Noted:
    """Digests and counts of what is written."""

    about: About
    images: int = 0
    contents: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._digests = [hashlib.sha256() for _ in range(1 + len(self.about.columns))]

    def renamed(self, blocks: Iterator[Block], advance: Any) -> Iterator[Block]:
        """The blocks, as they are noted, with their vectors by the names of columns."""
        of_rows, *of_columns = self._digests
        for block in blocks:
            self.images += len(block.records)
            self.contents.update(record.digest for record in block.records)
            of_rows.update(b"".join(os.fsencode(f"{each.path}\0{each.digest}\0") for each in block.records))
            vectors = {column.name: block.vectors[column.term] for column in self.about.columns}
            for digest, values in zip(of_columns, vectors.values(), strict=True):
                digest.update(np.ascontiguousarray(values, "<f4").data)
            yield replace(block, vectors=vectors)
            advance(len(block.records))

    def digest(self) -> str:
        return hashlib.sha256("".join(each.hexdigest() for each in self._digests).encode()).hexdigest()


def _noting_only(record: Record, spaces: set[str]) -> Record:
    """A record whose note of decoding is of some spaces alone."""
    noted = versions.spaces_of(record.path, record.stamp)
    return (
        replace(record, stamp=versions.noted(record.path, versions.stamp_of(record.stamp), noted & spaces))
        if noted
        else record
    )


# --- where it is written ----------------------------------------------------------------------------------------


def _check_place(target: Path, form: Form, *, force: bool) -> None:
    """Refuse names that are not of the form, and what exists, unless it is an earlier export and may be replaced.

    Raises:
        UsageError: saying what is there.
    """
    if form.suffix and target.suffix != form.suffix:
        raise UsageError(f"{target} does not end in {form.suffix}, and is written in that form: form= has others")
    if not os.path.lexists(target):
        return
    if not force:
        raise UsageError(f"{target} is there already: name another place, or replace it with force=true")
    if not _is_export(target, form):
        raise UsageError(f"{target} is no earlier export in this form, and is not replaced: name another place")


def _is_export(target: Path, form: Form) -> bool:
    if form.suffix:
        if not target.is_file():
            return False
        with target.open("rb") as file:
            return file.read(4) == b"PAR1"
    return (
        target.is_dir()
        and not target.is_symlink()
        and all(form.files.fullmatch(each.name) for each in target.iterdir())
    )


@contextlib.contextmanager
def _put_in_place(target: Path) -> Iterator[Path]:
    """A path to write, renamed to its final name if no error is raised.

    Raises:
        ImgrecError: the disk is full or read-only.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=target.parent, ignore_cleanup_errors=True) as aside:
            made = Path(aside, target.name)
            yield made
            if target.is_dir():
                shutil.rmtree(target)
            made.replace(target)
    except OSError as error:
        raise ImgrecError(f"{target} cannot be written: {error.strerror or error}") from error
