"""Indexes that are kept: beside each other, on media that are full, and of classes that no plugin registers."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import imgrec
import tiles
from broken import Brute
from imgrec.gallery import similarity
from imgrec.gallery.gallery import Gallery
from imgrec.kinds import Vectors


@dataclass
class Slow(Brute):
    """Something happens while it is built."""

    meanwhile: ClassVar[Callable[[], object]] = staticmethod(lambda: None)

    def build(self, blocks: Iterator[Vectors], count: int, sample: Vectors, folder: Path) -> None:
        type(self).meanwhile()
        super().build(blocks, count, sample, folder)


def _store(tmp_path: Path) -> imgrec.Store:
    store: imgrec.Store = imgrec.build("store", "sqlite", path=str(tmp_path / "g.sqlite"))
    return store


def test_a_run_of_an_older_revision_leaves_alone_what_a_newer_one_is_building(few: Path, tmp_path: Path) -> None:
    colour = imgrec.build("extractor", "colour")
    imgrec.ingest(few, colour, _store(tmp_path))
    query = min(few.rglob("*.jpg"))
    with _store(tmp_path) as older, older.snapshot():
        early = Gallery(older, similarity.choose(older), index=Brute())
        tiles.cut(tmp_path / "more", columns=5, rows=4)
        imgrec.ingest(tmp_path / "more", colour, _store(tmp_path))
        Slow.meanwhile = lambda: early.search([query], 3)
        with imgrec.open(_store(tmp_path), index=Slow()) as gallery:
            found = gallery.search([query], k=5)
    with imgrec.open(_store(tmp_path)) as gallery:
        assert gallery.search([query], k=5) == found


def test_a_full_medium_costs_an_index_that_is_built_for_each_run(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imgrec.ingest(photos, imgrec.build("extractor", "colour"), _store(tmp_path))
    query = min(photos.rglob("*.jpg"))
    with imgrec.open(_store(tmp_path)) as gallery:
        exact = gallery.search([query], k=5)
    save, index_folder = np.save, f"{tmp_path}/g.sqlite-index"

    def full(file: Any, *given: Any, **options: Any) -> None:
        if str(file if isinstance(file, Path) else file.name).startswith(index_folder):
            raise OSError(errno.ENOSPC, "No space left on device")
        save(file, *given, **options)

    monkeypatch.setattr(np, "save", full)
    with imgrec.open(_store(tmp_path), index=Brute()) as gallery:
        assert gallery.search([query], k=5) == exact
    assert not list(Path(index_folder).rglob("*.npy"))


def test_queries_for_which_an_index_names_too_few_are_searched_exactly(photos: Path, tmp_path: Path) -> None:
    class Blind(Brute):
        def candidates(self, *given: Any) -> Any:
            found = super().candidates(*given)
            return [each if i % 2 else each[:1] for i, each in enumerate(found)]

    imgrec.ingest(photos, imgrec.build("extractor", "colour"), _store(tmp_path))
    queries = sorted(photos.rglob("*.jpg"))[:7]
    with imgrec.open(_store(tmp_path)) as gallery:
        exact = gallery.search(queries, k=5)
    with imgrec.open(_store(tmp_path), index=Blind()) as gallery:
        assert gallery.search(queries, k=5) == exact
