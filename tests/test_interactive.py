"""`imgrec.open` by a path, with and without `with`, and what its gallery gives."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import imgrec
from imgrec import UsageError
from imgrec.gallery.duplicates import Duplicates

COLOUR = imgrec.build("extractor", "colour", bins=2)


@pytest.fixture(params=["sqlite", "csv"])
def path(request: pytest.FixtureRequest, few: Path) -> Path:
    """Of a gallery of twelve tiles, by a name that says nothing of its kind."""
    path = few.parent / "my gallery"
    imgrec.ingest(few, COLOUR, imgrec.build("store", request.param, path=str(path)))
    return path


def test_a_gallery_answers_as_the_functions_do(path: Path, few: Path) -> None:
    query = few / "china" / "china-0-0.jpg"
    gallery = imgrec.open(path, "cosine")
    store = gallery._store
    own = imgrec.build("store", store.name, path=str(path))
    assert gallery.recommend(query, 3) == imgrec.recommend(query, own, 3, "cosine")
    assert gallery.recommend(query, include_self=True)[0].path == str(query)
    flowers = gallery.where(label="flower")
    where = {"label": "flower"}
    assert flowers.recommend(query, 99) == gallery.recommend(query, 99, where=where)
    assert flowers.recommend(query, 99) == imgrec.recommend(query, own, 99, "cosine", where=where)
    assert flowers.search([query], 99)[0] == flowers.within([query], 2)[0] == flowers.recommend(query, 99)
    few_flowers = flowers.where(lambda record: record.path.endswith("-0.jpg"))
    assert (len(gallery), len(flowers), len(few_flowers)) == (12, 6, 2)
    assert {match.label for match in few_flowers.recommend(query, 99)} == {"flower"}
    assert set(flowers.map("pca").paths) == {record.path for record in flowers.records}
    assert gallery.map("pca", labels="none").labels == [""] * 12
    table = flowers.to_pandas(vectors=True)
    assert list(table["path"]) == sorted(str(file) for file in (few / "flower").iterdir())
    assert set(table["label"]) == {"flower"}
    vectors = np.stack(list(table["vector"]))
    assert np.array_equal(vectors, gallery.stored_vectors(flowers.records)[""])
    assert list(gallery.to_pandas()) == [name for name in table if name != "vector"]
    matches = flowers.recommend(query)
    gallery.close()
    gallery.close()
    assert matches._repr_png_().startswith(b"\x89PNG")
    assert "closed" in repr(gallery) + flowers._repr_html_()
    for ask in (
        lambda: flowers.recommend(query),
        gallery.to_pandas,
        gallery.map,
        gallery.__enter__,
        gallery.where,
    ):
        with pytest.raises(UsageError, match="is closed"):
            ask()


def test_it_finds_duplicates_and_takes_every_option(path: Path, few: Path) -> None:
    query, other = few / "china" / "china-0-0.jpg", few / "flower" / "flower-0-0.jpg"
    store = imgrec.open(path)._store  # one of its own, which the calls below close
    with imgrec.open(path) as gallery:
        whole = gallery.duplicates(0.5, keep="first")
        assert whole == imgrec.duplicates(store, distance=0.5, keep="first")
        china = gallery.where(label="china").duplicates(0.5, keep="first")
        assert {Path(image.record.path).parent.name for group in china.groups for image in group.images} == {
            "china"
        }
        assert whole._repr_png_().startswith(b"\x89PNG")  # type: ignore[union-attr]
        assert Duplicates(0.5, "asked for", [], 0)._repr_png_() is None
        how: Any = {"unlike": other, "variants": "turns", "threshold": 0.4, "collapse": 0.01, "include_self": True}
        assert gallery.recommend(query, **how) == imgrec.recommend(query, store, **how)
        with pytest.raises(UsageError, match=r"recommend has no option 'colour' \(did you mean colours\?\)"):
            gallery.recommend(colour="navy")
        with pytest.raises(UsageError, match=r"unlike: a Query that is made has these options itself"):
            gallery.recommend(imgrec.Query.of(query), unlike=other)


def test_it_stays_open_as_long_as_it_is_used(path: Path, few: Path) -> None:
    query = few / "china" / "china-0-0.jpg"
    gallery = imgrec.open(path).where(label="china")  # nobody holds the whole one
    store = gallery._store
    gc.collect()
    assert len(gallery.recommend(query)) == 5
    closed: list[bool] = []
    close = store.close

    def noting() -> None:
        close()
        closed.append(True)

    store.close = noting  # type: ignore[method-assign]
    del gallery
    gc.collect()
    assert closed == [True]


def test_what_is_refused(path: Path, few: Path) -> None:
    with pytest.raises(imgrec.NoStoreError, match="there is no gallery at"):
        imgrec.open(few / "none.sqlite")
    (few / "text.sqlite").write_text("SQLite format 3")
    for other in (few / "text.sqlite", few):
        with pytest.raises(UsageError, match="is no gallery that an installed store recognises"):
            imgrec.open(other)
    with imgrec.open(path) as gallery:
        for wrong in ({"lable": "hat"}, {"label": "dog"}, {"min_side": 0}):
            with pytest.raises(UsageError):
                gallery.where(**wrong)
        with pytest.raises(UsageError, match="where= leaves none of 12"):
            gallery.where(lambda _: False)
        with pytest.raises(UsageError, match="not both"):
            gallery.where({"label": "china"}, min_side=1)
        with pytest.raises(UsageError, match="options go with a reducer's name"):
            gallery.map(imgrec.build("reducer", "pca"), n_components=2)
        with pytest.raises(UsageError, match="no image is left: of 6, label=flower leaves 0"):
            gallery.where(label="china").recommend(few / "china" / "china-0-0.jpg", where={"label": "flower"})


def test_ipython_shows_what_it_returns(path: Path, few: Path) -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    with imgrec.open(path) as gallery:
        shown = formatters.DisplayFormatter().format
        assert shown(gallery.recommend(few / "china" / "china-0-0.jpg"))[0]["image/png"]
        assert shown(gallery.map("pca"))[0]["image/png"]
        assert shown(gallery)[0]["text/html"]
        assert shown(gallery.to_pandas())[0]["text/html"]


def test_exported_arrays_are_no_gallery(path: Path, tmp_path: Path) -> None:
    imgrec.export_vectors(imgrec.open(path)._store, tmp_path / "arrays", form="numpy")
    with pytest.raises(UsageError, match="arrays is no gallery that an installed store recognises"):
        imgrec.open(tmp_path / "arrays")
    with pytest.raises(UsageError, match="arrays is not an imgrec store"):
        imgrec.open(imgrec.build("store", "csv", path=str(tmp_path / "arrays")))
