"""Pictures in tar archives: as those in folders, wherever the archive lies."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imgrec
from conftest import Cli
from faulty_storage import Faulty, faulty_storage, files_in
from imgrec.testing import check_source


def archived(file: Path, members: Iterable[tuple[str, bytes]], kind: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(file, "w", format=kind) as opened:
        for name, data in members:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            opened.addfile(about, io.BytesIO(data))
    return file


@pytest.fixture
def shard(few: Path) -> Path:
    return archived(few.parent / "shard-01.tar", files_in(few).items())


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    pytest.importorskip("obstore")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with faulty_storage() as faulty:
        for name, value in faulty.environment.items():
            monkeypatch.setenv(name, value)
        yield faulty


def contents(store: imgrec.Store) -> dict[str, tuple[str, bytes]]:
    """The digest and vector of each file, by the last part of its path."""
    (space,) = store.spaces()
    digests, rows = store.vectors(space)
    vectors = dict(zip(digests, (row.tobytes() for row in rows), strict=True))
    return {record.path.rpartition("/")[2]: (record.digest, vectors[record.digest]) for record in store.records()}


def ingested(source: object, file: Path) -> dict[str, tuple[str, bytes]]:
    store = imgrec.build("store", "sqlite", path=str(file))
    imgrec.ingest(source, imgrec.build("extractor", "colour"), store)  # type: ignore[arg-type]
    with store:
        return contents(store)


def test_it_keeps_its_contract(shard: Path) -> None:
    check_source(imgrec.build("source", "tar"), str(shard))


def test_digests_and_vectors_are_those_of_loose_files(few: Path, shard: Path, tmp_path: Path) -> None:
    assert ingested(shard, tmp_path / "a.sqlite") == ingested(few, tmp_path / "b.sqlite")


def test_patterns_and_ranges_name_archives(few: Path, tmp_path: Path) -> None:
    for number in range(8, 12):
        archived(tmp_path / f"shard-{number:02}.tar", [*files_in(few).items()][:2])
    store, colour = imgrec.build("store", "sqlite", path=str(tmp_path / "g")), imgrec.build("extractor", "colour")
    assert imgrec.ingest(tmp_path / "shard-{08..10}.tar", colour, store).new == 6
    assert imgrec.ingest(str(tmp_path / "shard-*.tar"), colour, store).new == 2
    report = imgrec.ingest(str(tmp_path / "shard-*.tar"), colour, store, exclude="*0-0.jpg")
    assert (report.unchanged, report.missing) == (4, 4)
    with pytest.raises(imgrec.UsageError, match=r"'.*shard-12\.tar' does not exist"):
        imgrec.ingest(tmp_path / "shard-{08..12}.tar", colour, store)


def test_an_archive_that_changes_is_read_again_and_one_that_is_gone_is_missing(few: Path, shard: Path) -> None:
    store = imgrec.build("store", "sqlite", path=str(few.parent / "g.sqlite"))
    colour = imgrec.build("extractor", "colour")
    count = imgrec.ingest(shard, colour, store).new
    assert imgrec.ingest(shard, colour, store).unchanged == count
    archived(shard, [*files_in(few).items()][1:])
    report = imgrec.ingest(shard, colour, store)
    assert (report.unchanged, report.extracted, report.missing) == (count - 1, 0, 1)
    shard.unlink()
    assert imgrec.ingest(shard, colour, store).missing == count


def test_an_archive_that_is_cut_off_costs_what_is_cut_off(
    few: Path, shard: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 2])
    store = imgrec.build("store", "sqlite", path=str(few.parent / "g.sqlite"))
    report = imgrec.ingest(shard, imgrec.build("extractor", "colour"), store)
    assert (report.new > 0, report.failed) == (True, 1)
    shard.write_bytes(b"no archive" * 1000)
    with pytest.raises(imgrec.UsageError, match="cannot be opened as a tar archive"):
        imgrec.ingest(shard, imgrec.build("extractor", "colour"), imgrec.build("store", "sqlite", path="none"))
    archived(few.parent / "shard-02.tar", files_in(few).items())
    both = imgrec.ingest(str(few.parent / "shard-*.tar"), imgrec.build("extractor", "colour"), store)
    assert (both.new, both.failed) == (len(files_in(few)), 0)
    assert "1 of the source's 2 roots is left out" in caplog.text


def test_what_an_archive_lost_by_damage_is_missing_and_not_forgotten(
    few: Path, shard: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, count = shard.read_bytes(), len(files_in(few))
    store = imgrec.build("store", "sqlite", path=str(few.parent / "g.sqlite"))
    imgrec.ingest(shard, imgrec.build("extractor", "colour"), store)
    shard.write_bytes(data[: len(data) // 2] + b"?" * (len(data) // 2))
    for _ in range(2):
        caplog.clear()
        pruning = imgrec.ingest(shard, imgrec.build("extractor", "colour"), store, prune=True, force=True)
        assert (pruning.pruned, pruning.missing > 0) == (0, True)
        assert "missing images are not forgotten: they may be there" in caplog.text
    _ = list(imgrec.build("source", "tar").find([f"{shard}!"]))  # as another run, from the list that is kept
    assert f"{shard} is cut off or damaged" in caplog.text
    shard.write_bytes(data)
    assert imgrec.ingest(shard, imgrec.build("extractor", "colour"), store).missing == 0
    with store:
        assert sum(not record.missing for record in store.records()) == count


def test_an_archive_that_is_written_while_it_is_read_gives_whole_files(
    few: Path, shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgrec_tar.BLOCKS", 0)
    source = imgrec.build("source", "tar")
    first = next(iter(source.find(source.roots(str(shard)))))
    others = [(name, data[::-1]) for name, data in files_in(few).items()]
    archived(shard, others)
    data, file = source.read(first.path)
    assert data == others[0][1]
    assert file != first
    shard.unlink()
    with pytest.raises(imgrec.UnreadableImageError, match="cannot be opened"):
        source.read(first.path)


def test_a_damaged_archive_among_those_of_a_pattern_costs_no_other(few: Path, shard: Path, here: Cli) -> None:
    (few.parent / "shard-00.tar").write_bytes(b"no archive" * 1000)
    done = here("ingest", few.parent / "shard-*.tar", "extractor=colour")
    assert done.code == 0, done.err
    assert "1 of the source's 2 roots is left out" in done.err
    assert f"{len(files_in(few))} new" in done.out


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    about = tarfile.TarInfo(name)
    about.size, about.type = size, kind
    return about.tobuf(tarfile.GNU_FORMAT)


LONG_NAMES = (header("././@LongLink", 5, tarfile.GNUTYPE_LONGNAME) + b"a.jpg".ljust(512, b"\0")) * 3000

DAMAGED = {
    "a header with a wrong byte": b"x" * 512,
    "half a header": b"x" * 100,
    "a size that leads back": header("back.jpg", -512),
    "a size that leads far back": header("back.jpg", -(10**6)),
    "a long name of negative size": header("././@LongLink", -600, tarfile.GNUTYPE_LONGNAME),
    "attributes of negative size": header("pax", -600, tarfile.XHDTYPE),
    "long names of long names": LONG_NAMES,
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_what_lies_before_the_damage_is_found_and_the_damage_told(
    few: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    first, *others = files_in(few).items()
    shard = archived(few.parent / "shard.tar", [first])
    length = 512 + -(-len(first[1]) // 512) * 512
    shard.write_bytes(shard.read_bytes()[:length] + damage + b"".join(data for _, data in others))
    source = imgrec.build("source", "tar")
    assert [file.path for file in source.find([f"{shard}!"])] == [f"{shard}!/{first[0]}"]
    assert "is cut off or damaged: 1 files of it are found" in caplog.text
    alone = shard.with_name("alone.tar")
    alone.write_bytes(damage + bytes(1024))
    with pytest.raises(imgrec.ImgrecError, match="cannot be opened as a tar archive"):
        list(source.find([f"{alone}!"]))


def test_files_are_named_and_linked_as_unpacking_would(few: Path) -> None:
    (_, first), (_, second), *_ = files_in(few).items()
    members = [("../photos/up.jpg", first), ("/abs.jpg", first), ("a/./b//c.jpg", first), ("twice.jpg", first)]
    shard = archived(few.parent / "shard.tar", [*members, ("twice.jpg", second)])
    with tarfile.open(shard, "a") as opened:
        for name, target in (("link.jpg", "./twice.jpg"), ("itself.jpg", "itself.jpg"), ("gone.jpg", "no.jpg")):
            about = tarfile.TarInfo(name)
            about.type, about.linkname = tarfile.LNKTYPE, target
            opened.addfile(about)
    source = imgrec.build("source", "tar")
    found = {file.path.partition("!/")[2]: source.read(file.path)[0] for file in source.find([f"{shard}!"])}
    once = dict.fromkeys(["photos/up.jpg", "abs.jpg", "a/b/c.jpg"], first)
    assert found == {**once, "twice.jpg": second, "link.jpg": second}


def test_a_file_without_its_holes_is_refused(few: Path) -> None:
    attributes = {"GNU.sparse.map": "0,512", "GNU.sparse.size": "9000", "GNU.sparse.name": "holes.bmp"}
    about = tarfile.TarInfo("holes.bmp")
    about.pax_headers, about.size = attributes, 512
    with tarfile.open(few.parent / "shard.tar", "w", format=tarfile.PAX_FORMAT) as opened:
        opened.addfile(about, io.BytesIO(bytes(512)))
        opened.add(few, "photos")
    with pytest.raises(imgrec.UnreadableImageError, match="packed without its holes"):
        imgrec.build("source", "tar").read(f"{few.parent}/shard.tar!/holes.bmp")


def test_a_folder_with_the_suffix_is_a_folder(few: Path) -> None:
    folder = few.rename(few.parent / "photos.tar")
    store = imgrec.build("store", "sqlite", path=str(folder.parent / "g"))
    assert imgrec.ingest(folder, imgrec.build("extractor", "colour"), store).new == len(files_in(folder))


NAMES = st.lists(
    st.text(st.characters(exclude_characters="\0/\n\r", exclude_categories=["Cs"]), min_size=1, max_size=120),
    min_size=1,
    max_size=3,
).map("/".join)


@settings(max_examples=40, deadline=None)
@given(
    files=st.dictionaries(NAMES, st.binary(max_size=3000), min_size=1, max_size=8),
    kind=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_what_is_put_in_is_what_is_read(
    files: dict[str, bytes], kind: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    usual = {
        name: data
        for name, data in files.items()
        if not {".", ".."} & set(name.split("/")) and name == name.strip("/ ")
    }
    shard = archived(tmp_path_factory.mktemp("any") / "any.tar", [(f"{n}.jpg", d) for n, d in usual.items()], kind)
    source = imgrec.build("source", "tar")
    root = f"{shard}!"
    assert {file.path for file in source.find([root])} == {f"{root}/{name}.jpg" for name in usual}
    for name, data in usual.items():
        assert source.read(f"{root}/{name}.jpg")[0] == data


def test_an_archive_elsewhere_is_read_in_blocks_and_listed_once(
    shard: Path, faulty: Faulty, tmp_path: Path
) -> None:
    faulty.objects = {"shard.tar": shard.read_bytes()}
    check_source(imgrec.build("source", "tar"), faulty.url("shard.tar"))
    here = ingested(shard, tmp_path / "here.sqlite")
    assert ingested(faulty.url("shard.tar"), tmp_path / "there.sqlite") == here
    faulty.asked.clear()
    imgrec.images.source_of(faulty.url("shard.tar")).__post_init__()  # a new process
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "there.sqlite"))
    report = imgrec.ingest(faulty.url("shard.tar"), imgrec.build("extractor", "colour"), store)
    assert report.unchanged == len(here)
    assert faulty.asked.keys() == {"HEAD shard.tar"}


def test_labels_lie_beside_the_pictures(few: Path, tmp_path: Path, here: Cli) -> None:
    beside = []
    for number, (name, data) in enumerate(files_in(few).items()):
        label = name.partition("/")[0]
        key = f"{number:06}"
        about = json.dumps({"label": label, "caption": f"a {label}"}).encode()
        beside += [(f"{key}.left.jpg", data), (f"{key}.cls", label.encode()), (f"{key}.json", about)]
    shard = archived(tmp_path / "shard.tar", beside)
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "gallery.sqlite"))
    imgrec.ingest(few, imgrec.build("extractor", "colour"), imgrec.build("store", "sqlite", path="loose.sqlite"))
    imgrec.ingest(shard, imgrec.build("extractor", "colour"), store)
    wanted = imgrec.evaluate(imgrec.build("store", "sqlite", path="loose.sqlite"), labels="folder")["map"]
    for how in (".cls", ".json", ".json:caption"):
        assert imgrec.evaluate(store, labels=how)["map"] == pytest.approx(wanted)
    with pytest.raises(imgrec.UsageError, match=r"no image of the gallery has a \.txt with a label beside it"):
        imgrec.evaluate(store, labels=".txt")
    result = here("evaluate", "store.path=gallery.sqlite", "labels=.cls")
    assert result.code == 0, result.err
