"""Galleries that travel with their photographs: `store.paths=relative`."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import PIL.Image
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import imgrec
from conftest import Cli
from imgrec import images
from imgrec.errors import UsageError
from imgrec.gallery.forgetting import forget_images
from imgrec.kinds import Batch, ImageFile, places
from imgrec.verification import verify

COLOUR = imgrec.build("extractor", "colour", bins=2)
KINDS = pytest.mark.parametrize("kind", ["sqlite", "csv"])


def disk(folder: Path, count: int = 4) -> Path:
    """A folder with photographs, as a disk has them."""
    (folder / "photos").mkdir(parents=True)
    for number in range(count):
        picture(folder / "photos" / f"{number}.png", shade=40 * number)
    return folder


def picture(file: Path, shade: int) -> None:
    PIL.Image.new("RGB", (32, 24), (shade, 90, 200 - shade)).save(file)


def gallery(folder: Path, kind: str = "sqlite", paths: str | None = None) -> imgrec.Store:
    store: imgrec.Store = imgrec.build("store", kind, path=str(folder / "gallery"), paths=paths)
    return store


def ingested(folder: Path, store: imgrec.Store, **options: object) -> dict[str, int]:
    report = imgrec.ingest(folder / "photos", COLOUR, store, **options)  # type: ignore[arg-type]
    return {name: count for name, count in vars(report).items() if count}


def paths_of(store: imgrec.Store) -> set[str]:
    with store:
        return {record.path for record in store.records()}


def files_of(folder: Path) -> set[str]:
    return {str(file) for file in (folder / "photos").rglob("*.*")}


def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read from now on."""
    read, before = [], images.files.Files.read

    def noted(self: images.files.Files, path: str) -> object:
        read.append(path)
        return before(self, path)

    monkeypatch.setattr(images.files.Files, "read", noted)
    return read


NAMES = st.text(st.sampled_from("a/. :\udcff~$é\n\\"), max_size=8)


@given(folder=NAMES, name=NAMES)
@example(folder="disk", name="/disk/../a.jpg")
@example(folder="disk", name="/disk//a.jpg")
@example(folder="disk", name="/disk/s3://a.jpg")
@example(folder="", name="/a.jpg")
@example(folder="disk", name="/disk2/a.jpg")
def test_a_path_comes_back_and_lies_below_the_folder_wherever_that_is(folder: str, name: str) -> None:
    folder = os.path.normpath(f"/{folder.strip('/')}")
    for path in (f"/{name}", f"{folder.rstrip('/')}/{name}", f"s3://{name}"):
        kept = places.kept(path, folder)
        assert places.whole(kept, folder) == path
        assert places.kept(kept, folder) == kept
        if kept != path:
            moved = places.whole(kept, "/elsewhere")
            assert os.path.commonpath(["/elsewhere", os.path.normpath(moved)]) == "/elsewhere"
            assert moved.removeprefix("/elsewhere/") == path.removeprefix(f"{folder.rstrip('/')}/")


@KINDS
def test_two_computers_share_a_gallery_and_each_reads_a_file_once(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = disk(tmp_path / "first")
    (first / "photos" / "broken.jpg").write_text("no picture")
    assert ingested(first, gallery(first, kind, "relative")) == {"new": 4, "extracted": 4, "failed": 1}
    second = tmp_path / "second" / "mount, ü"
    second.parent.mkdir()
    first.rename(second)
    first.symlink_to(second)  # the same disk is mounted at two places
    read, of_status = read_files(monkeypatch), images.files._of_status

    def otherwise(path: str, status: os.stat_result) -> ImageFile:
        """What the second computer sees of a file: whole seconds, in another time zone."""
        file = of_status(path, status)
        seconds = file.mtime_ns // 10**9 + 3600
        return replace(file, mtime_ns=seconds * 10**9, stamp=f"{seconds}-{seconds}-{file.size}")

    for number, here in enumerate([second, first, second, first]):
        monkeypatch.setattr(images.files, "_of_status", otherwise if here == second else of_status)
        store = gallery(here, kind)
        assert ingested(here, store) == {"unchanged": 4, "failed": 1}
        assert paths_of(store) == files_of(here) - {str(here / "photos" / "broken.jpg")}
        assert len(read) == (5 if number == 0 else 1)  # what is no picture is tried again
        read.clear()


def test_stamps_of_several_computers_are_trusted_as_long_as_the_content_is_the_same(tmp_path: Path) -> None:
    store, file = gallery(disk(tmp_path, 1)), next((tmp_path / "photos").iterdir())
    ingested(tmp_path, store)
    for mode in (0o600, 0o640, 0o644):  # each changes the time of status
        file.chmod(mode)
        assert ingested(tmp_path, store) == {"unchanged": 1}
    with store:
        (record,) = store.records()
        stamps = (record.stamp or "").split(" decoding ")[0].split(" also ")
        assert len(stamps) == len(set(stamps)) == 4
        earlier = replace(record, stamp=" also ".join([*stamps[1:], stamps[0]]))
        store.write(Batch(records=[earlier]))
    picture(file, shade=201)
    assert ingested(tmp_path, store) == {"new": 1, "extracted": 1}
    with store:
        (record,) = store.records()
        assert " also " not in (record.stamp or "")


@KINDS
def test_a_gallery_is_converted_in_place_both_ways_with_its_backup(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    here = disk(tmp_path / "here")
    elsewhere = disk(tmp_path / "elsewhere", 2)
    copy = imgrec.build("store", "csv", path=str(here / "backup"))
    ingested(here, gallery(here, kind), backup=copy)
    ingested(elsewhere, gallery(here, kind), backup=copy)
    wanted = files_of(here) | files_of(elsewhere)
    assert paths_of(gallery(here, kind)) == paths_of(copy) == wanted
    done = ingested(here, gallery(here, kind, "relative"), backup=copy)
    assert done == {"unchanged": 4}
    assert f"4 paths below {here} are kept relative now" in caplog.text
    there = here.rename(tmp_path / "there")
    wanted = files_of(there) | files_of(elsewhere)
    moved = imgrec.build("store", "csv", path=str(there / "backup"))
    assert paths_of(gallery(there, kind)) == paths_of(moved) == wanted
    assert not [line for each in verify(gallery(there, kind), moved) for line in each.wrong]
    restored = imgrec.build("store", kind, path=str(there / "restored"))
    with moved, restored.open(create=True):
        restored.copy_from(moved, only_lacking=True)
        assert restored.keeps == "relative"
    assert paths_of(restored) == wanted
    assert ingested(there, gallery(there, kind, "absolute"), backup=moved) == {"unchanged": 4}
    assert paths_of(gallery(there, kind)) == paths_of(moved) == wanted
    there.rename(here)
    assert paths_of(gallery(here, kind)) == wanted  # where they were


def test_a_conversion_that_fails_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = disk(tmp_path / "here")
    store = gallery(here, paths="relative")
    ingested(here, gallery(here))
    with monkeypatch.context() as patched:
        patched.setattr(type(store), "_drop_unused", lambda *_: 1 / 0)
        with store, pytest.raises(ZeroDivisionError):
            store.keep_paths()
    with gallery(here) as same:
        assert same.keeps == "absolute"
    assert paths_of(store) == files_of(here)


def test_a_source_named_by_a_link_lies_below_the_store(tmp_path: Path) -> None:
    here = disk(tmp_path / "here")
    (tmp_path / "link").symlink_to(here)
    store = gallery(here, paths="relative")
    ingested(here, store)
    assert ingested(tmp_path / "link", store) == {"unchanged": 4}
    assert forget_images(store, [str(tmp_path / "link" / "photos")], force=True)
    assert paths_of(store) == set()


def test_what_another_computer_has_elsewhere_is_not_moved(tmp_path: Path) -> None:
    here, hers = disk(tmp_path / "here"), disk(tmp_path / "hers", 1)
    store = gallery(here, paths="relative")
    ingested(hers, store)
    shutil.rmtree(hers)  # on this computer there never was such a folder
    assert "moved" not in ingested(here, store)
    assert {str(here / "photos"), str(hers / "photos")} == {str(Path(path).parent) for path in paths_of(store)}


def test_a_store_that_lies_nowhere_keeps_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = gallery(disk(tmp_path), paths="relative")
    monkeypatch.setattr(type(store), "folder", None)
    with pytest.raises(UsageError, match="store=sqlite lies in no folder, so its paths can only be absolute"):
        ingested(tmp_path, store)
    with pytest.raises(UsageError, match=r"sqlite\.paths"):
        gallery(tmp_path, paths="nearby")


def test_from_the_command_line(here: Cli, tmp_path: Path) -> None:
    disk(tmp_path)
    options = ("extractor=colour", "store.path=g.sqlite")
    here("ingest", "photos", *options, "store.paths=absolute")
    here("ingest", "photos", *options, "store.paths=relative")
    assert "relative paths" in here("info", "store.path=g.sqlite").out
    assert here("info", "store.path=g.sqlite", "format=json").json()["paths"] == "relative"
    here("ingest", "photos", *options)
    assert here("info", "store.path=g.sqlite", "format=json").json()["paths"] == "relative"
    assert "store.paths" in here("ingest", "photos", *options, "store.paths=near", code=2).err
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("photos", "g.sqlite"):
        (tmp_path / name).rename(moved / name)
    query = moved / "photos" / "0.png"
    found = here("recommend", query, "k=1", f"store.path={moved}/g.sqlite", "format=json")
    assert found.json()["matches"][0]["path"].startswith(str(moved / "photos"))
