"""`index=faiss`: bytes, changes, filters, damage, and whether what is said of its recall is so."""

from __future__ import annotations

import functools
import hashlib
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import clothing
import imgrec
from benchmarks import spectra
from conftest import shared_timm
from imgrec.kinds import Vectors
from imgrec.kinds.metric import metric_of
from imgrec.search import exact
from imgrec.search.approximate import ApproximateSearch
from imgrec.search.exact import VectorField
from imgrec.search.indexes import TermIndex

faiss = pytest.importorskip("faiss")
imgrec_faiss = pytest.importorskip("imgrec_faiss")


def built(vectors: Vectors, folder: Path, block: int = 1_000, **options: Any) -> imgrec.Index:
    """An open index of vectors, in a new folder."""
    folder.mkdir()
    index: imgrec.Index = imgrec.build("index", "faiss", **options)
    blocks = (vectors[start : start + block] for start in range(0, len(vectors), block))
    index.build(blocks, len(vectors), vectors[::3], folder)
    return index.open(folder)


def fingerprint(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return spectra.rectified(20_000, 20, np.random.default_rng(0))


@pytest.fixture(scope="module")
def whole(vectors: Vectors, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an index of them."""
    folder = tmp_path_factory.mktemp("faiss") / "whole"
    built(vectors, folder)
    return folder


@pytest.fixture
def threads() -> Iterator[Any]:
    """Sets the number of Faiss's threads; it is put back."""
    before = faiss.omp_get_max_threads()
    yield faiss.omp_set_num_threads
    faiss.omp_set_num_threads(before)


@pytest.mark.parametrize(("block", "count", "shard"), [(20_000, 1, None), (37, 2, None), (9_000, 2, 5_000)])
def test_bytes_are_the_same_whatever_blocks_threads_and_shards(
    vectors: Vectors,
    whole: Path,
    tmp_path: Path,
    threads: Any,
    monkeypatch: pytest.MonkeyPatch,
    block: int,
    count: int,
    shard: int | None,
) -> None:
    threads(count)
    if shard is not None:
        monkeypatch.setattr(imgrec_faiss, "CHUNK", shard)
        monkeypatch.setattr(imgrec_faiss, "SHARD", shard)  # four of them are merged
    built(vectors, tmp_path / "other", block)
    assert fingerprint(tmp_path / "other") == fingerprint(whole)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**20), gone=st.integers(0, 300), new=st.integers(0, 300), share=st.floats(0, 1))
def test_what_is_gone_or_forbidden_is_never_found(
    tmp_path_factory: pytest.TempPathFactory, seed: int, gone: int, new: int, share: float
) -> None:
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("changes")
    points = rng.normal(size=(600 + new, 5)).astype(np.float32)
    index = built(points[:600], folder / "older", lists=7)
    (folder / "newer").mkdir()
    dropped = np.sort(rng.choice(600, gone, replace=False)).astype(np.int64)
    assert index.update(folder / "older", dropped, iter([points[600:]]), folder / "newer")
    usable = rng.random(len(points)) < share
    allowed = np.flatnonzero(usable & ~np.isin(np.arange(len(points)), dropped))
    index.open(folder / "newer")
    (found,) = index.candidates(points[:1], len(points), index.efforts()[-1], usable)
    assert sorted(found.tolist()) == allowed.tolist()


def test_an_index_that_is_open_can_still_be_searched_after_its_change(vectors: Vectors, tmp_path: Path) -> None:
    index = built(vectors[:2_000], tmp_path / "older")
    before = index.candidates(vectors[:9], 20, 8, None)
    (tmp_path / "newer").mkdir()
    other = imgrec.build("index", "faiss")
    assert other.update(tmp_path / "older", np.arange(500), iter([vectors[2_000:]]), tmp_path / "newer")
    for file in (tmp_path / "older").iterdir():
        file.unlink()  # as the core does with what is of an older revision
    after = index.candidates(vectors[:9], 20, 8, None)
    assert all(np.array_equal(*each) for each in zip(before, after, strict=True))


def test_its_codes_are_a_byte_a_value_and_are_not_read_into_memory(whole: Path, vectors: Vectors) -> None:
    padded = 32
    assert (whole / "lists.bin").stat().st_size == len(vectors) * (padded + 8)
    before = Path("/proc/self/statm").read_text().split()[1] if Path("/proc/self/statm").exists() else None
    index = imgrec.build("index", "faiss").open(whole)
    if before is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[1]) - int(before)
        assert pages * 4096 < 500_000
    assert index.efforts()[-3:] == [480, 512, 566]


class Bomb:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("it was run",))


@pytest.mark.parametrize("name", ["centres", "ranges", "sizes", "rows"])
def test_hostile_files_are_refused_before_faiss_sees_them(whole: Path, tmp_path: Path, name: str) -> None:
    with np.load(whole / "learned.npz") as arrays:
        good = dict(arrays)
    bad: list[Any] = [good[name][..., None], good[name].astype(np.complex64)]
    bad += [np.array(Bomb(), dtype=object), -good["sizes"] if name == "sizes" else np.array("x")]
    for i, wrong in enumerate(bad):
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "lists.bin").write_bytes((whole / "lists.bin").read_bytes())
        file = io.BytesIO()
        np.savez(file, **{**good, name: wrong})
        (folder / "learned.npz").write_bytes(file.getvalue())
        if name == "rows" and i == 0:
            continue  # a number all the same
        with pytest.raises((ValueError, TypeError, pickle.UnpicklingError)):
            imgrec.build("index", "faiss").open(folder)


def test_without_the_library_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(imgrec.UsageError, match=r"index=faiss needs faiss: .*\[faiss\]"):
        imgrec.build("index", "faiss")


# --- what is said of its recall -----------------------------------------------------------------------------


@functools.cache
def photographs() -> spectra.Make:
    extractor = shared_timm("mobilenetv2_100", normalise=True)  # extracted for other tests, too
    return spectra.between(np.concatenate([clothing.extracted(extractor, part).vectors for part in PARTS]))


PARTS = ("validation", "test")


@pytest.mark.parametrize("name", [*spectra.MADE, "photographs"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_stated_recall_is_that_of_fresh_queries(tmp_path: Path, name: str, metric: str) -> None:
    make = spectra.MADE[name] if name in spectra.MADE else photographs()
    held, fresh = make(8_000, 32, np.random.default_rng(0)), make(800, 32, np.random.default_rng(1))
    field = VectorField(held, metric_of(metric))
    index = built(field.metric.as_euclidean(held), tmp_path / "index", exact_up_to=0)
    search = ApproximateSearch([field], [TermIndex(index, len(held), None, name, None)])
    found = search.nearest([fresh], 10)
    exactly = exact.nearest([field], [fresh], 10)
    missed = [np.count_nonzero(some[:10] > true[9]) for (_, some), (_, true) in zip(found, exactly, strict=True)]
    (stated,) = search.about()
    assert stated["effort"] is not None
    assert stated["at_least"] >= 0.99
    assert abs(stated["recall"] - (1 - np.mean(missed) / 10)) <= 0.01
    for (rows, some), (every, true) in zip(found, exactly, strict=True):
        distance_of = dict(zip(every.tolist(), true.tolist(), strict=True))
        assert all(distance_of.get(row, value) == value for row, value in zip(rows.tolist(), some, strict=True))
