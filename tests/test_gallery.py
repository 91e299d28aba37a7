from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imgrec
from imgrec import search, views
from imgrec.errors import UsageError
from imgrec.gallery import Gallery
from imgrec.kinds import Batch, Record, Space


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[tuple[imgrec.Store, Space]]:
    """Four contents, the first of them in two files, the last one missing."""
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite")).open(create=True)
    space = Space.of(imgrec.build("extractor", "colour"))
    names = ["c/0.jpg", "a/1.jpg", "a/2.jpg", "b/3.jpg", "a/copy of 0.jpg"]
    records = [Record(f"/{name}", f"{i % 4:02x}", 1, 1, missing=i == 3) for i, name in enumerate(names)]
    vectors = np.array([[0.0], [1.0], [3.0], [0.5]], np.float32)
    store.write(Batch(records=records, vectors={space: (["00", "01", "02", "03"], vectors)}))
    yield store, space
    store.close()


def test_copies_are_found_each_and_missing_files_are_not(filled: tuple[imgrec.Store, Space]) -> None:
    pool = Gallery(*filled)
    matches = pool.neighbours([np.zeros(1, np.float32)], 5)
    assert [(m.rank, m.path, m.distance) for m in matches] == [
        (1, "/a/copy of 0.jpg", 0.0),
        (2, "/c/0.jpg", 0.0),
        (3, "/a/1.jpg", 1.0),
        (4, "/a/2.jpg", 3.0),
    ]
    assert len(pool) == 4
    assert matches[0].label == "a"


def test_the_query_itself_means_its_content(filled: tuple[imgrec.Store, Space]) -> None:
    matches = Gallery(*filled).neighbours([np.zeros(1, np.float32)], 1, leave_out="00")
    assert [m.path for m in matches] == ["/a/1.jpg"]


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(search.METRICS), st.integers(1, 9))
def test_many_queries_find_what_each_finds(seed: int, metric: str, k: int) -> None:
    """With copies, equal vectors, missing files, contents left out, and one forgotten since it was read."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(0, 3, size=(250, 4)).astype(np.float32)  # many are equal
    digests = [f"{i:064x}" for i in range(len(vectors))]
    records = [
        Record(f"/{rng.integers(10**9):09}.jpg", digests[i % len(digests)], 1, 1, missing=bool(rng.random() < 0.1))
        for i in range(300)
    ]
    space = Space.of(imgrec.build("extractor", "colour"))
    with (
        tempfile.TemporaryDirectory() as folder,
        imgrec.build("store", "sqlite", path=f"{folder}/g.sqlite").open(create=True) as store,
    ):
        store.write(Batch(records=records, vectors={space: (digests, vectors)}))
        pool = Gallery(store, space)
        store.write(Batch(forgotten=[records[0].path]))
        queries, left_out = vectors[:70], [*digests[:40], *[None] * 30]
        together = pool.neighbours_of_many([queries], k, metric, leave_out=left_out)
        alone = [
            pool.neighbours([query], k, metric, leave_out=digest)
            for query, digest in zip(queries, left_out, strict=True)
        ]
        assert together == alone
        assert pool.neighbours_of_many([queries[:0]], k, metric) == []
        digest_of = {record.path: record.digest for record in records}
        for matches, digest in zip(together, left_out, strict=True):
            assert len(matches) == k
            assert digest not in {digest_of[match.path] for match in matches}
            assert records[0].path not in {match.path for match in matches}


@pytest.mark.parametrize(("k", "metric", "message"), [(0, "euclidean", "at least 1"), (1, "euklid", "one of")])
def test_what_cannot_be_asked(filled: tuple[imgrec.Store, Space], k: int, metric: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Gallery(*filled).neighbours([np.zeros(1, np.float32)], k, metric)


def test_spaces_are_chosen_by_key_beginning_extractor_or_named_in_the_error(
    filled: tuple[imgrec.Store, Space],
) -> None:
    store, space = filled
    other = Space.of(imgrec.build("extractor", "colour", bins=3))
    assert views.choose_space(store) == space
    store.write(Batch(vectors={other: (["00"], np.ones((1, 27), np.float32))}))
    with pytest.raises(UsageError, match=rf"several spaces.*{space.key}.*{other.key} \(bins=3\)"):
        views.choose_space(store)
    assert views.choose_space(store, other.key[:-3]) == other
    assert views.choose_space(store, extractor=imgrec.build("extractor", "colour", bins=3)) == other
    with pytest.raises(UsageError, match=r"has no vectors of .*bins=7"):
        views.choose_space(store, extractor=imgrec.build("extractor", "colour", bins=7))
    with pytest.raises(UsageError, match="no space 'timm'"):
        views.choose_space(store, "timm")


def test_an_extractor_of_another_identity_is_refused_and_what_differs_is_named() -> None:
    space = Space.of(imgrec.build("extractor", "colour"))
    with pytest.raises(UsageError, match="bins was 5 and is 6"):
        views.extractor_of(space, {"bins": 6})


KERNELS = {"Haswell": "avx2", "SkylakeX": "avx512f"}
"""OpenBLAS's own for a processor, and what the processor must have for it."""

SELF = """
import sys, numpy as np, imgrec
from imgrec.kinds import Batch, Record, Space
from imgrec.gallery import Gallery
from imgrec.views import Part, View

space = Space("colour-0123456789ab", "colour", {}, {})
vectors = np.random.default_rng(0).random((400, 1764), dtype=np.float32)
names = [f"{i:064x}" for i in range(len(vectors))]
with imgrec.build("store", "sqlite", path=sys.argv[1]).open(create=True) as store:
    store.write(Batch([Record(f"/{name}.jpg", name, 1, 1) for name in names], vectors={space: (names, vectors)}))
    for projection in (None, imgrec.build("reducer", "pca", n_components=64, whiten=True)):
        gallery = Gallery(store, View(space.key, (Part(space, projection=projection),)))
        for metric in ("euclidean", "cosine", "manhattan", *([] if projection else ["hellinger"])):
            for row in range(0, 400, 7):
                (match,) = gallery.neighbours([vectors[row]], 1, metric, content=names[row])
                assert (match.path, match.distance) == (f"/{names[row]}.jpg", 0), (metric, projection, match)
"""


@pytest.mark.parametrize("kernel", KERNELS)
def test_equal_contents_are_at_distance_zero_whatever_blas_computes_with(kernel: str, tmp_path: Path) -> None:
    processor = Path("/proc/cpuinfo")
    if not processor.exists() or KERNELS[kernel] not in processor.read_text().split():
        pytest.skip(f"this processor has no {KERNELS[kernel]}")
    environment = {**os.environ, "OPENBLAS_CORETYPE": kernel}
    subprocess.run([sys.executable, "-c", SELF, str(tmp_path / "g.sqlite")], check=True, env=environment)
