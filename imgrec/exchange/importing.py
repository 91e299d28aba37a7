"""Reads vectors of others, and exported ones, into a store: into a space that says where they are from."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgrec import images
from imgrec.errors import ImgrecError, UsageError
from imgrec.exchange import proof
from imgrec.exchange.arrays import Arrays
from imgrec.exchange.contents import FIELDS, OPTIONAL, Column, Reader, Rows
from imgrec.exchange.parquet import ParquetFiles
from imgrec.gallery import recorded
from imgrec.ingestion.items import read_item
from imgrec.ingestion.rows import is_same, record
from imgrec.kinds import Batch, Extractor, Record, Space, Store, Vectors
from imgrec.kinds.component import check_component
from imgrec.paths import expanded
from imgrec.run import progress
from imgrec.threads import cores, each

log = logging.getLogger(__name__)

MAGIC = b"PAR1"
"""How a Parquet file begins."""

DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass
class Imported:
    """What an import did, in numbers of files, and what it found."""

    spaces: list[Space] = field(default_factory=list)
    """Into which the vectors went."""

    claims: list[Space] = field(default_factory=list)
    """Those of extractors that the file names, if nothing has proved it."""

    new: int = 0
    known: int = 0
    """The gallery had them, with this content."""

    kept: int = 0
    """The gallery has another content under their path, or has failed at it or forgotten it, and keeps that."""

    not_here: int = 0
    """Their files are not here."""

    unreadable: int = 0
    """Their files are here, and cannot be read."""

    differing: int = 0
    """Their content has another vector in the gallery, or in an earlier row, which is kept."""

    compared: int = 0
    """How many were extracted again."""

    apart: float | None = None
    """By how much of their length these are apart from the file's at the most."""


def import_vectors(
    file: str | os.PathLike[str],
    store: Store,
    *,
    extractor: Extractor | None = None,
    vectors: str | None = None,
    paths: str = "path",
    root: str | os.PathLike[str] | None = None,
    sample: int | None = 50,
    seed: int = 0,
    show_progress: bool = False,
) -> Imported:
    """Read vectors from a Parquet file, or from an array with a CSV file beside it, into a store.

    Images of an exported file get the records that it has. Those of another one are read for these, and left out
    where they are not here. What the gallery has is kept.

    Args:
        file: a file, or a folder of one form; see `export_vectors`.
        store: created if it does not exist.
        extractor: what made the vectors, which is proved: some files are extracted again. Without it they are of a
            space of their own, which no other vectors are compared with.
        vectors: the column or array of vectors; None: the only one, or all of an exported file.
        paths: the column of paths.
        root: where relative paths begin; None: where the file is.
        sample: how many files are extracted again; None for all.
        seed: of their choice.
        show_progress: whether to show a progress bar on stderr.

    Raises:
        UsageError: it is not such a file, or has rows without a path, of another length, or twice.
        ImgrecError: the vectors are not the extractor's.
    """
    check_component(store, Store, "store")
    check_component(extractor, Extractor, "extractor")
    given = Path(expanded(os.fspath(file))).absolute()
    reader, columns = _opened(given, vectors)
    if paths not in reader.path_columns():
        listed = ", ".join(reader.path_columns()) or "none"
        raise UsageError(f"{given} has no column {paths!r} of paths: paths= says which it is, of {listed}")
    found = Imported()
    base = expanded(os.fspath(root)) if root is not None else str(reader.files[0].parent)
    source = _Source(reader, columns, paths, base)
    here = np.array(each(images.is_there, source.paths), dtype=np.bool_)
    found.not_here = int((~here).sum())
    if reader.about is None and not here.any():
        raise UsageError(
            f"none of the {len(here):,} files that {given} names is here, such as {source.paths[0]}: "
            "root= says where they are"
        )
    extractors = {} if extractor is None else _by_column(extractor, columns, given)
    if extractors:
        found.compared, found.apart = _proved(given, source, extractors, here, sample, seed)
    else:
        source.checked([])
    spaces = _spaces(given, reader, columns, extractors)
    found.spaces = list(spaces.values())
    if not extractors:
        found.claims = [
            column.space for column in columns if column.space.extractor not in ("", recorded.IMPORTED)
        ]
    with store.writing(), store.open(create=True), progress("import", len(here), shown=show_progress) as advance:
        _remember(store, columns, spaces, reader, extractor)
        for rows in source.rows():
            _write(store, source, rows, spaces, found, is_proved=bool(extractors))
            advance(len(rows.paths))
    return found


def _proved(
    given: Path,
    source: _Source,
    extractors: dict[str, Extractor],
    here: npt.NDArray[np.bool_],
    sample: int | None,
    seed: int,
) -> tuple[int, float]:
    """How many files were extracted again, and how far these are from the file's vectors, as `proof.apart` has it.

    Raises:
        UsageError: none can be, or the file is damaged.
        ImgrecError: the vectors are not those of the extractors.
    """
    rows = proof.chosen(here, seed)
    again = proof.extracted_again(extractors, rows, source.paths, source.digests, sample)
    if not again.rows:
        raise UsageError(
            f"{given} cannot be proved: none of its files is here as it was, such as {source.paths[0]}"
        )
    taken, apart = source.checked(again.rows), 0.0
    for name, made in again.vectors.items():
        told = f"{given} is not of {Space.of(extractors[name]).key}"
        every = (rows.vectors[name] for rows in source.rows())
        apart = max(apart, proof.check(told, made, taken[name], again.rows, source.paths, every))
    return len(again.rows), apart


# --- the file -------------------------------------------------------------------------------------------------


def _opened(given: Path, wanted: str | None) -> tuple[Reader, list[Column]]:
    """A file or folder ready to be read, and its columns of vectors.

    Raises:
        UsageError: it is none, or it is not clear what of it is meant.
    """
    if not given.exists():
        raise UsageError(f"{given} does not exist: import takes a file or folder of vectors")
    if given.is_dir():
        tables, arrays = sorted(given.glob("*.parquet")), sorted(given.glob("*.npy"))
        if bool(tables) == bool(arrays):
            what = "both, which are two forms" if tables else "neither"
            raise UsageError(
                f"a folder to import has files *.parquet, or *.npy with a CSV file: {given} has {what}"
            )
        reader: Reader = ParquetFiles(tables) if tables else Arrays(given, arrays)
    elif given.suffix == ".npy":
        reader = Arrays(given.parent, [given])
    else:
        _check_is_parquet(given)
        reader = ParquetFiles([given])
    names = reader.vector_columns()
    if wanted is not None and wanted not in names:
        raise UsageError(f"{given} has no vectors {wanted!r}: vectors= is one of {', '.join(names) or 'none'}")
    if reader.about is not None:
        columns = [column for column in reader.about.columns if wanted in (None, column.name)]
        if lost := [column.name for column in columns if column.name not in names]:
            raise UsageError(f"{given} lacks its vectors {lost[0]}: it has {', '.join(names) or 'none'}")
        return reader, columns
    if wanted is None and len(names) != 1:
        raise UsageError(
            f"vectors= says which are meant of {given}: {', '.join(names) or 'it has no lists of numbers'}"
        )
    return reader, [Column(wanted or names[0], "", 0, Space("", "", {}, {}))]


def _check_is_parquet(given: Path) -> None:
    """Refuse another file before a library is asked for that reads it."""
    try:
        with given.open("rb") as file:
            begins = file.read(len(MAGIC))
    except OSError as error:
        raise UsageError(f"{given} cannot be read: {error.strerror}") from None
    if begins != MAGIC:
        raise UsageError(f"{given} is neither a Parquet file nor an array, file.npy")


class _Source:
    """The rows of a file, checked, and the paths that they name."""

    def __init__(self, reader: Reader, columns: Sequence[Column], paths: str, root: str) -> None:
        self._reader, self._columns, self._paths = reader, columns, paths
        self._file = reader.files[0]
        self.paths: list[str] = []
        digests: list[str] = []
        seen = set[str]()
        for rows in reader.read(paths, []):
            for number, path in enumerate(rows.paths, start=rows.first):
                if not path:
                    raise UsageError(f"{self._file} has no path in row {number}")
                whole = images.absolute(path if "://" in path else os.path.join(root, path))
                if whole in seen:
                    raise UsageError(f"{self._file} has {path} a second time in row {number}")
                seen.add(whole)
                self.paths.append(whole)
            digests += rows.fields.get("digest", ())
        if not self.paths:
            raise UsageError(f"{self._file} has no rows")
        self.digests = digests if reader.about else None

    def rows(self) -> Iterator[Rows]:
        """All rows with their vectors, and with paths that are absolute."""
        for rows in self._reader.read(self._paths, [column.name for column in self._columns]):
            yield replace(rows, paths=self.paths[rows.first - 1 : rows.first - 1 + len(rows.paths)])

    def records(self, rows: Rows) -> list[Record | None]:
        """The records that an exported file has; None each for another one."""
        if self.digests is None:
            return [None] * len(rows.paths)
        others = zip(*rows.fields.values(), strict=True)
        return [
            Record(path, **dict(zip(rows.fields, values, strict=True)))
            for path, values in zip(rows.paths, others, strict=True)
        ]

    def checked(self, wanted: Sequence[int]) -> dict[str, Vectors]:
        """The vectors of some rows by column; all of the file's are checked on the way.

        Raises:
            UsageError: one is not finite or of another length, or a record is damaged.
        """
        taken: dict[str, dict[int, Vectors]] = {column.name: {} for column in self._columns}
        dims = {column.name: column.dim for column in self._columns}
        for rows in self.rows():
            self._check_records(rows)
            for name, vectors in rows.vectors.items():
                dims[name] = dims[name] or vectors.shape[1]
                if vectors.shape[1] != dims[name]:
                    raise UsageError(
                        f"{self._file}: {name} has {vectors.shape[1]} values, and {dims[name]} elsewhere"
                    )
                if (bad := np.flatnonzero(~np.isfinite(vectors).all(axis=1))).size:
                    path = rows.paths[bad[0]]
                    raise UsageError(
                        f"{self._file}: {name} has no finite vector in row {rows.first + bad[0]}, {path}"
                    )
                first = rows.first - 1
                taken[name] |= {row: vectors[row - first] for row in wanted if 0 <= row - first < len(vectors)}
        return {name: np.stack([some[row] for row in wanted]) for name, some in taken.items()} if wanted else {}

    def _check_records(self, rows: Rows) -> None:
        for name, values in rows.fields.items():
            for number, value in enumerate(values, start=rows.first):
                is_right = isinstance(value, FIELDS[name]) if value is not None else name in OPTIONAL
                if not is_right or (name == "digest" and not DIGEST.fullmatch(value)):
                    raise UsageError(f"{self._file}: {name} is {value!r:.60} in row {number}")


def _by_column(extractor: Extractor, columns: Sequence[Column], given: Path) -> dict[str, Extractor]:
    """The extractor of each column of vectors.

    Raises:
        UsageError: they have other parts.
    """
    terms = {name: term.extractor for name, term in extractor.terms().items() if term.weight}
    if len(terms) == len(columns) == 1:
        return dict(zip([columns[0].name], terms.values(), strict=True))
    if terms.keys() != {column.term for column in columns}:
        has = ", ".join(column.term or column.name for column in columns)
        raise UsageError(
            f"extractor={extractor.name} has the parts {', '.join(terms)}, and {given} the vectors {has}: "
            "vectors= takes one of these"
        )
    return {column.name: terms[column.term] for column in columns}


def _spaces(
    given: Path, reader: Reader, columns: Sequence[Column], extractors: dict[str, Extractor]
) -> dict[str, Space]:
    """The space of each column: the extractor's, or one that says where the vectors are from."""
    if extractors:
        return {name: Space.of(extractor) for name, extractor in extractors.items()}
    digest = hashlib.sha256()
    try:
        for part in reader.files:
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise ImgrecError(f"{given} cannot be read: {error.strerror}") from None
    spaces = {}
    for column in columns:
        options = {"file": given.name, "vectors": column.name}
        options |= {"claims": column.space.key} if column.space.key else {}
        identity = {"extractor": recorded.IMPORTED, **options, "sha256": digest.hexdigest()}
        spaces[column.name] = Space.identified(recorded.IMPORTED, options, identity)
    return spaces


# --- the store ------------------------------------------------------------------------------------------------


def _remember(
    store: Store, columns: Sequence[Column], spaces: dict[str, Space], reader: Reader, extractor: Extractor | None
) -> None:
    """Note the fusion of the spaces, and in an empty store the default."""
    spec: Any = extractor.fusion_spec() if extractor else None
    fusion = reader.about.fusion if reader.about else None
    if extractor is None and fusion and len(columns) == len(fusion["spaces"]):
        spec = {**fusion, "spaces": {column.term: spaces[column.name].key for column in columns}}
    keys = [space.key for space in spaces.values()]
    metadata: dict[str, Any] = {recorded.fusion_key(spec): spec} if spec else {}
    if not store.spaces():
        metadata[recorded.DEFAULT] = next(iter(metadata), keys[0])
    if extractor is None:  # nothing here has decoded anything for them
        metadata[recorded.DECODING] = recorded.decodings(store) | dict.fromkeys(keys, images.versions.CURRENT)
    store.write(Batch(metadata=metadata))


def _write(
    store: Store, source: _Source, rows: Rows, spaces: dict[str, Space], found: Imported, *, is_proved: bool
) -> None:
    """Add some rows, but for what the store has otherwise."""
    paths = list(rows.paths)
    held = {each.path: each for each in store.records(paths=paths)}
    refused = store.dismissed(paths=paths) | {each.path for each in store.failures(paths=paths)}
    found.kept += len(refused)

    def ready(pair: tuple[str, Record | None]) -> Record | str | None:
        path, known = pair
        if known is not None or path in refused:
            return known
        return _read(path, held.get(path), list(spaces.values()) if is_proved else [])

    with ThreadPoolExecutor(cores()) as pool:
        read = list(pool.map(ready, zip(paths, source.records(rows), strict=True)))
    records: dict[int, Record] = {}
    for row, each_record in enumerate(read):
        if isinstance(each_record, str):
            found.unreadable += 1
        elif each_record is not None and each_record.path not in refused:
            before = held.get(each_record.path)
            if before is not None and before.digest != each_record.digest:
                found.kept += 1
                continue
            records[row] = before or each_record
    found.known += sum(each.path in held for each in records.values())
    found.new += sum(each.path not in held for each in records.values())
    batch = Batch(records=[each for each in records.values() if each.path not in held])
    differing = set[int]()
    for name, space in spaces.items():
        batch.vectors[space], others = _lacking(store, space, records, rows.vectors[name])
        differing |= others
    found.differing += len(differing)
    batch.vectors = {space: pair for space, pair in batch.vectors.items() if pair[0]}
    if batch:
        store.write(batch)


def _lacking(
    store: Store, space: Space, records: dict[int, Record], vectors: Vectors
) -> tuple[tuple[list[str], Vectors], set[int]]:
    """Contents that have no vector in a space yet with theirs, and the rows whose content has another one."""
    known, kept = store.vectors(space, sorted({each.digest for each in records.values()}))
    of = dict(zip(known, kept, strict=True))
    new: dict[str, int] = {}
    differing = set[int]()
    for row, each_record in records.items():
        digest = each_record.digest
        before = of.get(digest)
        if before is None:
            of[digest], new[digest] = vectors[row], row
        elif (
            before.shape != vectors[row].shape
            or proof.apart(before[None], vectors[row][None])[0] > proof.AGREEMENT
        ):
            differing.add(row)
    return (list(new), vectors[list(new.values())]), differing


def _read(path: str, before: Record | None, spaces: Sequence[Space]) -> Record | str | None:
    """The record of a file, the store's if it is unchanged; None if it is not here; or why it cannot be read."""
    if not images.is_there(path) or (state := images.state(path)) is None:
        return None
    if before is not None and is_same(before, state):
        return before
    item = read_item(state)
    item.encoded = None
    return item.reason if item.reason is not None else record(item, before, spaces)
