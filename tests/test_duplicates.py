"""Duplicates: all pairs, groups that leave no pair behind, what is kept and why, and the command."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imgrec
from conftest import Cli, shared, shared_timm
from imgrec.drawing import groups
from imgrec.gallery import duplicates
from imgrec.gallery.duplicates import Duplicates
from imgrec.kinds import Batch, Record, Space
from imgrec.testing.extractor import picture


def ingested(folder: Path, extractor: imgrec.Extractor, source: Path) -> imgrec.Store:
    store: imgrec.Store = imgrec.build("store", "sqlite", path=str(folder / "gallery.sqlite"))
    imgrec.ingest(str(source), extractor, store)
    return store


def named(found: Duplicates) -> list[list[tuple[str, str]]]:
    """The names of each group's images, and what each is to the first."""
    return [[(Path(image.record.path).name, image.how) for image in group.images] for group in found.groups]


# --- groups -------------------------------------------------------------------------------------------------


def stored(folder: Path, vectors: np.ndarray[Any, Any], sizes: list[int]) -> imgrec.Store:
    """A store of images that are no files, of `sizes` pixels."""
    space = Space.of(imgrec.build("extractor", "colour"))
    digests = [f"{i:064x}" for i in range(len(vectors))]
    records = [
        Record(f"/photos/{i}.jpg", digest, 9, 0, width=size, height=1)
        for i, (digest, size) in enumerate(zip(digests, sizes, strict=True))
    ]
    store: imgrec.Store = imgrec.build("store", "sqlite", path=str(folder / "gallery.sqlite"))
    with store.open(create=True):
        store.write(Batch(records, vectors={space: (digests, vectors)}))
    return store


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([0, 0.05, 0.3, 2]))
def test_what_stays_has_no_pair_and_what_goes_is_near_what_stays(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, distance: float
) -> None:
    rng = np.random.default_rng(seed)
    points = rng.random((count, 2)).round(1).astype(np.float32)
    sizes = rng.integers(1, 5, size=count).tolist()
    found = imgrec.duplicates(stored(tmp_path_factory.mktemp("some"), points, sizes), distance=distance)
    apart = np.linalg.norm(points[:, None].astype(np.float64) - points, axis=2)
    assert found.pairs == np.count_nonzero(np.triu(apart <= distance, 1))
    numbers = [[int(Path(image.record.path).stem) for image in group.images] for group in found.groups]
    every = [number for group in numbers for number in group]
    assert len(every) == len(set(every))
    for group, some in zip(found.groups, numbers, strict=True):
        assert len(some) > 1
        assert [image.distance for image in group.images] == [
            apart[some[0], i] if i != some[0] else 0 for i in some
        ]
        assert max(image.distance for image in group.images) <= distance
        assert sizes[some[0]] == max(sizes[i] for i in some)
    gone = {number for group in numbers for number in group[1:]}
    for one, other in itertools.combinations(sorted(set(range(count)) - gone), 2):
        assert apart[one, other] > distance


def test_a_chain_of_small_steps_is_not_one_group(tmp_path: Path) -> None:
    chain = np.array([[0], [1], [2], [3], [4]], np.float32)
    found = imgrec.duplicates(stored(tmp_path, chain, [5, 1, 4, 1, 3]), distance=1)
    assert named(found) == [[("0.jpg", ""), ("1.jpg", "near")], [("2.jpg", ""), ("3.jpg", "near")]]
    assert found.pairs == 4


def test_too_many_pairs_are_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stored(tmp_path, np.zeros((20, 3), np.float32), [1] * 20)
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 189)
    with pytest.raises(imgrec.UsageError, match=r"more than 189 pairs of images .* take a smaller distance"):
        imgrec.duplicates(store, distance=0)
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 190)
    assert imgrec.duplicates(store, distance=0).pairs == 190


def test_without_files_equal_vectors_alone_are_duplicates(tmp_path: Path) -> None:
    points = np.array([[0], [0], [8], [8.01]], np.float32)
    found = imgrec.duplicates(stored(tmp_path, points, [1] * 4))
    assert found.distance == 0
    assert "its images cannot be copied to see how far copies are: none can be read" in found.reason
    assert named(found) == [[("0.jpg", ""), ("1.jpg", "near")]]


# --- of files -----------------------------------------------------------------------------------------------


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Two pictures; of the first one copies of every kind."""
    folder = tmp_path / "copies"
    folder.mkdir()
    image = PIL.Image.fromarray(picture(120, 160, 1))
    image.save(folder / "a.png")
    shutil.copy(folder / "a.png", folder / "bytes.png")
    image.save(folder / "pixels.bmp")
    image.save(folder / "quality.jpg", quality=85)
    image.resize((80, 60)).save(folder / "small.jpg", quality=85)
    PIL.Image.fromarray(picture(120, 160, 7)).save(folder / "other.png")
    for i, name in enumerate(["quality.jpg", "small.jpg", "other.png", "a.png", "bytes.png", "pixels.bmp"]):
        os.utime(folder / name, (1_600_000_000 + i, 1_600_000_000 + i))
    return folder


@pytest.mark.parametrize(
    ("keep", "kept", "reason"),
    [
        ("largest", "pixels.bmp", "most pixels, lossless, most bytes"),
        ("oldest", "quality.jpg", "oldest"),
        ("first", "a.png", "first by path"),
        ("*.jpg", "quality.jpg", "its path is like *.jpg, most pixels"),
        ("*small*", "small.jpg", "its path is like *small*"),
    ],
)
def test_what_is_kept_and_why(tmp_path: Path, copies: Path, keep: str, kept: str, reason: str) -> None:
    store = ingested(tmp_path, imgrec.build("extractor", "phash"), copies)
    found = imgrec.duplicates(store, "hamming", distance=8, keep=keep)
    (group,) = found.groups
    assert (Path(group.images[0].record.path).name, group.reason) == (kept, reason)
    assert {Path(path).name for path in found.others} == {
        each.name for each in copies.iterdir() if each.name not in (kept, "other.png")
    }


def test_lossless_is_kept_before_lossy_of_the_same_size(tmp_path: Path, copies: Path) -> None:
    store = ingested(tmp_path, imgrec.build("extractor", "phash"), copies)
    where = {"among": ["*/a.png", "*/quality.jpg"]}
    (group,) = imgrec.duplicates(store, "hamming", distance=8, where=where).groups
    assert (Path(group.images[0].record.path).name, group.reason) == ("a.png", "lossless")


def test_equal_bytes_equal_pixels_and_near_are_told_apart(tmp_path: Path, copies: Path) -> None:
    bit = np.asarray(PIL.Image.open(copies / "a.png")).copy()
    bit[50, 50, 0] ^= 1  # the same histogram and hash, but not the same picture
    PIL.Image.fromarray(bit).save(copies / "bit.png")
    store = ingested(tmp_path, imgrec.build("extractor", "phash"), copies)
    (group,) = named(imgrec.duplicates(store, "hamming", distance=8, keep="first"))
    assert dict(group) == {
        "a.png": "",
        "bit.png": "near",
        "bytes.png": "equal bytes",
        "pixels.bmp": "equal pixels",
        "quality.jpg": "near",
        "small.jpg": "near",
    }


def test_what_is_equal_is_drawn_without_a_distance(
    tmp_path: Path, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`0 equal bytes` would read as the contrary."""
    said: list[str] = []

    def noting(text: str, *_: Any) -> str:
        said.append(text)
        return text

    monkeypatch.setattr(groups, "shortened", noting)
    store = ingested(tmp_path, imgrec.build("extractor", "phash"), copies)
    groups.draw_groups(imgrec.duplicates(store, "hamming", distance=8, keep="first"), tmp_path / "drawn.png")
    assert {"equal bytes", "equal pixels"} < set(said)
    assert sum(text.endswith(" near") for text in said) == 2


@pytest.mark.parametrize("extractor", ["phash", "hog"])
def test_all_eight_orientations_are_found(tmp_path: Path, extractor: str) -> None:
    folder = tmp_path / "turned"
    folder.mkdir()
    image = PIL.Image.fromarray(picture(120, 160, 3))
    image.save(folder / "0.png")
    for turn in PIL.Image.Transpose:
        image.transpose(turn).save(folder / f"{turn.name}.png")
    PIL.Image.fromarray(picture(120, 160, 8)).save(folder / "other.png")
    store = ingested(tmp_path, imgrec.build("extractor", extractor), folder)
    (group,) = imgrec.duplicates(store, distance=0.5, turned=True, keep="first").groups
    assert [max(image.distance for image in group.images) < 0.5, len(group.images)] == [True, 8]
    how = {Path(image.record.path).stem: image.how for image in group.images}
    assert how == {
        "0": "",
        "FLIP_LEFT_RIGHT": "mirrored",
        "FLIP_TOP_BOTTOM": "mirrored and rotated",
        "ROTATE_90": "rotated",
        "ROTATE_180": "rotated",
        "ROTATE_270": "rotated",
        "TRANSPOSE": "mirrored and rotated",
        "TRANSVERSE": "mirrored and rotated",
    }
    assert not imgrec.duplicates(store, distance=0.5).groups


def test_calibrated_it_finds_copies_and_nothing_else(tmp_path: Path) -> None:
    store = ingested(tmp_path, imgrec.build("extractor", "phash"), shared("photos", "odd", "mixed_images"))
    found = imgrec.duplicates(store, "hamming", turned=True)
    assert named(found) == [
        [
            ("ukbench00120.jpg", ""),
            ("ukbench00120_hflip.jpg", "mirrored"),
            ("ukbench00120_resize.jpg", "near"),
        ]
    ]
    assert found.distance < 8
    assert "95% of copies of 5 of its images" in found.reason


def test_a_model_finds_the_tilted_copy_too_and_no_pair_of_others(tmp_path: Path) -> None:
    extractor = shared_timm("mobilenetv2_100", runtime="torch")
    odd, few = shared("photos", "odd"), tmp_path / "few"
    shutil.copytree(odd / "mixed_images", few)
    for path in sorted((odd / "base_images").iterdir()):
        shutil.copy(path, few)  # two of them have the names of others, and their bytes
    found = imgrec.duplicates(ingested(tmp_path, extractor, few), "cosine", distance=0.3)
    assert [[name for name, _ in group] for group in named(found)] == [
        [f"ukbench00120{copy}.jpg" for copy in ("", "_hflip", "_resize", "_rotation")]
    ]


# --- the command --------------------------------------------------------------------------------------------


def test_the_command_in_all_formats_and_again(here: Cli, tmp_path: Path, copies: Path) -> None:
    before = {path: path.read_bytes() for path in copies.iterdir()}
    here("ingest", copies, "extractor=phash")
    ask = ("duplicates", "metric=hamming", "distance=8", "keep=first", f"folder={copies}")
    done = here(*ask)
    assert done.out.splitlines()[0].split() == [
        "group",
        "keep",
        "reason",
        "distance",
        "width",
        "height",
        "bytes",
        "path",
    ]
    assert len(done.out.splitlines()) == 6
    assert "within a distance of 8: asked for" in done.err
    run = done.runs()[-1]
    with PIL.Image.open(run / "duplicates.png") as drawn:
        assert drawn.width > 5 * 150
    data = here(*ask, "format=json").json()
    assert data == json.loads((run / "results.json").read_text())
    assert [data["distance"], data["keep"], data["turned"], data["metric"]] == [8, "first", False, "hamming"]
    (group,) = data["groups"]
    assert (group["keep"], group["reason"]) == (str(copies / "a.png"), "first by path")
    small = next(each for each in group["images"] if each["path"].endswith("small.jpg"))
    assert [small["width"], small["height"], small["bytes"]] == [80, 60, (copies / "small.jpg").stat().st_size]
    others = [each["path"] for each in group["images"][1:]]
    assert here(*ask, "format=paths0").out == "".join(f"{path}\0" for path in others)
    assert here(*ask, "format=csv").out.startswith(
        "group,keep,reason,distance,width,height,bytes,path\n1,True,first"
    )
    assert "identical" in here("replay", run).out
    assert {path: path.read_bytes() for path in copies.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("distance=-1", "distance is auto or a number from 0 on, not -1"),
        ("distance=nan", "distance is a finite number, not nan"),
        ("distance=inf", "distance is a finite number, not inf"),
        ("distance=near", "distance is auto or a number from 0 on, not 'near'"),
        ("distance=true", "distance is auto or a number from 0 on, not True"),
        ("keep=biggest", "keep=biggest is none of largest, oldest, first, and no path is like that pattern"),
        ("label=nothing", "no image is left: of 4, label=nothing leaves 0"),
        ("format=xml", "format"),
        ("metric=hamming", "metric=hamming compares bits"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(here: Cli, tmp_path: Path, options: str, told: str) -> None:
    stored(tmp_path, np.array([[0], [0.5], [2], [3]], np.float32), [1] * 4)
    done = here("duplicates", f"store.path={tmp_path}/gallery.sqlite", options, code=2)
    assert told in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_that_there_are_none_is_told(here: Cli, tmp_path: Path) -> None:
    stored(tmp_path, np.array([[0], [1], [2]], np.float32), [1] * 3)
    ask = ("duplicates", f"store.path={tmp_path}/gallery.sqlite", "distance=0.5")
    assert here(*ask).out == "no duplicates\n"
    assert here(*ask, "format=paths").out == ""
    assert here(*ask, "format=json").json()["groups"] == []


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"junk")])
def test_what_is_kept_is_there(copies: Path, tmp_path: Path, harm: Any, caplog: pytest.LogCaptureFixture) -> None:
    store = ingested(tmp_path, imgrec.build("extractor", "phash"), copies)
    (before,) = imgrec.duplicates(store, distance=4).groups
    harm(Path(before.images[0].record.path))
    (after,) = imgrec.duplicates(store, distance=4).groups
    kept = Path(after.images[0].record.path)
    assert kept.exists()
    assert kept != Path(before.images[0].record.path)
    assert "its file is there" in after.reason
    assert "1 of these files are gone or have changed: ingest again" in caplog.text
