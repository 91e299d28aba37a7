"""The contract of indexes."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgrec.kinds import Index, Numbers, Vectors
from imgrec.testing import kit
from imgrec.testing.kit import Check, require

COUNT, DIM, K = 3_000, 16, 10

WANTED = 64
"""How many candidates are requested per query."""

RECALL = 0.8
"""The required share of true neighbours among candidates, at the greatest effort."""


@dataclass
class Subject:
    """An index under test."""

    index: Index
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def built(self, vectors: Vectors, block: int = 700) -> Path:
        """Build an index of vectors in a new folder, in blocks, and return the folder."""
        folder = self.folder()
        blocks = (vectors[start : start + block].copy() for start in range(0, len(vectors), block))
        kit.rebuilt(self.index).build(blocks, len(vectors), vectors[::3].copy(), folder)
        return folder

    def folder(self) -> Path:
        """A new folder."""
        return Path(self._stack.enter_context(tempfile.TemporaryDirectory()))

    def opened(self, vectors: Vectors, block: int = 700) -> Index:
        """Build and open an index of vectors."""
        return self.open(self.built(vectors, block))

    def open(self, folder: Path) -> Index:
        """Open the index in a folder by another object."""
        index = kit.rebuilt(self.index)
        opened: object = index.open(folder)
        require(opened is index, f"open returned {type(opened).__name__}, not the index itself")
        return index

    def closed(self) -> None:
        """Remove all folders."""
        self._stack.close()


def check_index(index: Index) -> None:
    """Check that an index keeps its contract.

    Args:
        index: an instance, with the options to test and not open, of a class defined at module level.

    Raises:
        ContractError: any check failed.
    """
    subject = Subject(index)
    try:
        kit.run(f"index {index.name}", CHECKS, subject)
    finally:
        subject.closed()


def sample(count: int = COUNT, seed: int = 0) -> Vectors:
    """Vectors in loose clusters, like those of photographs."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(40, DIM))
    return (centres[rng.integers(40, size=count)] + rng.normal(size=(count, DIM))).astype(np.float32)


def _true(queries: Vectors, vectors: Vectors, usable: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.intp]:
    """The nearest rows of each query by exact search, `(m, K)`."""
    apart = np.linalg.norm(queries[:, None].astype(np.float64) - vectors[None], axis=2)
    if usable is not None:
        apart[:, ~usable] = np.inf
    return np.argsort(apart, axis=1)[:, :K]


def _asked(
    index: Index,
    queries: Vectors,
    usable: npt.NDArray[np.bool_] | None = None,
    *,
    effort: int = -1,
    count: int = WANTED,
) -> list[Numbers]:
    """Candidates, with their form verified."""
    found: object = index.candidates(queries.copy(), count, index.efforts()[effort], usable)
    require(isinstance(found, list) and len(found) == len(queries), f"{type(found).__name__} for {len(queries)}")
    assert isinstance(found, list)
    for each in found:
        is_right = isinstance(each, np.ndarray) and each.dtype == np.int64 and each.ndim == 1
        seen = f"{each.dtype} {each.shape}" if isinstance(each, np.ndarray) else type(each).__name__
        require(is_right, f"{seen} of a query, not int64 (some,)")
        require(len(each) <= count, f"{len(each)} candidates where {count} are wanted")
        require(len(set(each.tolist())) == len(each), "a row more than once")
    return found


def _recall(found: list[Numbers], true: npt.NDArray[np.intp]) -> float:
    shares = [len(set(some.tolist()) & set(each)) / K for some, each in zip(found, true.tolist(), strict=True)]
    return float(np.mean(shares))


# --- the checks ---------------------------------------------------------------------------------------------


def candidates_are_rows(subject: Subject) -> None:
    """`candidates` returns for each query distinct int64 row numbers, at most `count`, at any effort."""
    vectors, queries = sample(), sample(5, seed=1)
    index = subject.opened(vectors)
    for effort in range(len(index.efforts())):
        for found in _asked(index, queries, effort=effort):
            are_rows = ((found >= 0) & (found < COUNT)).all()
            require(are_rows, f"rows that there are not, of {COUNT}: {found.min()} to {found.max()}")


def true_neighbours_are_among_them(subject: Subject) -> None:
    """At the greatest effort, most of a query's true nearest rows are candidates."""
    vectors, queries = sample(), sample(50, seed=1)
    recall = _recall(_asked(subject.opened(vectors), queries), _true(queries, vectors))
    require(recall >= RECALL, f"{recall:.0%} of them")


def efforts_grow(subject: Subject) -> None:
    """`efforts` are distinct integers in ascending order, and more effort finds no fewer true neighbours."""
    vectors, queries = sample(), sample(100, seed=1)
    index = subject.opened(vectors)
    efforts: object = list(index.efforts())
    are_numbers = all(isinstance(each, int) for each in index.efforts())
    require(are_numbers and bool(index.efforts()) and efforts == sorted(set(index.efforts())), f"{efforts}")
    true = _true(queries, vectors)
    recalls = [_recall(_asked(index, queries, effort=effort), true) for effort in range(len(index.efforts()))]
    falls = max((before - after for before, after in itertools.pairwise(recalls)), default=0)
    require(falls <= 0.02, f"recalls of {', '.join(f'{each:.2f}' for each in recalls)}")


def rows_that_may_not_be_found_are_none(subject: Subject) -> None:
    """Rows that `usable` excludes are never candidates, and true neighbours among the others are still found."""
    vectors, queries = sample(), sample(20, seed=1)
    index = subject.opened(vectors)
    for share in (0.5, 0.1):
        usable = np.random.default_rng(2).random(COUNT) < share
        found = _asked(index, queries, usable)
        require(all(usable[each].all() for each in found), f"excluded rows, where {share:.0%} may be found")
        recall = _recall(found, _true(queries, vectors, usable))
        require(recall >= RECALL / 2, f"{recall:.0%} of the true neighbours, where {share:.0%} may be found")
    require(not any(map(len, _asked(index, queries, np.zeros(COUNT, np.bool_)))), "rows, where none may be found")


def blocks_may_have_any_size(subject: Subject) -> None:
    """Results depend neither on how vectors are split into blocks nor on when the index is built."""
    vectors, queries = sample(), sample(20, seed=1)
    found = [
        [sorted(each.tolist()) for each in _asked(subject.opened(vectors, block), queries)]
        for block in (700, 1, COUNT)
    ]
    require(found[0] == found[1] == found[2], "other candidates")


def few_vectors_are_enough(subject: Subject) -> None:
    """An index of one vector or a few works, and all of them are candidates."""
    for count in (1, 2, 5):
        vectors = sample(count)
        found = _asked(subject.opened(vectors), vectors[:1])
        require(sorted(found[0].tolist()) == list(range(count)), f"{found[0].tolist()} of {count} vectors")


def equal_vectors_are_taken(subject: Subject) -> None:
    """Vectors may be all equal or all zero."""
    for value in (0, 1):
        found = _asked(subject.opened(np.full((200, DIM), value, np.float32)), sample(2))
        require(all(len(each) for each in found), "no candidate")


def it_is_there_in_another_object(subject: Subject) -> None:
    """The files are self-contained: another object with the same options opens them and finds the same."""
    vectors, queries = sample(), sample(20, seed=1)
    folder = subject.built(vectors)
    one, other = (_asked(subject.open(folder), queries) for _ in range(2))
    is_same = all(sorted(a.tolist()) == sorted(b.tolist()) for a, b in zip(one, other, strict=True))
    require(is_same, "other candidates")


def damaged_files_are_errors(subject: Subject) -> None:
    """If a file is missing or truncated, `open` or `candidates` raises an Exception."""
    vectors = sample()
    names = sorted(path.relative_to(folder) for folder in [subject.built(vectors)] for path in folder.rglob("*"))
    for name in names:
        for damage in ("gone", "cut off"):
            folder = subject.built(vectors)
            file = folder / name
            if file.is_dir():
                continue
            data = file.read_bytes()
            file.unlink()
            if damage == "cut off":
                file.write_bytes(data[: len(data) // 2])
            if _works(subject, folder):
                raise kit.SeenError(f"nothing was said, and {name} is {damage}")


def _works(subject: Subject, folder: Path) -> bool:
    try:
        _asked(subject.open(folder), sample(3, seed=1))
    except kit.SeenError:
        raise
    except Exception:
        return False
    return True


def it_follows_changes(subject: Subject) -> None:
    """`update` returns False, or leaves the older files, adds rows at the end, and finds none that are gone."""
    vectors, queries = sample(COUNT + 100), sample(20, seed=1)
    older, folder = subject.built(vectors[:COUNT]), subject.folder()
    before = {path.name: path.read_bytes() for path in older.iterdir() if path.is_file()}
    gone = np.random.default_rng(3).choice(COUNT, 100, replace=False).astype(np.int64)
    blocks = (vectors[start : start + 30].copy() for start in range(COUNT, COUNT + 100, 30))
    if not kit.rebuilt(subject.index).update(older, np.sort(gone), blocks, folder):
        return
    after = {path.name: path.read_bytes() for path in older.iterdir() if path.is_file()}
    require(before == after, "the older files were changed")
    left = np.ones(len(vectors), np.bool_)
    left[gone] = False
    found = _asked(subject.open(folder), queries)
    require(all(left[each].all() for each in found), "rows that are gone were found")
    recall = _recall(found, _true(queries, vectors, left))
    require(recall >= RECALL, f"{recall:.0%} of the true neighbours after a change")
    own = _asked(subject.open(folder), vectors[COUNT:])
    require(
        all(COUNT + i in each.tolist() for i, each in enumerate(own)), "new rows are not found by their vectors"
    )


def options_come_through_yaml(subject: Subject) -> None:
    """Options are unchanged after a round trip through YAML."""
    kit.check_options(subject.index)


def module_is_light(subject: Subject) -> None:
    """Importing the module and building the index imports no heavy library before its first use."""
    kit.check_light(subject.index)


CHECKS = tuple(
    map(
        Check,
        (
            candidates_are_rows,
            true_neighbours_are_among_them,
            efforts_grow,
            rows_that_may_not_be_found_are_none,
            blocks_may_have_any_size,
            few_vectors_are_enough,
            equal_vectors_are_taken,
            it_is_there_in_another_object,
            damaged_files_are_errors,
            it_follows_changes,
            options_come_through_yaml,
            module_is_light,
        ),
    )
)
