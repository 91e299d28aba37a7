"""One NumPy file, rewritten atomically with each batch: for small galleries."""

import copy
import json
import os
import uuid
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

import imgrec
from imgrec import Failure, NoStoreError, Record, Space

KEPT = 1000  # number of writes whose changes are kept


@dataclass
class Content:
    """What the file holds."""

    records: dict = field(default_factory=dict)  # by path
    failures: dict = field(default_factory=dict)  # by path
    spaces: dict = field(default_factory=dict)  # by key, in order of first appearance
    vectors: dict = field(default_factory=dict)  # by key, then by digest
    metadata: dict = field(default_factory=dict)  # by name
    dismissed: set = field(default_factory=set)  # paths that were forgotten on purpose
    revisions: list = field(default_factory=list)  # names of the last writes
    changes: list = field(default_factory=list)  # the digests that each of them changed, by space key


@dataclass
class Npz(imgrec.Store):
    """One NumPy file, rewritten atomically with each batch: for small galleries."""

    name = "npz"
    path: str = imgrec.option("outputs/gallery.npz", path=True, help="the file")

    def __post_init__(self):
        super().__post_init__()
        self._content, self._stamp = None, None

    @property
    def location(self):
        """The file."""
        return self.path

    def open(self, *, create=False):
        """Open the file; see `Store.open`."""
        if not os.path.exists(self.path):
            if not create:
                raise NoStoreError(f"there is no gallery at {self.path}: make it with `imgrec ingest FOLDER`")
            try:
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
                self._save(Content())
            except OSError as error:
                raise imgrec.UsageError(f"store {self.path} cannot be made: {error.strerror}") from None
        self._now()
        return self

    def close(self):
        """Drop the content in memory; the file is closed after each use."""
        self._content = None

    def write(self, batch):
        """Change a copy of the content, and replace the file."""
        with self.writing():
            self._write(batch)

    def _write(self, batch):
        content = copy.deepcopy(self._now())
        self._change(content, batch)
        self._replace(content)

    def drop(self, space):
        """Remove a space, and the history that it has; see `Store.drop`."""
        with self.writing():
            content = copy.deepcopy(self._now())
            if content.spaces.pop(space.key, None):
                del content.vectors[space.key]
                content.revisions, content.changes = [uuid.uuid4().hex], [{}]
                self._replace(content)

    def _change(self, content, batch):
        held = {key: set(rows) for key, rows in content.vectors.items()}
        for path in [*batch.forgotten, *batch.dismissed]:
            content.records.pop(path, None)
            content.failures.pop(path, None)
        content.dismissed = (content.dismissed - set(batch.forgotten)) | set(batch.dismissed)
        for failure in batch.failures:
            content.records.pop(failure.path, None)
            content.failures[failure.path] = failure
        for record in batch.records:
            content.failures.pop(record.path, None)
            content.records[record.path] = record
        content.dismissed -= content.records.keys() | content.failures.keys()
        for space, (digests, vectors) in batch.vectors.items():
            content.spaces.setdefault(space.key, space)
            content.vectors.setdefault(space.key, {}).update(zip(digests, vectors, strict=True))
        content.metadata |= batch.metadata
        content.metadata = {name: note for name, note in content.metadata.items() if note is not None}
        wanted = {record.digest for record in content.records.values()}
        for key, rows in content.vectors.items():
            content.vectors[key] = {digest: row for digest, row in rows.items() if digest in wanted}
        if replace(batch, metadata={}):
            changed = {space.key: set(digests) for space, (digests, _) in batch.vectors.items()}
            for key, rows in held.items():
                changed[key] = changed.get(key, set()) | (rows - content.vectors[key].keys())
            content.revisions = [*content.revisions, uuid.uuid4().hex][-KEPT:]
            content.changes = [*content.changes, {key: sorted(some) for key, some in changed.items()}][-KEPT:]

    def _replace(self, content):
        try:
            self._save(content)
        except OSError as error:
            raise imgrec.ImgrecError(f"store {self.path} cannot be written: {error.strerror}") from error
        self._content, self._stamp = content, self._stamp_now()

    def records(self, *, paths=None, digests=None):
        """Records; see `Store.records`."""
        known = self._now().records
        if digests is not None:
            wanted = set(digests)
            return (record for record in list(known.values()) if record.digest in wanted)
        return (known[path] for path in list(known if paths is None else paths) if path in known)

    def failures(self, *, paths=None):
        """Failures; see `Store.failures`."""
        known = self._now().failures
        return (known[path] for path in list(known if paths is None else paths) if path in known)

    def spaces(self):
        """Spaces; see `Store.spaces`."""
        return list(self._now().spaces.values())

    def digests(self, space, among=None):
        """Digests with a vector; see `Store.digests`."""
        held = self._now().vectors.get(space.key, {}).keys()
        return set(held) if among is None else held & set(among)

    def vectors(self, space, digests=None):
        """Digests and vectors; see `Store.vectors`."""
        held = self._now().vectors.get(space.key, {})
        names = [name for name in (held if digests is None else dict.fromkeys(digests)) if name in held]
        return names, np.stack([held[name] for name in names]) if names else np.empty((0, 0), np.float32)

    def metadata(self):
        """Metadata; see `Store.metadata`."""
        return copy.deepcopy(self._now().metadata)

    def dismissed(self, *, paths=None):
        """Paths that were forgotten on purpose; see `Store.dismissed`."""
        known = self._now().dismissed
        return set(known) if paths is None else known & set(paths)

    def revision(self, space):
        """The name of the last write; see `Store.revision`."""
        return next(reversed(self._now().revisions), None)

    def changes(self, space, since):
        """The changes of the last writes; see `Store.changes`."""
        content = self._now()
        if since not in content.revisions:
            return None
        later = content.changes[content.revisions.index(since) + 1 :]
        touched = {digest for changed in later for digest in changed.get(space.key, ())}
        return touched, self.digests(space, touched)

    @property
    def lock_file(self):
        """Beside the file."""
        return Path(f"{self.path}.lock")

    def size(self):
        """The file's size in bytes."""
        return os.path.getsize(self.path)

    def _stamp_now(self):
        status = os.stat(self.path)
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _now(self):
        """The content, reloaded if another process has written."""
        if self._content is None or self._stamp != self._stamp_now():
            stamp = self._stamp_now()
            self._content, self._stamp = self._load(), stamp
        return self._content

    def _save(self, content):
        texts = {
            "records": [asdict(record) for record in content.records.values()],
            "failures": [asdict(failure) for failure in content.failures.values()],
            "spaces": [space.to_json() for space in content.spaces.values()],
            "notes": content.metadata,
            "dismissed": sorted(content.dismissed),
            "revisions": content.revisions,
            "changes": content.changes,
            "digests": {key: list(rows) for key, rows in content.vectors.items()},
        }
        arrays = {key: np.stack(list(rows.values())) for key, rows in content.vectors.items() if rows}
        aside = Path(f"{self.path}.new")
        with aside.open("wb") as file:
            np.savez(file, texts=np.frombuffer(json.dumps(texts).encode(), np.uint8), **arrays)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.path)

    def _load(self):
        try:
            with np.load(self.path, allow_pickle=False) as file:
                texts = json.loads(file["texts"].tobytes())
                arrays = {key: file[key] for key in file.files if key != "texts"}
        except (ValueError, KeyError, EOFError, OSError, BadZipFile) as error:
            raise imgrec.UsageError(f"{self.path} is not an imgrec store: {error}") from None
        digests = texts["digests"]
        return Content(
            {each["path"]: Record(**each) for each in texts["records"]},
            {each["path"]: Failure(**each) for each in texts["failures"]},
            {each["key"]: Space.from_json(each) for each in texts["spaces"]},
            {key: dict(zip(digests[key], arrays.get(key, []), strict=True)) for key in digests},
            texts["notes"],
            set(texts["dismissed"]),
            texts["revisions"],
            texts["changes"],
        )


@imgrec.hookimpl
def imgrec_components():
    """The components of this plugin."""
    return [Npz]
