"""Pictures in object storage: as those in folders, over networks that are slow and break."""

from __future__ import annotations

import fnmatch
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import imgrec
import imgrec_remote
from conftest import Cli
from faulty_storage import Faulty, faulty_storage, files_in
from imgrec import images
from imgrec.images import listing
from imgrec.testing import check_source, write_pictures
from object_storage import ACCESS_KEY, SECRET, ObjectStorage
from serving import serving
from test_tar import ingested

pytest.importorskip("obstore")

COLOUR = imgrec.build("extractor", "colour")


@pytest.fixture
def stored(object_storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> ObjectStorage:
    """A bucket of each server, and the environment to reach it."""
    for name, value in object_storage.environment.items():
        monkeypatch.setenv(name, value)
    return object_storage


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    monkeypatch.setattr(imgrec_remote, "_away", {})
    with faulty_storage() as faulty:
        for name, value in faulty.environment.items():
            monkeypatch.setenv(name, value)
        yield faulty


@pytest.fixture
def photos_there(faulty: Faulty, few: Path) -> Faulty:
    """A bucket with the photographs of a folder, as `p/china/china-0-0.jpg`."""
    faulty.objects = {f"p/{key}": data for key, data in files_in(few).items()}
    return faulty


@pytest.fixture
def gallery(tmp_path: Path) -> imgrec.Store:
    store: imgrec.Store = imgrec.build("store", "sqlite", path=str(tmp_path / "gallery.sqlite"))
    return store


def put(stored: ObjectStorage, key: str, data: bytes) -> None:
    stored.client.put_object(Bucket=stored.bucket, Key=key, Body=data)


def test_it_keeps_its_contract(stored: ObjectStorage, tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures")
    for key, data in files_in(tmp_path / "pictures").items():
        put(stored, f"photos/{key}", data)
    put(stored, "photos2/other.png", b"")
    put(stored, "photos/notes.txt", b"no picture")
    check_source(imgrec.build("source", "remote"), stored.url("photos/"))


NAMES = ["plain.jpg", "ä b#%20?&'=.jpg", "x+y,z.jpg", "~t[1]*.jpg", "%2e.jpg", "日本.jpg", 'quote".jpg', "{1}.jpg"]


def test_names_have_any_characters(stored: ObjectStorage) -> None:
    for name in NAMES:
        put(stored, f"odd/{name}", name.encode())
    source = imgrec.build("source", "remote")
    found = {file.path: file for file in source.find([stored.url("odd")])}
    assert found.keys() == {stored.url(f"odd/{name}") for name in NAMES}
    for name in NAMES:
        path = stored.url(f"odd/{name}")
        assert source.read(path) == (name.encode(), found[path])
        assert source.roots(path) == [path]


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("s3://photos?versionId=3/p", "names no bucket: 'photos\\?versionId=3'"),
        ("s3://photos#1", "names no bucket"),
        ("s3://", "names no bucket"),
        ("gs:///p", "names no bucket"),
        ("s3://me:secret@photos/p", "has a user or password"),
    ],
)
def test_an_address_without_a_bucket_is_refused(address: str, told: str, photos_there: Faulty) -> None:
    source = imgrec.build("source", "remote")
    with pytest.raises(imgrec.UsageError, match=told):
        source.roots(address)
    problem = source.state(address).problem
    assert problem.startswith("cannot be opened")
    assert "secret" not in problem
    assert not photos_there.asked


@pytest.mark.parametrize("key", ["a//b.jpg", "./b.jpg", "a/../b.jpg", "\x7f\x1b[31m.jpg"])
def test_a_key_that_the_library_does_not_read_is_told_in_a_line(key: str, photos_there: Faulty) -> None:
    photos_there.objects = {**photos_there.objects, key: b""}
    problem = imgrec.build("source", "remote").state(photos_there.url()).problem
    assert problem.endswith("; rename it, or name the folders beside it as the source")
    assert problem.isprintable()


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_ENDPOINT_URL", "nonsense"), ("AWS_ENDPOINT_URL", ""), ("AWS_ACCESS_KEY_ID", "a\nb")]
)
def test_an_environment_that_the_library_panics_of_is_told(
    name: str, value: str, photos_there: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    problem = imgrec.build("source", "remote").state(photos_there.url("p")).problem
    assert problem.startswith("cannot be opened: the endpoint or credentials of the environment are none: s3://")


IMPORTED_SLOWLY = """
import sys, threading, time
import imgrec_remote
from imgrec.images import sources

def slow(frame, event, _):
    if frame.f_code.co_filename.endswith("obstore/__init__.py") and frame.f_lineno > 3:
        time.sleep(0.2)
    return slow

threading.settrace(slow)
imgrec_remote.RETRIES["max_retries"] = 0
print(sum(sources.are_there(f"s3://photos/{number}.jpg" for number in range(20))))
"""


def test_many_threads_may_ask_at_first(faulty: Faulty) -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED_SLOWLY], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_an_ingest_is_as_of_the_folder_and_a_second_look_asks_for_no_object(
    photos_there: Faulty, few: Path, tmp_path: Path, gallery: imgrec.Store
) -> None:
    assert ingested(photos_there.url("p"), tmp_path / "gallery.sqlite") == ingested(few, tmp_path / "b.sqlite")
    photos_there.asked.clear()
    count = len(photos_there.objects)
    assert imgrec.ingest(photos_there.url("p/"), COLOUR, gallery).unchanged == count
    assert {request.split()[0]: request.split()[1] for request in photos_there.asked} == {
        "HEAD": "p",
        "LIST": "p/",
    }
    assert photos_there.asked["LIST p/"] == 4  # what is there, once, and three times whether anything is
    photos_there.objects = {
        **photos_there.objects,
        "p/china/china-0-0.jpg": photos_there.objects["p/china/china-0-1.jpg"],
    }
    report = imgrec.ingest(photos_there.url("p"), COLOUR, gallery)
    assert (report.unchanged, report.new, report.extracted) == (count - 1, 1, 0)


@pytest.mark.parametrize("in_memory", [listing.IN_MEMORY, 1])
def test_a_bucket_is_listed_once_however_often_it_is_gone_through(
    in_memory: int, photos_there: Faulty, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "IN_MEMORY", in_memory)
    roots = [str(few), photos_there.url("p")]
    photos_there.objects = {**photos_there.objects, "p/page.djvu": b"AT"}
    exclusion = images.Exclusion(roots, ["china-0-*"])
    files = list(images.find(roots, exclusion))
    photos_there.asked.clear()
    listed = images.Listing(roots, exclusion)
    assert [list(listed), list(listed)] == [files, files]
    assert (listed.total, listed.passed_over) == (len(files), {".djvu": 1})
    assert photos_there.asked == {"HEAD p": 2, "LIST p/": 2}  # of each one whether anything is there


def test_roots_are_patterns_and_what_is_excluded_is_left_out(photos_there: Faulty, gallery: imgrec.Store) -> None:
    folders = sorted({key.split("/")[1] for key in photos_there.objects})
    source = imgrec.build("source", "remote")
    assert source.roots(photos_there.url("p/[!x]*")) == [photos_there.url(f"p/{each}") for each in folders]
    assert source.roots(photos_there.url("**/china-0-?.jpg"))[0] == photos_there.url("p/china/china-0-0.jpg")
    every = imgrec.ingest(photos_there.url("p/*/"), COLOUR, gallery, exclude=["china-0-*"])
    kept = [key for key in photos_there.objects if "china-0-" not in key]
    assert every.new == len(kept)
    with pytest.raises(imgrec.UsageError, match="matches nothing"):
        imgrec.ingest(photos_there.url("*.gif"), COLOUR, gallery)


@given(
    pattern=st.text("ab[]!^-\\w&*?.", max_size=8), names=st.sets(st.text("ab[]!^-\\w&.", min_size=1), max_size=9)
)
def test_patterns_are_those_of_folders(pattern: str, names: set[str]) -> None:
    matches = re.compile("".join(map(imgrec_remote._meaning, imgrec_remote.TOKEN.findall(pattern)))).fullmatch
    if "**" not in pattern:
        assert set(filter(matches, names)) == {name for name in names if fnmatch.fnmatchcase(name, pattern)}


def test_reading_is_as_wide_as_the_source_says(photos_there: Faulty, gallery: imgrec.Store) -> None:
    photos_there.objects = {
        f"p/{number}.jpg": data for number, data in enumerate([*photos_there.objects.values()] * 8)
    }
    photos_there.latency = 0.05
    imgrec.ingest(photos_there.url("p"), COLOUR, gallery)
    assert photos_there.most_at_once > 40


def test_the_roots_of_a_range_are_looked_for_many_at_a_time(photos_there: Faulty) -> None:
    photos_there.objects = {f"{number}.jpg": b"" for number in range(30)}
    photos_there.latency = 0.05
    assert len(imgrec.images.roots(photos_there.url("{0..29}.jpg"))) == 30
    assert photos_there.most_at_once > 5
    with pytest.raises(imgrec.UsageError, match=r"/30\.jpg' does not exist"):
        imgrec.images.roots(photos_there.url("{0..40}.jpg"))


def test_a_server_that_is_busy_is_asked_again(photos_there: Faulty, gallery: imgrec.Store) -> None:
    for key in photos_there.objects:
        photos_there.busy[key] = 2
    photos_there.busy[""] = 1
    assert imgrec.ingest(photos_there.url("p"), COLOUR, gallery).new == len(photos_there.objects)


def test_a_body_that_breaks_off_is_asked_for_again_and_else_read_the_next_time(
    photos_there: Faulty, gallery: imgrec.Store
) -> None:
    first, second, *_ = photos_there.objects
    photos_there.cut[first] = 1
    photos_there.cut[second] = 1000
    report = imgrec.ingest(photos_there.url("p"), COLOUR, gallery)
    assert (report.new, report.failed) == (len(photos_there.objects) - 1, 1)
    with gallery:
        (failure,) = gallery.failures()
    assert failure.reason.startswith("cannot be opened: s3://")
    photos_there.cut.clear()
    assert imgrec.ingest(photos_there.url("p"), COLOUR, gallery).new == 1


def test_an_object_that_changes_while_it_is_read_is_never_half_of_each(
    photos_there: Faulty, gallery: imgrec.Store
) -> None:
    first, second, *_ = photos_there.objects
    objects = dict(photos_there.objects)
    photos_there.objects = objects
    photos_there.on_half[first] = lambda: objects.update({first: objects[second]})
    photos_there.cut[first] = 1
    report = imgrec.ingest(photos_there.url("p"), COLOUR, gallery)
    assert report.failed == 1
    assert imgrec.ingest(photos_there.url("p"), COLOUR, gallery).new == 1
    with gallery:
        here, there = gallery.records(paths=[photos_there.url(first), photos_there.url(second)])
    assert here.digest == there.digest


def test_a_bucket_that_is_gone_for_a_while_is_as_an_unplugged_drive(
    photos_there: Faulty, gallery: imgrec.Store, caplog: pytest.LogCaptureFixture
) -> None:
    count = len(photos_there.objects)
    imgrec.ingest(photos_there.url("p"), COLOUR, gallery)
    photos_there.is_away = True
    with pytest.raises(imgrec.UsageError, match="cannot be opened"):
        imgrec.ingest(photos_there.url("elsewhere"), COLOUR, gallery)
    for force in (False, True):
        report = imgrec.ingest(photos_there.url("p"), COLOUR, gallery, prune=True, force=force)
        assert (report.missing, report.pruned) == (count, 0)
    assert "answers 404 Not Found" in caplog.text
    assert f"{count} missing images are not forgotten" in caplog.text
    photos_there.is_away = False
    report = imgrec.ingest(photos_there.url("p"), COLOUR, gallery)
    assert (report.unchanged, report.missing, report.extracted) == (count, 0, 0)
    photos_there.objects = {key: data for key, data in photos_there.objects.items() if "china-0-0" not in key}
    assert imgrec.ingest(photos_there.url("p"), COLOUR, gallery, prune=True).pruned == 1


def test_pictures_out_of_reach_are_not_said_to_be_gone(photos_there: Faulty, here: Cli) -> None:
    here("ingest", photos_there.url("p"), "extractor=colour")
    photos_there.is_away = True
    told = here("verify", code=1).out
    assert f"cannot be opened: s3://{photos_there.bucket} answers 404 Not Found, and not marked as missing" in told
    photos_there.is_away = False
    photos_there.objects = {"p/other.jpg": b""}
    assert "it is gone, and not marked as missing" in here("verify", code=1).out


def test_a_server_that_cannot_be_reached_is_waited_for_once(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(imgrec_remote.RETRIES, "max_retries", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    source = imgrec.build("source", "remote")
    state = source.state(faulty.url("a.jpg"))
    assert state.problem.startswith(f"cannot be opened: s3://{faulty.bucket}")
    monkeypatch.setattr(imgrec_remote, "_made", None)
    assert source.state(faulty.url("b.jpg")).problem == state.problem


def test_a_page_and_drawings_read_through_the_source(photos_there: Faulty, here: Cli, tmp_path: Path) -> None:
    assert here("ingest", photos_there.url("p"), "extractor=colour").code == 0
    photos_there.asked.clear()
    result = here("recommend", photos_there.url("p/china/china-0-0.jpg"), "k=3")
    assert result.code == 0, result.err
    assert photos_there.url("p/china/") in result.out
    gets = [request for request in photos_there.asked.elements() if request.startswith("GET")]
    assert len(set(gets)) == 4
    result = here("visualise", "reducer=pca", "thumbnails=5")
    assert result.code == 0, result.err
    assert here("duplicates").code == 0


def test_the_page_reads_a_picture_once_for_its_thumbnails(photos_there: Faulty, here: Cli, tmp_path: Path) -> None:
    here("ingest", photos_there.url("p"), "extractor=colour")
    first = next(iter(photos_there.objects))
    digest = hashlib.sha256(photos_there.objects[first]).hexdigest()
    photos_there.asked.clear()
    for _ in range(2):  # the second server finds what the first one has kept
        with serving(tmp_path) as server:
            assert server.ask(f"/api/thumbs/{digest}/96.webp").status == 200
    assert photos_there.asked[f"GET {first}"] == 1
    here("verify", "sample=null")


def test_credentials_are_recorded_nowhere(photos_there: Faulty, cli: Cli, tmp_path: Path) -> None:
    done = [cli("ingest", photos_there.url("p"), "extractor=colour", "backup=csv")]
    done.append(cli("recommend", photos_there.url("p/china/china-0-0.jpg")))
    photos_there.is_away = True
    done.append(cli("ingest", photos_there.url("p")))
    done.append(cli("ingest", photos_there.url("q"), code=2))
    assert "answers 404" in done[-1].err
    done.append(cli("ingest", f"s3://{ACCESS_KEY}:{SECRET}@bucket/p", code=2))
    said = "".join(result.out + result.err for result in done)
    written = [each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()]
    assert any(photos_there.bucket.encode() in data for data in written)
    for secret in (SECRET, ACCESS_KEY):
        assert secret not in said
        assert not any(secret.encode() in data for data in written)


def test_a_profile_is_used_where_boto3_is_there(
    photos_there: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("boto3")
    keys = f"aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET}\nregion = eu-west-9\n"
    (tmp_path / "credentials").write_text(f"[photos]\n{keys}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "photos")
    imgrec_remote._profile.cache_clear()
    try:
        assert imgrec_remote._profile() is not None
        assert len(list(imgrec.build("source", "remote").find([photos_there.url("p")]))) == len(
            photos_there.objects
        )
    finally:
        imgrec_remote._profile.cache_clear()
