"""The contract of stores."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from imgrec.errors import NoStoreError
from imgrec.kinds import Batch, Failure, Record, Space, Store, Vectors
from imgrec.testing import kit
from imgrec.testing.kit import Check, require

SPACES = [Space(f"checked-{i:012x}", "checked", {"option": i, "list": [1, "ä"]}, {"version": i}) for i in range(2)]

EMPTY: dict[str, Any] = {"records": [], "failures": [], "dismissed": set(), "vectors": {}}
"""The snapshot of an empty store."""

AT_ONCE = 50
"""Images per batch when one store reads while another writes."""


@dataclass
class Subject:
    """A store under test."""

    make: Callable[[Path], Store]
    _stack: ExitStack = field(default_factory=ExitStack)

    def folder(self) -> Path:
        """A new empty folder."""
        return Path(self._stack.enter_context(tempfile.TemporaryDirectory()))

    def opened(self, folder: Path, *, create: bool = True) -> Store:
        """Open the store in a folder by a new object."""
        store = self.make(folder).open(create=create)
        self._stack.callback(store.close)
        return store

    def new(self) -> tuple[Store, Callable[[], Store]]:
        """An empty store, and a function that closes and reopens it."""
        folder = self.folder()
        store = self.opened(folder)

        def again() -> Store:
            store.close()
            return self.opened(folder, create=False)

        return store, again

    def closed(self) -> None:
        """Close all stores and remove all folders."""
        self._stack.close()


def check_store(make: Callable[[Path], Store]) -> None:
    """Check that a store keeps its contract.

    Args:
        make: builds a store, not yet open, of a class defined at module level. The store keeps its data in the
            given folder or, on a server, under the folder's name; the same folder gives the same store.

    Raises:
        ContractError: any check failed.

    >>> import imgrec
    >>> check_store(lambda folder: imgrec.build("store", "sqlite", path=str(folder / "gallery.sqlite")))
    """
    subject = Subject(make)
    try:
        kit.run(f"store {make(subject.folder()).name}", CHECKS, subject)
    finally:
        subject.closed()


def record(path: str, digest: str, **changes: Any) -> Record:
    """A record with a size and a modification time."""
    return replace(Record(path, digest, 10, 1_700_000_000_123_456_789), **changes)


def rows(*values: float) -> Vectors:
    """Vectors of two values each."""
    return np.array([[value, value / 3] for value in values], np.float32)


def held(store: Store, space: Space) -> dict[str, list[float]]:
    """All vectors of a space, by digest."""
    digests, vectors = store.vectors(space)
    require(len(digests) == len(vectors), f"{len(digests)} digests and {len(vectors)} vectors")
    return dict(zip(digests, vectors.tolist(), strict=True))


def snapshot(store: Store) -> dict[str, Any]:
    """The content of a store, except metadata and spaces without vectors."""
    vectors = {space.key: sorted(held(store, space).items()) for space in store.spaces()}
    return {
        "records": sorted(store.records(), key=lambda each: each.path),
        "failures": sorted(store.failures(), key=lambda each: each.path),
        "dismissed": store.dismissed(),
        "vectors": {key: some for key, some in vectors.items() if some},
    }


def _same(what: str, seen: object, wanted: object) -> None:
    require(seen == wanted, f"{what}: {_short(seen)}, not {_short(wanted)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."


# --- the checks ---------------------------------------------------------------------------------------------


def a_new_store_is_empty(subject: Subject) -> None:
    """`open(create=True)` creates a store without records, failures, spaces and vectors.

    Calling `open()` again is not an error.
    """
    store, again = subject.new()
    for each in (store, store.open(), again()):
        _same("an empty store holds", snapshot(each), EMPTY)
        _same("spaces", each.spaces(), [])
        _same("digests", each.digests(SPACES[0]), set())
        digests, vectors = each.vectors(SPACES[0])
        _same("vectors", (list(digests), len(vectors)), ([], 0))


def a_store_that_is_not_there_is_told(subject: Subject) -> None:
    """`open()` raises NoStoreError if there is no store, and creates nothing."""
    folder = subject.folder()
    try:
        subject.opened(folder, create=False)
    except NoStoreError:
        made = [file.name for file in folder.iterdir()]
        require(not made, f"it made {made}")
        return
    raise kit.SeenError("it opened")


def what_is_written_is_there_after_reopening(subject: Subject) -> None:
    """Records, failures, spaces and, to the last bit, vectors are there when the store is reopened."""
    records = [
        record("/a.jpg", "aa"),
        record("/b.jpg", "bb", missing=True, size=2**40),
        record(
            "/c.jpg", "bb", stamp='1, "2"', width=4000, height=3000, taken="2024-05-31T18:04:09", warning="a\nb"
        ),
    ]
    failure = Failure("/d.jpg", 3, 4, 'broken image: x, "y"\nz', 1700000000.25, stamp="3")
    values = rows(0.1, 2e-30)
    store, again = subject.new()
    store.write(Batch(records=records, failures=[failure], vectors={SPACES[0]: (["bb", "aa"], values)}))
    for each in (store, again()):
        _same("records", sorted(each.records(), key=lambda r: r.path), records)
        _same("failures", list(each.failures()), [failure])
        _same("spaces", [space.to_json() for space in each.spaces()], [SPACES[0].to_json()])
        digests, vectors = each.vectors(SPACES[0])
        require(vectors.dtype == np.float32, f"vectors of {vectors.dtype}")
        kept = {digest: vectors[i].tobytes() for i, digest in enumerate(digests)}
        _same("vectors", kept, {"bb": values[0].tobytes(), "aa": values[1].tobytes()})


def a_second_write_replaces_the_first(subject: Subject) -> None:
    """A record replaces the one with its path, and a vector the one with its digest and space."""
    store, again = subject.new()
    store.write(Batch(records=[record("/a.jpg", "aa")], vectors={SPACES[0]: (["aa"], rows(1))}))
    store.write(Batch(records=[record("/a.jpg", "aa", size=11)], vectors={SPACES[0]: (["aa"], rows(2))}))
    for each in (store, again()):
        _same("records", [r.size for r in each.records()], [11])
        _same("vectors", held(each, SPACES[0]), {"aa": rows(2)[0].tolist()})


def rows_and_digests_are_aligned(subject: Subject) -> None:
    """`vectors` returns row-aligned digests and vectors: all, or those requested that exist.

    `records` and `digests` select by hundreds of names at once.
    """
    store, again = subject.new()
    digests = [f"{i:04x}" for i in range(1200)]
    values = np.random.default_rng(0).normal(size=(1200, 3)).astype(np.float32)
    shuffled = np.random.default_rng(1).permutation(1200)
    batch = Batch(records=[record(f"/{digest}.jpg", digest) for digest in digests])
    batch.vectors[SPACES[0]] = ([digests[i] for i in shuffled], values[shuffled])
    store.write(batch)
    for each in (store, again()):
        for asked in (None, [*digests[700:], "none"], [digests[5], digests[3]]):
            found, vectors = each.vectors(SPACES[0], asked)
            _same("digests", set(found), set(digests if asked is None else asked) - {"none"})
            right = values[[digests.index(digest) for digest in found]]
            require(np.array_equal(vectors, right), "vectors of other digests than those beside them")
        _same("digests among some", each.digests(SPACES[0], ["0001", "none"]), {"0001"})
        paths = [f"/{digest}.jpg" for digest in digests]
        _same("records by path", len(list(each.records(paths=paths))), 1200)
        _same("records by one path", [r.digest for r in each.records(paths=["/0003.jpg", "/none"])], ["0003"])
        _same("records by digest", [r.path for r in each.records(digests=["0004", "none"])], ["/0004.jpg"])


def blocks_are_the_same_rows(subject: Subject) -> None:
    """`blocks` yields what `vectors` returns, all or some, each row once and at most `size` at a time."""
    store, again = subject.new()
    for number in range(4):
        store.write(_batch(number))
    store.write(Batch(forgotten=["/0001.jpg"], vectors={SPACES[0]: (["0203", "0102"], rows(-1, -2))}))
    for each in (store, again()):
        _same("blocks of another space", list(each.blocks(SPACES[1])), [])
        wanted = held(each, SPACES[0])
        for asked in (None, [*list(wanted)[30:100], "none"]):
            found = list(each.blocks(SPACES[0], asked, size=16))
            sizes = [len(names) for names, _ in found]
            require(all(0 < size <= 16 for size in sizes), f"blocks of {sizes} rows, and at most 16 are asked for")
            require([len(vectors) for _, vectors in found] == sizes, "digests and vectors are not as many")
            require(all(vectors.dtype == np.float32 for _, vectors in found), "vectors that are not float32")
            together = [row for names, vectors in found for row in zip(names, vectors.tolist(), strict=True)]
            some = wanted if asked is None else {name: wanted[name] for name in asked if name in wanted}
            _same("rows of all blocks", sorted(together), sorted(some.items()))


def copies_are_counted(subject: Subject) -> None:
    """`copies` has the number of files of all contents or some, each once, without those that are missing."""
    store, again = subject.new()
    records = [
        record(f"/{path}.jpg", digest) for path, digest in zip("abcd", ("aa", "bb", "aa", "cc"), strict=True)
    ]
    store.write(Batch([*records, record("/e.jpg", "aa", missing=True), record("/f.jpg", "dd", missing=True)]))
    store.write(Batch(forgotten=["/d.jpg"]))
    for each in (store, again()):
        _same("copies", sorted(each.copies()), [("aa", 2), ("bb", 1)])
        _same("copies of some", sorted(each.copies(["aa", "cc", "dd", "none"])), [("aa", 2)])


def two_spaces_are_apart(subject: Subject) -> None:
    """Two spaces hold independent vectors, of different dimensions, for the same contents.

    Spaces are listed in the order in which they were first written.
    """
    store, again = subject.new()
    one, two = rows(1, 2), np.arange(10, dtype=np.float32).reshape(2, 5)
    records = [record("/a.jpg", "aa"), record("/b.jpg", "bb")]
    store.write(Batch(records=records, vectors={SPACES[1]: (["aa", "bb"], one)}))
    store.write(Batch(vectors={SPACES[0]: (["bb", "aa"], two)}))
    for each in (store, again()):
        _same("spaces", [space.key for space in each.spaces()], [SPACES[1].key, SPACES[0].key])
        _same("one space", held(each, SPACES[1]), {"aa": one[0].tolist(), "bb": one[1].tolist()})
        _same("the other", held(each, SPACES[0]), {"bb": two[0].tolist(), "aa": two[1].tolist()})


def a_dropped_space_is_gone(subject: Subject) -> None:
    """`drop` removes one space with its vectors, and nothing else; the space may come again.

    `changes` since a revision before that are right, or unknown.
    """
    store, again = subject.new()
    store.drop(SPACES[0])
    store.write(_batch(0))
    digests = sorted(store.digests(SPACES[0]))
    store.write(Batch(vectors={SPACES[1]: (digests, rows(*range(len(digests))))}))
    before, revision, then = snapshot(store), store.revision(SPACES[0]), held(store, SPACES[0])
    store.drop(SPACES[0])
    kept = {SPACES[1].key: before["vectors"][SPACES[1].key]}
    for each in (store, again()):
        _same("spaces", each.spaces(), [SPACES[1]])
        _same("digests", each.digests(SPACES[0]), set())
        _same("vectors", held(each, SPACES[0]), {})
        _same("the rest", snapshot(each), {**before, "vectors": kept})
    store = again()
    store.write(Batch(vectors={SPACES[0]: (digests[:2], rows(7, 8))}))
    now = held(store, SPACES[0])
    _same("the space again", now, dict(zip(digests[:2], rows(7, 8).tolist(), strict=True)))
    if revision is not None and (changed := store.changes(SPACES[0], revision)) is not None:
        _check_changes(*changed, then, now)


class _Breaking(list[str]):
    """Digests that raise at the second one."""

    def __iter__(self) -> Iterator[str]:
        yield self[0]
        raise RuntimeError("the batch breaks in the middle")


def a_batch_is_written_whole_or_not_at_all(subject: Subject) -> None:
    """A batch is atomic: after an error in the middle of it, the store is unchanged and still works."""
    for digests in (["bb", "cc", "dd"], _Breaking(["bb", "cc"])):  # one vector short; an error during the write
        store, again = subject.new()
        store.write(Batch(records=[record("/a.jpg", "aa")], vectors={SPACES[0]: (["aa"], rows(1))}))
        before = snapshot(store)
        bad = Batch(
            records=[record("/b.jpg", "bb"), record("/c.jpg", "cc")],
            failures=[Failure("/d.jpg", 1, 2, "broken", 3.0)],
            forgotten=["/a.jpg"],
            vectors={SPACES[0]: (["bb", "cc"], rows(2, 3)), SPACES[1]: (digests, rows(4, 5))},
        )
        refused = False
        try:
            store.write(bad)
        except Exception:  # of any type
            refused = True
        require(refused, "a batch whose digests and vectors are not as many was written without an error")
        _same("after the error the store holds", snapshot(store), before)
        reopened = again()
        _same("and when it is opened again", snapshot(reopened), before)
        reopened.write(Batch(records=[record("/b.jpg", "bb")], vectors={SPACES[0]: (["bb"], rows(2))}))
        _same("the next batch", set(held(reopened, SPACES[0])), {"aa", "bb"})


def a_half_written_second_space_is_unseen(subject: Subject) -> None:
    """If a batch breaks in its second space, nothing of it is in the first, nor ever comes.

    Spaces may be kept apart: vectors that no transaction has made valid are not read.
    """
    for digests, wrong in (([*"ab"], np.ones((2, 5), np.float32)), (_Breaking("ab"), rows(7, 8))):
        store, again = subject.new()
        records = [record("/a.jpg", "a"), record("/b.jpg", "b")]
        store.write(Batch(records, vectors={space: (["a"], rows(1)) for space in SPACES}))
        before = snapshot(store)
        try:
            store.write(Batch(vectors={SPACES[0]: ([*"ab"], rows(5, 6)), SPACES[1]: (digests, wrong)}))
        except Exception:  # of any type
            for each in (store, again()):
                _same("after the error the store holds", snapshot(each), before)
                _same("digests", each.digests(SPACES[0], [*"ab"]), {"a"})
            later = again()
            later.write(Batch(vectors={SPACES[1]: (["b"], rows(2))}))
            _same("the first space after the next batch", held(later, SPACES[0]), {"a": rows(1)[0].tolist()})
            later.write(Batch(vectors={SPACES[0]: (["b"], rows(3))}))
            wanted = dict(zip("ab", rows(1, 3).tolist(), strict=True))
            _same("and after one of its own", held(again(), SPACES[0]), wanted)


PATHS = [
    "/with space, comma.jpg", '/"quotes"\'.jpg', "/line\nbreak\r\n.jpg", "/tab\t.jpg", "/back\\slash.jpg",
    "/%s%20?#&=.jpg",
    "/ä.jpg", "/a\u0308.jpg", "/日本語/写真.jpg", "/🦆.jpg", "/null", "/NaN", "/ 1 ", "/'; DROP TABLE records; --",
    "/not \udcff utf-8", "/\x01\x1b", "/" + 200 * "long/" + ".jpg",
]  # fmt: skip


def dismissed_paths_are_kept(subject: Subject) -> None:
    """`dismissed` has the paths that were forgotten on purpose; their records, failures and vectors are gone.

    Writing a record or failure for such a path, or forgetting it, undoes this. Copies have dismissed paths too.
    """
    (store, again), (other, _) = subject.new(), subject.new()
    one, failure = record("/a.jpg", "aa"), Failure("/b.jpg", 1, 2, "broken", 3.0)
    store.write(Batch([one, record("/c.jpg", "cc")], [failure], vectors={SPACES[0]: (["aa"], rows(1))}))
    store.write(Batch(dismissed=["/a.jpg", "/b.jpg", "/c.jpg", "/new, \udcff.jpg"]))
    wanted = {"/a.jpg", "/b.jpg", "/c.jpg", "/new, \udcff.jpg"}
    for each in (store, again()):
        _same("the store", snapshot(each), {**EMPTY, "dismissed": wanted})
        _same("among some paths", each.dismissed(paths=["/c.jpg", "/none"]), {"/c.jpg"})
    other.copy_from(store)
    _same("a copy", snapshot(other), {**EMPTY, "dismissed": wanted})
    store.write(Batch([one], [failure], forgotten=["/c.jpg"]))
    _same("after a record, a failure and a forgotten path", again().dismissed(), {"/new, \udcff.jpg"})


def paths_have_any_character(subject: Subject) -> None:
    """Paths may contain any character valid in a file name: quotes, line breaks, any script.

    Bytes that are not UTF-8 are encoded with Python's `surrogateescape`.
    """
    store, again = subject.new()
    digests = [f"{i:02x}" for i in range(len(PATHS))]
    records = [record(path, digest) for path, digest in zip(PATHS, digests, strict=True)]
    failures = [Failure(f"{path}.bad", 1, 2, f"broken: {path}", 3.5) for path in PATHS if path.isprintable()]
    store.write(
        Batch(records=records, failures=failures, vectors={SPACES[0]: (digests, rows(*range(len(PATHS))))})
    )
    for each in (store, again()):
        _same("records", {r.path: r.digest for r in each.records()}, dict(zip(PATHS, digests, strict=True)))
        _same("records by path", {r.path for r in each.records(paths=PATHS)}, set(PATHS))
        _same("failures", set(each.failures()), set(failures))
        _same("digests", each.digests(SPACES[0]), set(digests))


def relative_paths_travel_with_the_store(subject: Subject) -> None:
    """With `paths=relative`, a store that is moved has the paths below its folder where that is now.

    Paths elsewhere stay, and converted back nothing differs. A store that lies in no folder, or keeps no metadata,
    is left out.
    """
    above = subject.folder()
    (here := above / "here").mkdir()
    store = subject.opened(here)
    if store.folder is None or type(store).metadata is Store.metadata:
        return
    before, there = store.folder, above / "there, moved"
    names = [f"{before}/photos/{i}.jpg" for i in range(4)] + ["/a.jpg", f"{before}2/a.jpg", "s3://photos/a.jpg"]
    digests = [f"{i:02x}" for i in range(len(names))]
    records = [record(path, digest) for path, digest in zip(names, digests, strict=True)]
    store.write(Batch(records[:-2], vectors={SPACES[0]: (digests[:-2], rows(*range(len(names) - 2)))}))
    wanted = snapshot(store)
    store.keep_paths("relative")
    _same("converted", snapshot(store), wanted)
    broken, gone = Failure(f"{before}/broken.jpg", 1, 2, "broken", 3.0), f"{before}/gone.jpg"
    store.write(Batch(records[-2:], [broken], dismissed=[gone]))
    store.write(Batch(forgotten=[names[0], names[-1]]))
    store.close()
    here.rename(there)
    moved = subject.opened(there, create=False)
    after = moved.folder or ""

    def new(path: str) -> str:
        return after + path[len(before) :] if path.startswith(f"{before}/") else path

    kept = [replace(each, path=new(each.path)) for each in records[1:-1]]
    _same("moved", sorted(moved.records(), key=lambda r: r.path), sorted(kept, key=lambda r: r.path))
    _same("by path", {r.path for r in moved.records(paths=[each.path for each in kept])}, {r.path for r in kept})
    _same("failures", list(moved.failures(paths=[new(broken.path)])), [replace(broken, path=new(broken.path))])
    _same("dismissed", moved.dismissed(paths=[new(gone), gone]), {new(gone)})
    before_it = snapshot(moved)
    moved.keep_paths("absolute")
    _same("absolute again", snapshot(moved), before_it)
    moved.close()
    there.rename(here)
    _same("absolute and moved", snapshot(subject.opened(here, create=False)), before_it)


def vectors_follow_the_content(subject: Subject) -> None:
    """Vectors belong to the content, in every space.

    An edited file loses them, a moved file keeps them, copies share them. They go with the last copy.
    """
    store, again = subject.new()
    both = {space: (["aa"], rows(1)) for space in SPACES}
    store.write(Batch(records=[record("/a.jpg", "aa"), record("/copy.jpg", "aa")], vectors=both))
    store.write(Batch(forgotten=["/copy.jpg"]))
    _same("after one copy of two went", store.digests(SPACES[0]), {"aa"})
    store.write(Batch(forgotten=["/a.jpg"], records=[record("/moved.jpg", "aa")]))
    _same("after a move", [store.digests(space) for space in SPACES], [{"aa"}, {"aa"}])
    store.write(Batch(records=[record("/moved.jpg", "bb")], vectors={SPACES[0]: (["bb"], rows(2))}))
    _same("after an edit", [store.digests(space) for space in SPACES], [{"bb"}, set()])
    store.write(Batch(forgotten=["/moved.jpg"]))
    for each in (store, again()):
        _same("after the last one went", snapshot(each), EMPTY)


def a_path_has_a_record_or_a_failure(subject: Subject) -> None:
    """A failure replaces the record of its path and its vectors, and a record replaces the failure."""
    store, again = subject.new()
    failure = Failure("/a.jpg", 1, 2, "broken", 3.0)
    store.write(Batch(records=[record("/a.jpg", "aa")], vectors={SPACES[0]: (["aa"], rows(1))}))
    store.write(Batch(failures=[failure]))
    _same("after a failure", snapshot(store), {**EMPTY, "failures": [failure]})
    store.write(Batch(records=[record("/a.jpg", "bb")]))
    for each in (store, again()):
        _same("after a record", ([r.digest for r in each.records()], list(each.failures())), (["bb"], []))


def ten_thousand_rows_are_kept(subject: Subject) -> None:
    """10,000 images written in a few batches are all there."""
    store, again = subject.new()
    digests = [f"{i:064x}" for i in range(10_000)]
    values = np.random.default_rng(0).normal(size=(10_000, 8)).astype(np.float32)
    for start in range(0, 10_000, 2_500):
        some = digests[start : start + 2_500]
        records = [record(f"/{digest}.jpg", digest) for digest in some]
        store.write(Batch(records=records, vectors={SPACES[0]: (some, values[start : start + 2_500])}))
    reopened = again()
    found, vectors = reopened.vectors(SPACES[0])
    _same("vectors", len(set(found)), 10_000)
    require(np.array_equal(vectors, values[[int(digest, 16) for digest in found]]), "vectors that are not aligned")
    _same("records", sum(1 for _ in reopened.records()), 10_000)


def a_reader_sees_whole_batches(subject: Subject) -> None:
    """A reader beside a writer sees only whole batches, and finally the last one."""
    folder = subject.folder()
    writer = subject.opened(folder)
    writer.write(_batch(0))
    reader = subject.opened(folder, create=False)
    errors: list[BaseException] = []

    def write() -> None:
        try:
            for number in range(1, 10):
                writer.write(_batch(number))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        while thread.is_alive():
            digests, vectors = reader.vectors(SPACES[0])
            require(len(digests) == len(vectors), f"{len(digests)} digests and {len(vectors)} vectors")
            require(len(vectors) % AT_ONCE == 0, f"{len(vectors)} vectors of batches of {AT_ONCE}")
            in_blocks = [name for names, _ in reader.blocks(SPACES[0], size=16) for name in names]
            require(len(in_blocks) % AT_ONCE == 0, f"{len(in_blocks)} rows in blocks of batches of {AT_ONCE}")
            count = sum(1 for _ in reader.records())
            require(count % AT_ONCE == 0, f"{count} records of batches of {AT_ONCE}")
    finally:
        thread.join()
    require(not errors, f"the writer failed beside a reader: {errors[:1]}")
    _same("in the end the reader sees", len(reader.vectors(SPACES[0])[0]), 10 * AT_ONCE)


def _batch(number: int) -> Batch:
    digests = [f"{number:02x}{i:02x}" for i in range(AT_ONCE)]
    records = [record(f"/{digest}.jpg", digest) for digest in digests]
    return Batch(records=records, vectors={SPACES[0]: (digests, rows(*range(AT_ONCE)))})


def writers_take_turns(subject: Subject) -> None:
    """Nothing is lost when several objects write to the same store at the same time."""
    folder = subject.folder()
    writers = [subject.opened(folder) for _ in range(2)]
    errors: list[BaseException] = []

    def write(writer: Store, first: int) -> None:
        try:
            for number in range(first, first + 10):
                writer.write(_batch(number))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(writer, 10 * i)) for i, writer in enumerate(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    require(not errors, f"a writer failed beside another one: {errors[:1]}")
    _same("records", sum(1 for _ in subject.opened(folder, create=False).records()), 20 * AT_ONCE)


def a_copy_is_equal(subject: Subject) -> None:
    """`copy_from` makes a store equal to another, and copies nothing the second time.

    With `exactly`, what the other does not have is forgotten, spaces included.
    """
    (first, _), (second, again) = subject.new(), subject.new()
    for number in range(3):
        first.write(_batch(number))
    first.write(Batch(failures=[Failure("/bad.jpg", 1, 2, "broken", 3.5)]))
    first.write(Batch(vectors={SPACES[1]: (["0001", "0100"], rows(7, 8))}))
    second.copy_from(first, batch_size=16)
    require(snapshot(second) == snapshot(first), "the copy holds something else")
    _same("copied the second time", second.copy_from(first), 0)
    second.write(Batch(records=[record("/extra.jpg", "ee")]))
    first.drop(SPACES[1])
    second.copy_from(first, exactly=True)
    require(snapshot(again()) == snapshot(first), "an exact copy holds something else")


def metadata_is_kept(subject: Subject) -> None:
    """Metadata is JSON data by name: a batch atomically sets values and removes those that are None.

    Copies have it too. A store without metadata accepts such batches, and `metadata` is empty.
    """
    store, again = subject.new()
    first: dict[str, Any] = {"fusion a,b": {"weights": [0.25, 1], "name": "ä \udcff"}, "other": None, "third": "x"}
    store.write(Batch(metadata=first))
    wanted = {name: value for name, value in first.items() if value is not None}
    if (kept := store.metadata()) == {}:
        wanted = {}
    _same("metadata", kept, wanted)
    store.write(Batch(records=[record("/a.jpg", "aa")], metadata={"third": None, "fourth": False}))
    if wanted:
        wanted = {"fusion a,b": first["fusion a,b"], "fourth": False}
    _same("after others were written", store.metadata(), wanted)
    revision = store.revision(SPACES[0])
    with contextlib.suppress(Exception):  # one vector short
        store.write(Batch(metadata={"bad": 1}, vectors={SPACES[0]: (["aa", "bb"], rows(1))}))
    _same("after a batch that broke", store.metadata(), wanted)
    store.write(Batch(metadata={"fourth": None}))
    wanted.pop("fourth", None)
    reopened = again()
    _same("reopened", reopened.metadata(), wanted)
    _same("the revision of the same vectors", reopened.revision(SPACES[0]), revision)
    other, other_again = subject.new()
    other.write(Batch(metadata={"more": [1]}))
    other.copy_from(reopened)
    _same("a copy", other.metadata(), {"more": [1], **wanted} if wanted else {})
    other.copy_from(reopened, exactly=True)
    _same("an exact copy", other_again().metadata(), wanted)


def a_sound_store_has_no_problems(subject: Subject) -> None:
    """`problems` yields a line per problem: none after writes, moves, edits, failures and copies."""
    (store, again), (other, _) = subject.new(), subject.new()
    _same("of an empty store", list(store.problems()), [])
    store.write(_batch(0))
    store.write(Batch(forgotten=["/0001.jpg"], records=[record("/moved.jpg", "0001"), record("/0002.jpg", "ee")]))
    store.write(Batch(failures=[Failure("/0003.jpg", 1, 2, "broken", 3.5)], metadata={"a": 1}))
    other.copy_from(store)
    for each in (store, again(), other):
        _same("problems", list(each.problems()), [])


def it_says_where_and_how_large(subject: Subject) -> None:
    """`location` says where the store is, and `size` is its size in bytes, or None."""
    store, _ = subject.new()
    store.write(_batch(0))
    location: object = store.location
    require(isinstance(location, str) and bool(location), f"location is {location!r}")
    size: object = store.size()
    require(size is None or (isinstance(size, int) and size > 0), f"size is {size!r}")


def the_revision_changes_with_every_write(subject: Subject) -> None:
    """`revision` is None, or a name that changes with every write and only then."""
    store, again = subject.new()
    store.write(_batch(0))
    seen = [store.revision(SPACES[0])]
    for batch in (
        _batch(1),
        Batch(records=[record("/new.jpg", "ee")]),
        Batch(forgotten=["/0001.jpg"]),
    ):
        store.write(batch)
        seen.append(store.revision(SPACES[0]))
    if seen != [None] * 4:
        require(all(isinstance(each, str) and each.isalnum() for each in seen), f"{seen!r}")
        _same("after three writes different ones", len(set(seen)), 4)
    _same("reopened", again().revision(SPACES[0]), seen[-1])


def changes_lead_from_one_revision_to_another(subject: Subject) -> None:
    """`changes` returns the digests to remove from a space as of a revision, and those to add, to update it.

    It is None if they are not known, for example for a revision of another store.
    """
    store, again = subject.new()
    store.write(_batch(0))
    moments = [(store.revision(SPACES[0]), held(store, SPACES[0]))]
    for batch in (
        Batch(records=[record("/0001.jpg", "ee")], vectors={SPACES[0]: (["ee"], rows(3))}),
        Batch(forgotten=["/0002.jpg"]),
        Batch(forgotten=["/0003.jpg"], records=[record("/moved.jpg", "0003")]),
        Batch(vectors={SPACES[0]: (["0004"], rows(4)), SPACES[1]: (["0005"], rows(5))}),
        Batch(failures=[Failure("/0005.jpg", 1, 2, "broken", 3.0)]),
        _batch(1),
        Batch(dismissed=["/0101.jpg"]),
    ):
        store.write(batch)
        moments.append((store.revision(SPACES[0]), held(store, SPACES[0])))
    for each in (store, again()):
        for revision, then in moments:
            changed = None if revision is None else each.changes(SPACES[0], revision)
            if changed is not None:
                _check_changes(*changed, then, moments[-1][1])
        _same("changes since a revision that never was", each.changes(SPACES[0], "never"), None)


def _check_changes(gone: set[str], added: set[str], then: dict[str, Any], now: dict[str, Any]) -> None:
    kept = {digest: vector for digest, vector in then.items() if digest not in gone}
    require(not kept.keys() & added, f"added and not gone before: {_short(kept.keys() & added)}")
    require(added <= now.keys(), f"added, and not there: {_short(added - now.keys())}")
    _same("with the changes made", {**kept, **{digest: now[digest] for digest in added}}, now)


def options_come_through_yaml(subject: Subject) -> None:
    """Options are unchanged after a round trip through YAML."""
    kit.check_options(subject.make(subject.folder()))


def module_is_light(subject: Subject) -> None:
    """Importing the module and building the store imports no heavy library before its first use."""
    kit.check_light(subject.make(subject.folder()))


CHECKS = tuple(
    map(
        Check,
        (
            a_new_store_is_empty,
            a_store_that_is_not_there_is_told,
            what_is_written_is_there_after_reopening,
            a_second_write_replaces_the_first,
            rows_and_digests_are_aligned,
            blocks_are_the_same_rows,
            copies_are_counted,
            two_spaces_are_apart,
            a_dropped_space_is_gone,
            a_batch_is_written_whole_or_not_at_all,
            a_half_written_second_space_is_unseen,
            dismissed_paths_are_kept,
            paths_have_any_character,
            relative_paths_travel_with_the_store,
            vectors_follow_the_content,
            a_path_has_a_record_or_a_failure,
            ten_thousand_rows_are_kept,
            a_reader_sees_whole_batches,
            writers_take_turns,
            a_copy_is_equal,
            metadata_is_kept,
            a_sound_store_has_no_problems,
            it_says_where_and_how_large,
            the_revision_changes_with_every_write,
            changes_lead_from_one_revision_to_another,
            options_come_through_yaml,
            module_is_light,
        ),
    )
)
