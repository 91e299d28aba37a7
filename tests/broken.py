"""Plugins that break their contract, one for each check of `imgrec.testing`, and nothing else wrong with them."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

import imgrec
from imgrec.kinds import (
    Batch,
    Doubles,
    Extracted,
    Image,
    ImageFile,
    Item,
    Numbers,
    Record,
    Space,
    Vectors,
)
from imgrec.options import option
from imgrec_metrics import Euclidean, Hellinger, Manhattan
from imgrec_pca import PCA
from imgrec_query_expansion import QueryExpansion
from imgrec_sqlite import Sqlite


@dataclass
class Good(imgrec.Extractor):
    """Mean colour, shifted: keeps its contract."""

    shift: int = 0
    batch_size: int = option(8, changes_vectors=False)

    def extract(self, images: Sequence[Image]) -> Vectors:
        return np.stack([image.mean(axis=(0, 1)) + 1 + self.shift for image in images]).astype(np.float32)


class InFloat64(Good):
    def extract(self, images: Sequence[Image]) -> Vectors:
        return super().extract(images).astype(np.float64)


class Random(Good):
    def extract(self, images: Sequence[Image]) -> Vectors:
        noise = np.random.default_rng().random((len(images), 3))
        return (super().extract(images) + noise).astype(np.float32)


class Constant(Good):
    def extract(self, images: Sequence[Image]) -> Vectors:
        return np.ones((len(images), 3), np.float32)


class NoBlack(Good):
    def extract(self, images: Sequence[Image]) -> Vectors:
        brightest = np.array([[image.max()] for image in images], np.float32)
        with np.errstate(invalid="ignore"):
            return super().extract(images) * (brightest / brightest)


class NoSmall(Good):
    def extract(self, images: Sequence[Image]) -> Vectors:
        if min(min(image.shape[:2]) for image in images) < 4:
            raise ValueError("kernel larger than the image")
        return super().extract(images)


class BatchNorm(Good):
    def extract(self, images: Sequence[Image]) -> Vectors:
        vectors = super().extract(images)
        return vectors - vectors.mean(axis=0) if len(vectors) > 1 else vectors


class OfThisProcess(Good):
    def extract(self, images: Sequence[Image]) -> Vectors:
        return super().extract(images) + np.float32(os.getpid() % 1000)


class Writes(Good):
    def extract(self, images: Sequence[Image]) -> Vectors:
        vectors = super().extract(images)
        for image in images:
            image[:] = image[::-1].copy()
        return vectors


class Pads(Good):
    def extract_text(self, texts: Sequence[str]) -> Vectors:
        longest = max(map(len, texts))
        return np.array([[len(text), longest, 1] for text in texts], np.float32)


class HalfSide(Good):
    @property
    def side(self) -> int | None:
        return 112.5  # type: ignore[return-value]


@dataclass
class Rounds(Good):
    scale: Any = (1, 2)  # YAML has no tuples


class Forgets(Good):
    def identity(self) -> dict[str, Any]:
        return {}


@dataclass
class Greedy(Good):
    n_jobs: int = 1

    def identity(self) -> dict[str, Any]:
        return self.options()


class Heavy(Good):
    def __post_init__(self) -> None:
        super().__post_init__()
        import pandas  # noqa: F401


EXTRACTORS: dict[str, type[Good]] = {
    "vectors_are_a_matrix": InFloat64,
    "an_image_has_one_vector": Random,
    "images_stay_as_they_are": Writes,
    "vectors_tell_images_apart": Constant,
    "values_are_finite": NoBlack,
    "any_size_is_taken": NoSmall,
    "a_vector_is_the_same_alone_and_in_any_batch": BatchNorm,
    "a_vector_is_the_same_in_another_process": OfThisProcess,
    "texts_are_vectors_of_the_same_space": Pads,
    "side_says_how_large": HalfSide,
    "options_come_through_yaml": Rounds,
    "identity_follows_what_changes_vectors": Forgets,
    "identity_ignores_what_does_not": Greedy,
    "module_is_light": Heavy,
}

# --- reducers -----------------------------------------------------------------------------------------------


@dataclass
class Draws(imgrec.Reducer):
    """Only draws: keeps its contract."""

    def fit_transform(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Vectors:
        return PCA(n_components=self.n_components, metric=self.metric, seed=self.seed).fit_transform(vectors)


class OneMore(PCA):
    def fit_transform(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Vectors:
        return super().fit_transform(vectors, labels)[1:]


class ReturnsNone(PCA):
    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        super().fit(vectors, labels)
        return None if labels else self  # type: ignore[return-value]


class Unlabelled(PCA):
    supervised = True


class Global(PCA):
    def fit_transform(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Vectors:
        reduced = super().fit_transform(vectors, labels)
        return (reduced + np.random.normal(0, 0.01, reduced.shape)).astype(np.float32)


class Learns(PCA):
    def transform(self, vectors: Vectors) -> Vectors:
        reduced = super().transform(vectors)
        self._mean = self._mean + np.float32(0.01)
        return reduced


class Anywhere(PCA):
    def transform(self, vectors: Vectors) -> Vectors:
        return -2 * super().transform(vectors)

    def fit_transform(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Vectors:
        return self.fit(vectors, labels).transform(vectors) / np.float32(-2)


class AlwaysTwo(PCA):
    def fit_transform(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Vectors:
        return super().fit_transform(vectors, labels)[:, :2]


class OnlyEuclidean(PCA):
    def fit_transform(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Vectors:
        if self.metric == "hellinger":
            raise ValueError("unknown metric")
        return super().fit_transform(vectors, labels)


class WantsMany(PCA):
    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        if len(vectors) < 15:
            raise imgrec.UsageError("15 neighbours need 15 images")
        return super().fit(vectors, labels)


class Crashes(PCA):
    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        if len(vectors) < 3:
            raise IndexError("index 2 is out of bounds")
        return super().fit(vectors, labels)


class Pickles(PCA):
    def state(self) -> dict[str, Any]:
        return {**super().state(), "model": np.array([{"a": 1}], dtype=object)}

    def restore(self, state: Mapping[str, Any]) -> Self:
        return super().restore({name: array for name, array in state.items() if name != "model"})


class Centres(PCA):
    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        if len(vectors) > 3:
            vectors -= np.float32(1e-3)
        return super().fit(vectors, labels)


class ForgetsReport(PCA):
    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        self._images = len(vectors)
        return super().fit(vectors, labels)

    def report(self) -> dict[str, float]:
        return {"images": getattr(self, "_images", 0)}


@dataclass
class Tuple(PCA):
    scale: Any = (1, 2)


class HeavyReducer(PCA):
    def __post_init__(self) -> None:
        super().__post_init__()
        import sklearn.decomposition  # noqa: F401


REDUCERS: dict[str, type[PCA]] = {
    "result_is_a_matrix": OneMore,
    "fit_returns_the_reducer": ReturnsNone,
    "labels_are_asked_for": Unlabelled,
    "the_seed_decides": Global,
    "new_points_are_placed": Learns,
    "new_points_land_among_their_like": Anywhere,
    "dimensions_are_as_asked": AlwaysTwo,
    "every_metric_is_taken": OnlyEuclidean,
    "few_points_are_enough": WantsMany,
    "too_few_points_are_told": Crashes,
    "state_is_plain_arrays": Pickles,
    "report_is_numbers": ForgetsReport,
    "vectors_stay_as_they_are": Centres,
    "options_come_through_yaml": Tuple,
    "module_is_light": HeavyReducer,
}

# --- rerankers ----------------------------------------------------------------------------------------------


class InDoubles(QueryExpansion):
    def expand(self, query: Vectors, nearest: Vectors) -> Vectors:
        return super().expand(query, nearest).astype(np.float64)


class WantsTwo(QueryExpansion):
    def expand(self, query: Vectors, nearest: Vectors) -> Vectors:
        made: Vectors = super().expand(query, nearest) + nearest[1] / 100
        return made


class Divides(QueryExpansion):
    def expand(self, query: Vectors, nearest: Vectors) -> Vectors:
        made: Vectors = super().expand(query, nearest) * (np.linalg.norm(query) / np.linalg.norm(query))
        return made


class Subtracts(QueryExpansion):
    def expand(self, query: Vectors, nearest: Vectors) -> Vectors:
        made: Vectors = query - 2 * nearest.mean(axis=0)
        return made


class Chance(QueryExpansion):
    def expand(self, query: Vectors, nearest: Vectors) -> Vectors:
        noise = np.random.default_rng().uniform(0, 0.01, query.shape)
        return super().expand(query, nearest) + noise.astype(np.float32)


class Normalises(QueryExpansion):
    def expand(self, query: Vectors, nearest: Vectors) -> Vectors:
        made = super().expand(query, nearest)
        nearest /= 2
        return made


@dataclass
class TupleOfReranker(QueryExpansion):
    scale: Any = (1, 2)


class HeavyReranker(QueryExpansion):
    def __post_init__(self) -> None:
        super().__post_init__()
        import sklearn.decomposition  # noqa: F401


RERANKERS: dict[str, type[QueryExpansion]] = {
    "result_is_a_vector": InDoubles,
    "one_neighbour_is_enough": WantsTwo,
    "zeros_are_taken": Divides,
    "nothing_negative_is_made": Subtracts,
    "the_same_is_said_again": Chance,
    "vectors_stay_as_they_are": Normalises,
    "options_come_through_yaml": TupleOfReranker,
    "module_is_light": HeavyReranker,
}

# --- stores -------------------------------------------------------------------------------------------------


class NotNew(Sqlite):
    def open(self, *, create: bool = False) -> Self:
        is_new = create and not Path(self.path).exists()
        super().open(create=create)
        if is_new:
            super().write(Batch(records=[Record("/example.jpg", "00", 1, 1)]))
        return self


class AlwaysMakes(Sqlite):
    def open(self, *, create: bool = False) -> Self:
        return super().open(create=True)


class Rounding(Sqlite):
    def write(self, batch: Batch) -> None:
        for space, (digests, vectors) in batch.vectors.items():
            batch.vectors[space] = (digests, np.where(np.abs(vectors) < 1e-20, np.float32(0), vectors))
        super().write(batch)


class FirstStays(Sqlite):
    def write(self, batch: Batch) -> None:
        known = {record.path: record for record in self.records()}
        batch.records = [r for r in batch.records if r.path not in known or known[r.path].digest != r.digest]
        super().write(batch)


class Unaligned(Sqlite):
    def vectors(self, space: Space, digests: Sequence[str] | None = None) -> tuple[list[str], Vectors]:
        found, vectors = super().vectors(space, digests)
        return (found[::-1] if digests and "none" in digests else found), vectors


class MissingToo(Sqlite):
    def copies(self, digests: Sequence[str] | None = None) -> Iterator[tuple[str, int]]:
        return iter(Counter(record.digest for record in self.records(digests=digests)).items())


class LargeBlocks(Sqlite):
    def blocks(
        self, space: Space, digests: Sequence[str] | None = None, size: int = 2048
    ) -> Iterator[tuple[list[str], Vectors]]:
        return super().blocks(space, digests, size + 1)


class OneSpace(Sqlite):
    def digests(self, space: Space, among: Sequence[str] | None = None) -> set[str]:
        return super().digests(space, among)

    def spaces(self) -> list[Space]:
        return sorted(super().spaces(), key=lambda space: space.key)


class Keeps(Sqlite):
    def drop(self, space: Space) -> None:
        """Removes the name, and keeps the vectors for when it comes again."""
        with self.writing():
            self._db.execute("UPDATE spaces SET record = '' WHERE key = ?", (space.key,))

    def spaces(self) -> list[Space]:
        rows = self._db.execute("SELECT record FROM spaces WHERE record != '' ORDER BY id")
        return [Space.from_json(json.loads(row[0])) for row in rows]


class InParts(Sqlite):
    def write(self, batch: Batch) -> None:
        super().write(replace(batch, vectors={}, metadata={}))
        super().write(Batch(vectors=batch.vectors))


class ReadsAhead(Sqlite):
    """The vectors of a space are there before the batch is."""

    def write(self, batch: Batch) -> None:
        for space, (digests, vectors) in [*batch.vectors.items()][:-1]:
            super().write(Batch(vectors={space: (digests, vectors)}))
        super().write(batch)


class Lines(Sqlite):
    def records(self, *, paths: Any = None, digests: Any = None) -> Iterator[Record]:
        return (r for r in super().records(paths=paths, digests=digests) if "\n" not in r.path)


class Rooted(Sqlite):
    """Keeps paths absolute, whatever it is asked for."""

    def keep_paths(self, how: str | None = None) -> None:
        """Nothing."""


class LosesMoved(Sqlite):
    def write(self, batch: Batch) -> None:
        if batch.forgotten and not batch.failures:
            super().write(Batch(forgotten=batch.forgotten))
            batch.forgotten = []
        super().write(batch)


class Both(Sqlite):
    """A failure leaves the record of its path."""

    def write(self, batch: Batch) -> None:
        failed = {failure.path for failure in batch.failures} - set(batch.forgotten)
        kept = list(self.records(paths=sorted(failed)))
        batch.failures = [f for f in batch.failures if f.path not in {record.path for record in kept}]
        super().write(batch)


class Small(Sqlite):
    limit: ClassVar[int] = 9_999

    def records(self, *, paths: Any = None, digests: Any = None) -> Iterator[Record]:
        for number, record in enumerate(super().records(paths=paths, digests=digests)):
            if number < self.limit:
                yield record


class Slow(Sqlite):
    """Writes records one by one, and a reader can watch."""

    def write(self, batch: Batch) -> None:
        if len(batch.records) == 50 and not batch.failures:
            for record in batch.records:
                super().write(Batch(records=[record]))
                time.sleep(0.0005)
        super().write(batch)


class Impatient(Sqlite):
    writers: ClassVar[dict[str, Sqlite]] = {}

    def write(self, batch: Batch) -> None:
        if self.writers.setdefault(self.path, self) is not self:
            raise imgrec.ImgrecError("another run is writing")
        super().write(batch)

    def close(self) -> None:
        if self.writers.get(self.path) is self:
            del self.writers[self.path]
        super().close()


class CopiesAgain(Sqlite):
    def copy_from(self, other: imgrec.Store, **choices: Any) -> int:
        return super().copy_from(other, **choices) or 1


class OneNote(Sqlite):
    def write(self, batch: Batch) -> None:
        if any(value is not None for value in batch.metadata.values()):
            batch.metadata = {**dict.fromkeys(self.metadata()), **batch.metadata}
        super().write(batch)


class Anxious(Sqlite):
    def problems(self) -> Iterator[str]:
        yield "ok" if any(self.records()) else ""


class Nowhere(Sqlite):
    @property
    def location(self) -> str:
        return ""


class Stuck(Sqlite):
    def revision(self, space: Space) -> str | None:
        return "1"


class AllDismissed(Sqlite):
    def dismissed(self, *, paths: Sequence[str] | None = None) -> set[str]:
        return super().dismissed()


class OnlyAdds(Sqlite):
    def changes(self, space: Space, since: str) -> tuple[set[str], set[str]] | None:
        found = super().changes(space, since)
        return found and (set(), found[1])


@dataclass
class TupleStore(Sqlite):
    scale: Any = (1, 2)


class HeavyStore(Sqlite):
    def __post_init__(self) -> None:
        super().__post_init__()
        import pandas  # noqa: F401


STORES: dict[str, type[Sqlite]] = {
    "a_new_store_is_empty": NotNew,
    "a_store_that_is_not_there_is_told": AlwaysMakes,
    "what_is_written_is_there_after_reopening": Rounding,
    "a_second_write_replaces_the_first": FirstStays,
    "rows_and_digests_are_aligned": Unaligned,
    "blocks_are_the_same_rows": LargeBlocks,
    "copies_are_counted": MissingToo,
    "two_spaces_are_apart": OneSpace,
    "a_dropped_space_is_gone": Keeps,
    "a_batch_is_written_whole_or_not_at_all": InParts,
    "a_half_written_second_space_is_unseen": ReadsAhead,
    "dismissed_paths_are_kept": AllDismissed,
    "paths_have_any_character": Lines,
    "relative_paths_travel_with_the_store": Rooted,
    "vectors_follow_the_content": LosesMoved,
    "a_path_has_a_record_or_a_failure": Both,
    "ten_thousand_rows_are_kept": Small,
    "a_reader_sees_whole_batches": Slow,
    "writers_take_turns": Impatient,
    "a_copy_is_equal": CopiesAgain,
    "metadata_is_kept": OneNote,
    "a_sound_store_has_no_problems": Anxious,
    "it_says_where_and_how_large": Nowhere,
    "the_revision_changes_with_every_write": Stuck,
    "changes_lead_from_one_revision_to_another": OnlyAdds,
    "options_come_through_yaml": TupleStore,
    "module_is_light": HeavyStore,
}

# --- metrics ------------------------------------------------------------------------------------------------


class Signed(Euclidean):
    def distances(self, query: Doubles, vectors: Doubles) -> Doubles:
        found = super().distances(query, vectors)
        return np.where(vectors.any(axis=1) == bool(query.any()), found, -found)


class Offset(Manhattan):
    def distances(self, query: Doubles, vectors: Doubles) -> Doubles:
        found = super().distances(query, vectors)
        return np.where(vectors.any(axis=1) | query.any(), found, 1.0)


class OneWay(Manhattan):
    def distances(self, query: Doubles, vectors: Doubles) -> Doubles:
        return super().distances(query, vectors) * (1 + query.sum() / 100)  # type: ignore[no-any-return]


class Expanded(Manhattan):
    def distances(self, query: Doubles, vectors: Doubles) -> Doubles:
        return super().distances(query, vectors) * (1 + len(vectors) / 1e13)


class OtherForm(Hellinger):
    def as_euclidean(self, vectors: Vectors) -> Vectors:
        return vectors


class Falls(Euclidean):
    def least(self, apart: Any) -> Any:
        return apart if np.ndim(apart) else apart / 2


class Coarse(Manhattan):
    def distances(self, query: Doubles, vectors: Doubles) -> Doubles:
        found = super().distances(query, vectors)
        return found if found.dtype == np.float64 else found.astype(np.float16)


class Unchecked(Hellinger):
    def check(self, vectors: Vectors) -> None:
        return

    def distances(self, query: Doubles, vectors: Doubles) -> Doubles:
        with np.errstate(invalid="ignore"):
            return super().distances(query, vectors)


class WritesOver(Manhattan):
    def distances(self, query: Doubles, vectors: Doubles) -> Doubles:
        found: Doubles = np.abs(vectors - query).sum(axis=1)
        vectors -= query
        return found


@dataclass
class Optional(Manhattan):
    power: float = 1.0


class HeavyMetric(Manhattan):
    def __post_init__(self) -> None:
        super().__post_init__()
        import scipy  # noqa: F401


METRICS: dict[str, type[imgrec.Metric]] = {
    "distances_are_numbers_from_0_on": Signed,
    "equal_vectors_are_at_0": Offset,
    "it_goes_both_ways": OneWay,
    "a_distance_is_the_same_alone_and_among_others": Expanded,
    "its_form_orders_alike": OtherForm,
    "least_grows_from_0_on": Falls,
    "float32_is_off_by_rounding_alone": Coarse,
    "negative_values_are_taken_or_refused": Unchecked,
    "vectors_stay_as_they_are": WritesOver,
    "class_can_be_listed": Optional,
    "module_is_light": HeavyMetric,
}

# --- indexes ------------------------------------------------------------------------------------------------


@dataclass
class Brute(imgrec.Index):
    """All vectors are looked at: keeps its contract. It is used for few images, too."""

    recall: float = 0.5
    exact_up_to: int = 0

    def build(self, blocks: Iterator[Vectors], count: int, sample: Vectors, folder: Path) -> None:
        np.save(folder / "vectors.npy", np.concatenate(list(blocks)))

    def open(self, folder: Path) -> Self:
        self.vectors = np.load(folder / "vectors.npy")
        return self

    def efforts(self) -> Sequence[int]:
        return (1, 2)

    def candidates(
        self, queries: Vectors, count: int, effort: int, usable: npt.NDArray[np.bool_] | None
    ) -> list[Numbers]:
        rows = np.arange(len(self.vectors)) if usable is None else np.flatnonzero(usable)
        apart = [np.linalg.norm(self.vectors[rows].astype(np.float64) - query, axis=1) for query in queries]
        return [rows[np.argsort(each, kind="stable")[:count]] for each in apart]


class Padded(Brute):
    def candidates(self, *given: Any) -> list[Numbers]:
        found = super().candidates(*given)
        return [np.append(each[:-1], -1) if len(each) == given[1] else each for each in found]


class Blind(Brute):
    def candidates(self, *given: Any) -> list[Numbers]:
        queries, *rest = given
        return super().candidates(-queries if len(queries) == 50 else queries, *rest)


class Tires(Brute):
    def efforts(self) -> Sequence[int]:
        return (2, 1)


class Leaks(Brute):
    def candidates(self, *given: Any) -> list[Numbers]:
        queries, count, effort, usable = given
        return super().candidates(queries, count, effort, None if usable is None else usable | True)


class BlockWise(Brute):
    def build(self, blocks: Iterator[Vectors], count: int, sample: Vectors, folder: Path) -> None:
        some = list(blocks)
        np.save(folder / "vectors.npy", np.concatenate(some[::-1] if len(some[0]) == 1 else some))


class WantsHundred(Brute):
    def build(self, blocks: Iterator[Vectors], count: int, sample: Vectors, folder: Path) -> None:
        if count < 100:
            raise ValueError("too few")
        super().build(blocks, count, sample, folder)


class WantsDifferent(Brute):
    def build(self, blocks: Iterator[Vectors], count: int, sample: Vectors, folder: Path) -> None:
        if count > 100 and not np.ptp(sample, axis=0).any():
            raise ValueError("nothing to learn")
        super().build(blocks, count, sample, folder)


_built: dict[Path, Vectors] = {}


class InMemory(Brute):
    def open(self, folder: Path) -> Self:
        super().open(folder)
        self.vectors = self.vectors if _built.get(folder) is None else -self.vectors
        _built[folder] = self.vectors
        return self


class Forgiving(Brute):
    def open(self, folder: Path) -> Self:
        try:
            return super().open(folder)
        except (OSError, ValueError):
            self.vectors = np.zeros((3_000, 16), np.float32)
            return self


@dataclass
class TupleOfIndex(Brute):
    sizes: Any = (1, 2)


class KeepsGone(Brute):
    def update(self, older: Path, gone: Numbers, blocks: Iterator[Vectors], folder: Path) -> bool:
        np.save(folder / "vectors.npy", np.concatenate([np.load(older / "vectors.npy"), *blocks]))
        return True


class HeavyIndex(Brute):
    def __post_init__(self) -> None:
        super().__post_init__()
        import sklearn.cluster  # noqa: F401


INDEXES: dict[str, type[Brute]] = {
    "candidates_are_rows": Padded,
    "true_neighbours_are_among_them": Blind,
    "efforts_grow": Tires,
    "rows_that_may_not_be_found_are_none": Leaks,
    "blocks_may_have_any_size": BlockWise,
    "few_vectors_are_enough": WantsHundred,
    "equal_vectors_are_taken": WantsDifferent,
    "it_is_there_in_another_object": InMemory,
    "damaged_files_are_errors": Forgiving,
    "it_follows_changes": KeepsGone,
    "options_come_through_yaml": TupleOfIndex,
    "module_is_light": HeavyIndex,
}

# --- decoders -----------------------------------------------------------------------------------------------

FLAT = b"FLAT" + bytes([8, 6, *range(144)])
"""A whole file: width, height, and RGB row by row."""


@dataclass
class Flat(imgrec.Decoder):
    """A made-up format: keeps its contract."""

    suffixes: ClassVar[Collection[str]] = (".flat",)

    @classmethod
    def recognises(cls, head: bytes) -> bool:
        return head.startswith(b"FLAT")

    def open(self, data: bytes) -> Any:
        import PIL.Image

        return PIL.Image.frombytes("RGB", (data[4], data[5]), data[6:])


class Arrays(Flat):
    def open(self, data: bytes) -> Any:
        return np.asarray(super().open(data))


class Shy(Flat):
    @classmethod
    def recognises(cls, head: bytes) -> bool:
        return len(head) < 10 and head.startswith(b"FLAT")


class Claims(Flat):
    @classmethod
    def recognises(cls, head: bytes) -> bool:
        return not head or super().recognises(head)


class NoSuffix(Flat):
    suffixes = ()


class Grainy(Flat):
    def open(self, data: bytes) -> Any:
        return super().open(data[:6] + np.random.default_rng().bytes(len(data) - 6))


class Exits(Flat):
    def open(self, data: bytes) -> Any:
        try:
            return super().open(data)
        except Exception:
            raise SystemExit(3) from None


class UpperCase(Flat):
    suffixes = (".FLAT",)


class HeavyDecoder(Flat):
    def __post_init__(self) -> None:
        super().__post_init__()
        import PIL.Image  # noqa: F401


DECODERS: dict[str, type[Flat]] = {
    "a_picture_comes_out": Arrays,
    "its_files_are_recognised": Shy,
    "other_files_are_left_alone": Claims,
    "its_files_are_found": NoSuffix,
    "the_same_pixels_come_out_again": Grainy,
    "damaged_files_are_errors_or_pictures": Exits,
    "class_can_be_listed": UpperCase,
    "module_is_light": HeavyDecoder,
}

# --- sources ------------------------------------------------------------------------------------------------

MEMORY = {f"memory://photos/{name}.png": bytes([number] * 9) for number, name in enumerate("abc")}


@dataclass
class Memory(imgrec.Source):
    """Files that lie in this module: keeps its contract."""

    @classmethod
    def recognises(cls, path: str) -> bool:
        return path.startswith("memory://")

    def find(self, roots: Sequence[str]) -> Iterator[ImageFile]:
        for path in MEMORY:
            if any(path == root or path.startswith(f"{root}/") for root in roots):
                yield self.of(path)

    def of(self, path: str) -> ImageFile:
        return ImageFile(path, len(MEMORY[path]), 1, stamp=str(MEMORY[path][0]))

    def state(self, path: str) -> ImageFile | None:
        if path == "memory://photos":
            return ImageFile(path, 0, 0, problem="not a regular file")
        return self.of(path) if path in MEMORY else None

    def read(self, path: str) -> tuple[bytes, ImageFile]:
        if path not in MEMORY:
            raise imgrec.UnreadableImageError("it is gone")
        return MEMORY[path], self.of(path)


class Shuffled(Memory):
    def find(self, roots: Sequence[str]) -> Iterator[ImageFile]:
        found = list(super().find(roots))
        Shuffled.turn = getattr(Shuffled, "turn", 0) + 1  # type: ignore[attr-defined]
        return iter(found if Shuffled.turn % 2 else found[::-1])  # type: ignore[attr-defined]


class Twice(Memory):
    def find(self, roots: Sequence[str]) -> Iterator[ImageFile]:
        for root in roots:
            yield from super().find([root])


class Names(Memory):
    def paths(self, roots: Sequence[str]) -> Iterator[str]:
        return (file.path.upper() for file in self.find(roots))


class Skipper(Memory):
    def skipping(self, is_excluded: Callable[[str], bool]) -> imgrec.Source:
        return Nothing()


class Nothing(Memory):
    def find(self, roots: Sequence[str]) -> Iterator[ImageFile]:
        return iter(())


class Elsewhere(Memory):
    def find(self, roots: Sequence[str]) -> Iterator[ImageFile]:
        return (replace(file, path=f"memory://{file.path}") for file in super().find(roots))

    def paths(self, roots: Sequence[str]) -> Iterator[str]:
        return (file.path for file in self.find(roots))

    def state(self, path: str) -> ImageFile | None:
        file = super().state(path.replace("memory://memory:", "memory:"))
        return file and replace(file, path=path)

    def read(self, path: str) -> tuple[bytes, ImageFile]:
        data, file = super().read(path.replace("memory://memory:", "memory:"))
        return data, replace(file, path=path)


class OnlyRoots(Memory):
    @classmethod
    def recognises(cls, path: str) -> bool:
        return path == "memory://photos"


class Everything(Memory):
    @classmethod
    def recognises(cls, path: str) -> bool:
        return True


class Stampless(Memory):
    def state(self, path: str) -> ImageFile | None:
        file = super().state(path)
        return file and replace(file, stamp=None)


class Immortal(Memory):
    def state(self, path: str) -> ImageFile | None:
        return super().state(path) or ImageFile(path, 0, 0)


class Cut(Memory):
    def read(self, path: str) -> tuple[bytes, ImageFile]:
        data, file = super().read(path)
        return data[:-1], file


class OneAtATime(Memory):
    is_busy = False

    def read(self, path: str) -> tuple[bytes, ImageFile]:
        if OneAtATime.is_busy:
            raise imgrec.UnreadableImageError("busy")
        OneAtATime.is_busy = True
        time.sleep(0.01)
        OneAtATime.is_busy = False
        return super().read(path)


@dataclass
class WithOptions(Memory):
    region: str = "north"


class HeavySource(Memory):
    def __post_init__(self) -> None:
        super().__post_init__()
        import PIL.Image  # noqa: F401


class Restless(Memory):
    def roots(self, path: str) -> list[str]:
        return [f"{path}/"]

    def find(self, roots: Sequence[str]) -> Iterator[ImageFile]:
        return super().find([root.rstrip("/") for root in roots])

    def state(self, path: str) -> ImageFile | None:
        return super().state(path.rstrip("/"))


class Generous(Memory):
    def read_part(self, path: str, start: int, size: int) -> tuple[bytes, ImageFile]:
        return self.read(path)


SOURCES: dict[str, type[Memory]] = {
    "files_are_found": Shuffled,
    "a_root_means_itself": Restless,
    "each_is_found_once": Twice,
    "paths_are_those_of_the_files": Names,
    "what_is_skipped_is_what_is_excluded": Skipper,
    "paths_lie_below_the_root": Elsewhere,
    "its_paths_are_recognised": OnlyRoots,
    "other_paths_are_left_alone": Everything,
    "state_is_as_found": Stampless,
    "what_is_gone_is_told": Immortal,
    "bytes_belong_to_their_state": Cut,
    "a_part_is_of_the_whole": Generous,
    "threads_may_share_it": OneAtATime,
    "class_can_be_listed": WithOptions,
    "module_is_light": HeavySource,
}

# --- engines ------------------------------------------------------------------------------------------------


@dataclass
class Plain(imgrec.Engine):
    """One file after the other, in the thread that asks: keeps its contract."""

    def open(self, extractors: Any) -> Self:
        self._extractors = extractors
        return self

    def read(self, files: Iterable[ImageFile]) -> Iterator[Item]:
        return map(imgrec.read_item, files)

    def extract(self, items: Iterable[Item], batch_size: int) -> Iterator[Extracted]:
        return map(self.work, imgrec.chunks(items, batch_size))

    def work(self, items: list[Item]) -> Extracted:
        return imgrec.extract_items(self._extractors, items)

    def close(self, *, at_once: bool = False) -> None:
        pass


class Reads(Plain):
    def read(self, files: Iterable[ImageFile]) -> Iterator[Item]:
        return reversed(list(super().read(files)))


class RoundsEngine(Plain):
    def work(self, items: list[Item]) -> Extracted:
        done = super().work(items)
        done.vectors = {space: (names, np.round(rows)) for space, (names, rows) in done.vectors.items()}
        return done


class ForgetsEngine(Plain):
    def work(self, items: list[Item]) -> Extracted:
        done = super().work(items)
        return Extracted([replace(item, counts_as="new", forgets=[]) for item in done.items], done.vectors)


class Hides(Plain):
    def work(self, items: list[Item]) -> Extracted:
        done = super().work([item for item in items if item.reason is None])
        for item in done.items:
            item.reason = None
        return Extracted(items, done.vectors)


class Eager(Plain):
    def work(self, items: list[Item]) -> Extracted:
        for item in items:
            item.lacks = list(self._extractors) if item.reason is None else []
            item.sides = {extractor.side for extractor in self._extractors.values()}
        return super().work(items)


class GreedyEngine(Plain):
    def extract(self, items: Iterable[Item], batch_size: int) -> Iterator[Extracted]:
        return super().extract(items, 100)


class TakesElsewhere(Plain):
    def read(self, files: Iterable[ImageFile]) -> Iterator[Item]:
        taken: list[ImageFile] = []
        thread = threading.Thread(target=lambda: taken.extend(files))
        thread.start()
        thread.join()
        return super().read(taken)


class Swallows(Plain):
    def work(self, items: list[Item]) -> Extracted:
        try:
            return super().work(items)
        except imgrec.ImgrecError:
            return Extracted(items, {})


class OnlyOnce(Plain):
    def open(self, extractors: Any) -> Self:
        if getattr(self, "is_stopped", False):
            raise RuntimeError("it was stopped")
        return super().open(extractors)

    def close(self, *, at_once: bool = False) -> None:
        self.is_stopped = at_once or getattr(self, "is_stopped", False)


@dataclass
class TupleEngine(Plain):
    hosts: Any = ("a", "b")


class HeavyEngine(Plain):
    def __post_init__(self) -> None:
        super().__post_init__()
        import sklearn  # noqa: F401


ENGINES: dict[str, type[Plain]] = {
    "files_are_read_in_their_order": Reads,
    "vectors_are_those_of_the_extractors": RoundsEngine,
    "items_come_in_their_order": ForgetsEngine,
    "what_cannot_be_decoded_has_its_reason": Hides,
    "what_lacks_nothing_is_not_extracted": Eager,
    "batches_are_no_larger_than_asked": GreedyEngine,
    "files_and_items_are_taken_by_who_asks": TakesElsewhere,
    "an_extractor_that_fails_is_told": Swallows,
    "it_can_be_stopped_and_opened_again": OnlyOnce,
    "options_come_through_yaml": TupleEngine,
    "module_is_light": HeavyEngine,
}

# --- stages -------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Count(imgrec.Stage):
    """Count the images of a gallery: keeps its contract."""

    ranking = imgrec.Ranking(quality={"images": "images"}, cost={"ms": "ms"})

    store: imgrec.Store = imgrec.component("store")
    scale: float = 1.0

    def execute(self, run: imgrec.Run) -> None:
        with self.store as store:
            results = {"images": self.scale * sum(1 for _ in store.records()), "ms": None}
        run.print(str(results["images"]))
        run.write_json("results.json", results)


class Infinite(Count):
    """Divides by nothing."""

    def execute(self, run: imgrec.Run) -> None:
        run.write_json("results.json", {"images": 1, "ms": float("inf")})


class Talks(Count):
    """Prints by itself."""

    def execute(self, run: imgrec.Run) -> None:
        super().execute(run)
        sys.stdout.write("done\n")


class Dice(Count):
    """Another result each time."""

    def execute(self, run: imgrec.Run) -> None:
        run.write_json("results.json", {"images": time.perf_counter_ns()})


class Unranked(Count):
    """Forgets what it is ranked by."""

    def execute(self, run: imgrec.Run) -> None:
        run.write_json("results.json", {"pictures": 1})


@dataclass(kw_only=True)
class Mute(Count):
    def execute(self, run: imgrec.Run) -> None:
        super().execute(run)


Mute.__doc__ = None


@dataclass(kw_only=True)
class TupleStage(Count):
    """An option that YAML does not have."""

    sizes: Any = (1, 2)


STAGES: dict[str, type[Count] | str] = {
    "it_runs": Infinite,
    "stdout_is_for_results": Talks,
    "it_does_the_same_again": Dice,
    "it_is_ranked_by_numbers": Unranked,
    "help_says_what_it_does": Mute,
    "options_come_through_yaml": TupleStage,
    "module_is_light": "heavy:HeavyStage",
}


def stage_maker(cls: type[Count]) -> Callable[[Path], imgrec.Stage]:
    """What `check_stage` takes: the stage on a gallery of two."""

    def make(folder: Path) -> imgrec.Stage:
        store = imgrec.build("store", "sqlite", path=str(folder / "gallery.sqlite"))
        with store.open(create=True):
            store.write(Batch([Record(f"/{name}.jpg", name, 1, 1) for name in ("a", "b")]))
        return cls(store=store)

    return make


def store_maker(cls: type[Sqlite]) -> Callable[[Path], imgrec.Store]:
    """What `check_store` takes."""
    return lambda folder: cls(path=str(folder / "gallery.sqlite"))


BROKEN: dict[str, dict[str, Any]] = {
    "extractor": EXTRACTORS,
    "store": STORES,
    "metric": METRICS,
    "index": INDEXES,
    "reducer": REDUCERS,
    "reranker": RERANKERS,
    "engine": ENGINES,
    "source": SOURCES,
    "decoder": DECODERS,
    "stage": STAGES,
}
"""For each kind, for each check a class that breaks it."""

ARGUMENTS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "store": lambda cls: (store_maker(cls),),
    "decoder": lambda cls: (cls(), FLAT),
    "source": lambda cls: (cls(), "memory://photos"),
    "stage": lambda cls: (stage_maker(cls),),
}
"""What a kind's check takes of a class; else a component of it."""
