"""What images are compared by unless something is named, and what is forgotten on purpose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import imgrec
from conftest import Cli
from imgrec import UsageError
from imgrec.gallery import recorded
from imgrec.gallery.forgetting import forget_images, forget_similarity
from imgrec.testing import write_pictures

COLOUR = imgrec.build("extractor", "colour")
SMALL = imgrec.build("extractor", "colour", bins=2)
HOG = imgrec.build("extractor", "hog", window=32)


def both(**weights: float) -> imgrec.Fusion:
    return imgrec.Fusion(weights={"colour": 1, "hog": 1, **weights}, parts={"colour": COLOUR, "hog": HOG})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Nine pictures in three folders."""
    write_pictures(tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture(params=["sqlite", "csv"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> imgrec.Store:
    """An empty store of each kind."""
    made: imgrec.Store = imgrec.build("store", request.param, path=str(tmp_path / "gallery"))
    return made


def asked(store: imgrec.Store, photos: Path, **options: Any) -> list[imgrec.Match]:
    return imgrec.recommend(next(photos.glob("*/*.png")), store, k=3, **options)


def keys(store: imgrec.Store) -> list[str]:
    with store:
        return [space.key for space in store.spaces()]


@pytest.mark.parametrize(("first", "second"), [(COLOUR, HOG), (COLOUR, both()), (both(), SMALL)])
def test_the_first_stays_the_default_whatever_is_ingested_after_it(
    store: imgrec.Store,
    photos: Path,
    caplog: pytest.LogCaptureFixture,
    first: imgrec.Extractor,
    second: imgrec.Extractor,
) -> None:
    imgrec.ingest(photos, first, store)
    before = asked(store, photos)
    imgrec.ingest(photos, second, store)
    assert asked(store, photos) == before
    (line,) = (each for each in caplog.messages if "still compared by" in each)
    new = line.partition("`space=")[2].partition("`")[0]
    assert asked(store, photos, space=new) == asked(store, photos, extractor=second)
    caplog.clear()
    imgrec.ingest(photos, second, store)
    assert not [each for each in caplog.messages if "still compared by" in each]  # it is known by now


def test_a_default_that_was_not_noted_is_the_first_space_or_its_fusion(store: imgrec.Store, photos: Path) -> None:
    imgrec.ingest(photos, both(), store)
    imgrec.ingest(photos, SMALL, store)
    before = asked(store, photos)
    with store:
        store.write(imgrec.Batch(metadata={recorded.DEFAULT: None}))  # as an older imgrec left it
    assert asked(store, photos) == before
    imgrec.ingest(photos, SMALL, store)
    assert asked(store, photos) == before
    with store:
        store.write(imgrec.Batch(metadata={recorded.DEFAULT: "gone-0123"}))
    assert asked(store, photos) == before


def test_the_default_is_set_and_shown(cli: Cli, few: Path) -> None:
    cli("ingest", few, "extractor=colour")
    cli("ingest", few, "extractor=hog")
    query = next(few.glob("*/*"))
    colour, hog = (space["key"] for space in cli("info", "format=json").json()["spaces"])
    assert cli("default").out.rstrip().endswith(f"compared by {colour}")
    cli("default", "hog")
    assert cli("default").out.rstrip().endswith(f"compared by {hog}")
    assert cli("recommend", query, "format=json").json()["space"] == hog
    assert cli("info", "format=json").json()["default"] == hog
    (marked,) = (line for line in cli("info").out.splitlines() if "the default" in line)
    assert hog in marked
    assert "no space 'timm'" in cli("default", "space=timm", code=2).err


def test_a_preset_means_the_only_space_of_its_model(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Although it was ingested with other weights or another size than the preset's own."""
    pytest.importorskip("timm")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "gallery"))
    model = {"model": "resnet18.a1_in1k", "pretrained": False}
    small = imgrec.build("extractor", "timm", **model, input_size=32)
    imgrec.ingest(photos, COLOUR, store)
    imgrec.ingest(photos, small, store)
    (_, key) = keys(store)
    with store:
        assert recorded.named(store, "resnet18") == key
        assert recorded.space_of(store, imgrec.build("extractor", "timm", **model), loosely=True)[0].key == key
        with pytest.raises(UsageError, match="has no vectors of"):
            recorded.space_of(store, imgrec.build("extractor", "timm", **model))
        with pytest.raises(UsageError, match="has no vectors of"):
            recorded.space_of(store, imgrec.build("extractor", "timm", **model, input_size=64), loosely=True)
    caplog.clear()
    found = asked(store, photos, extractor=imgrec.build("extractor", "timm", **model))
    assert found == asked(store, photos, space="resnet18")
    assert f"compared in {key}" in caplog.text
    imgrec.ingest(photos, imgrec.build("extractor", "timm", **model, input_size=64), store)
    with (
        store,
        pytest.raises(UsageError, match=r"several spaces that 'resnet18' may mean.*input_size=32.*input_size=64"),
    ):
        recorded.named(store, "resnet18")


def test_a_space_is_forgotten_with_its_vectors_and_caches(store: imgrec.Store, photos: Path) -> None:
    imgrec.ingest(photos, COLOUR, store)
    imgrec.ingest(photos, SMALL, store)
    colour, small = keys(store)
    asked(store, photos, projection=imgrec.build("reducer", "pca", n_components=2))
    assert any(store.cache_folder.rglob(f"*{colour}*"))  # type: ignore[union-attr]
    assert forget_similarity(store, colour)[0] == colour
    assert not any(store.cache_folder.rglob(f"*{colour}*"))  # type: ignore[union-attr]
    assert keys(store) == [small]
    assert asked(store, photos) == asked(store, photos, space=small)
    with pytest.raises(UsageError, match=r"all that .* has to compare images by"):
        forget_similarity(store, small)
    assert imgrec.ingest(photos, COLOUR, store).extracted == 9  # extracted anew, and right
    with store:
        assert not list(store.problems())
    assert len(asked(store, photos, space=colour)) == 3


def test_a_fusion_is_forgotten_with_the_spaces_that_only_it_has(store: imgrec.Store, photos: Path) -> None:
    imgrec.ingest(photos, both(), store)
    fusion = imgrec.Fusion(weights={"colour": 1, "small": 1}, parts={"colour": COLOUR, "small": SMALL})
    imgrec.ingest(photos, fusion, store)
    first, second = (recorded.fusion_key(each.fusion_spec()) for each in (both(), fusion))
    colour, hog, small = keys(store)
    with pytest.raises(UsageError, match=f"{hog} is a part of {first}: forget space={first} first"):
        forget_similarity(store, hog)
    assert [space.key for space in forget_similarity(store, first)[1]] == [hog]
    assert keys(store) == [colour, small]
    with store:
        assert recorded.default_key(store) == second
        assert list(recorded.fusion_specs(store)) == [second]


def test_a_backup_follows_what_is_forgotten(store: imgrec.Store, photos: Path, tmp_path: Path) -> None:
    backup = imgrec.build("store", "csv", path=str(tmp_path / "backup"))
    imgrec.ingest(photos, COLOUR, store, backup)
    imgrec.ingest(photos, SMALL, store, backup)
    _, small = keys(store)
    forget_similarity(store, keys(store)[0])
    forget_images(store, ["*/a/*"])
    imgrec.ingest(photos, SMALL, store, backup)
    assert keys(backup) == [small]
    with store, backup:
        assert sorted(backup.records(), key=str) == sorted(store.records(), key=str)
        assert backup.dismissed() == store.dismissed() != set()


PATTERNS: dict[str, Callable[[Path], str]] = {
    "a pattern": lambda photos: "*/a/*",
    "a relative pattern": lambda photos: "photos/a/*",
    "a folder": lambda photos: str(photos / "a"),
    "a relative folder": lambda photos: "photos/a",
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_images_whose_files_stay_are_forgotten_until_they_are_asked_for(
    store: imgrec.Store, photos: Path, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    imgrec.ingest(photos, COLOUR, store)
    inside = sorted(str(path) for path in (photos / "a").iterdir())
    assert forget_images(store, [PATTERNS[pattern](photos)]) == inside
    report = imgrec.ingest(photos, COLOUR, store)
    assert (report.new, report.unchanged, report.dismissed) == (0, 9 - len(inside), len(inside))
    assert f"{len(inside)} dismissed" in str(report)
    assert {match.label for match in asked(store, photos)} <= {"b", "c"}
    assert imgrec.ingest(inside[0], COLOUR, store).new == 1  # named itself
    report = imgrec.ingest(photos, COLOUR, store, bring_back=True)
    assert (report.new, report.dismissed) == (len(inside) - 1, 0)


def test_what_is_not_forgotten(store: imgrec.Store, photos: Path) -> None:
    imgrec.ingest(photos, COLOUR, store)
    with pytest.raises(UsageError, match="matches none of the 9 files"):
        forget_images(store, ["*/a/*", "*.tif"])
    with pytest.raises(UsageError, match="more than half of the gallery"):
        forget_images(store, ["*"])
    with store:
        assert not store.dismissed()
    assert len(forget_images(store, ["*"], force=True)) == 9


def test_forget_on_the_command_line(cli: Cli, few: Path) -> None:
    cli("ingest", few, "extractor=colour")
    assert "forget what?" in cli("forget", code=2).err
    assert "forget what?" in cli("forget", "*/china/*", "space=colour", code=2).err
    done = cli("forget", few / "china" / "china-0-0.jpg", few / "china" / "china-0-1.jpg")
    assert "2 images are forgotten; their files stay" in done.out
    assert (few / "china" / "china-0-0.jpg").exists()
    assert "2 dismissed" in cli("ingest", few).out
    assert "2 new" in cli("ingest", few, "bring_back=true").out
    cli("ingest", few, "extractor=hog")
    assert "hog-" in cli("forget", "space=hog").out
    assert len(cli("info", "format=json").json()["spaces"]) == 1


def test_a_new_gallery_is_told_what_is_compared(cli: Cli, few: Path) -> None:
    def told(*words: str) -> list[str]:
        return [line for line in cli("ingest", few, *words).err.splitlines() if "alone" in line]

    (line,) = told()
    assert "images are compared by shapes and colours alone" in line
    assert "mobilenet" in line
    assert "handcrafted" not in line
    assert not told()  # not new any more
    (line,) = told("extractor=colour", "store.path=other.sqlite")
    assert "images are compared by colours alone" in line
