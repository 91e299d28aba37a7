"""Pictures at addresses of the web, and lists of them, from a server on 127.0.0.1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import imgrec
from conftest import Cli
from faulty_storage import Faulty, faulty_storage, files_in
from imgrec.images import addresses
from imgrec.testing import check_source
from test_tar import archived, ingested

COLOUR = imgrec.build("extractor", "colour")


@pytest.fixture
def site(few: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """A server of photographs with a list of them, which is let in though it is on this computer."""
    monkeypatch.setenv("IMGREC_PRIVATE_ADDRESSES", "true")
    monkeypatch.setattr(addresses, "PAUSES", (0.01, 0.01, 0.01))
    with faulty_storage() as faulty:
        photos = files_in(few)
        lines = ["# photographs", *photos, "", faulty.web(next(iter(photos)))]
        faulty.objects = {**photos, "list.txt": "\n".join(lines).encode()}
        yield faulty


@pytest.fixture
def gallery(tmp_path: Path) -> imgrec.Store:
    store: imgrec.Store = imgrec.build("store", "sqlite", path=str(tmp_path / "gallery.sqlite"))
    return store


def test_it_keeps_its_contract(site: Faulty) -> None:
    check_source(imgrec.build("source", "addresses"), site.web("list.txt"))


def test_a_list_is_as_the_folder(site: Faulty, few: Path, tmp_path: Path, gallery: imgrec.Store) -> None:
    there = ingested(site.web("list.txt"), tmp_path / "gallery.sqlite")
    assert there == ingested(few, tmp_path / "b.sqlite")
    with gallery:
        assert {record.path for record in gallery.records()} == {site.web(key) for key in files_in(few)}
    site.asked.clear()
    assert imgrec.ingest(site.web("list.txt"), COLOUR, gallery).unchanged == len(there)
    assert {request for request in site.asked if request.startswith("GET")} == {"GET list.txt"}


def test_what_is_gone_from_the_web_is_missing_and_told(
    site: Faulty, gallery: imgrec.Store, caplog: pytest.LogCaptureFixture
) -> None:
    objects = dict(site.objects)
    count = imgrec.ingest(site.web("list.txt"), COLOUR, gallery).new
    gone = next(iter(objects))
    site.objects = {key: data for key, data in objects.items() if key != gone}
    report = imgrec.ingest(site.web("list.txt"), COLOUR, gallery)
    assert (report.unchanged, report.missing) == (count - 1, 1)
    assert f"1 of the source's {count} roots is left out: {site.web(gone)} does not exist" in caplog.text
    assert imgrec.ingest(site.web("list.txt"), COLOUR, gallery, prune=True).pruned == 1


def test_a_server_that_is_busy_is_asked_again_and_what_breaks_off_is_tried_the_next_time(
    site: Faulty, gallery: imgrec.Store
) -> None:
    first, second, *_ = site.objects
    site.busy[first], site.cut[second] = 3, 1
    report = imgrec.ingest(site.web("list.txt"), COLOUR, gallery)
    assert report.failed == 1
    assert imgrec.ingest(site.web("list.txt"), COLOUR, gallery).new == 1


@pytest.mark.parametrize("status", [403, 501])
def test_a_server_that_only_lets_read(status: int, site: Faulty, gallery: imgrec.Store) -> None:
    """As what signs addresses for reading alone does."""
    count = len(site.objects) - 1
    site.refuses_head = status
    assert imgrec.ingest(site.web("list.txt"), COLOUR, gallery).new == count
    site.asked.clear()
    assert imgrec.ingest(site.web("list.txt"), COLOUR, gallery).unchanged == count
    assert {name: asked for name, asked in site.asked.items() if asked > 1} == {}
    gone, *_ = site.objects
    site.objects = {name: body for name, body in site.objects.items() if name != gone}
    report = imgrec.ingest(site.web("list.txt"), COLOUR, gallery)
    assert (report.unchanged, report.missing) == (count - 1, 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"s3://bucket/a.jpg", "'s3://bucket/a.jpg', which is no https:// address"),
        (b"file:///etc/passwd", "'file:///etc/passwd', which is no https:// address"),
        (b"# nothing\n", "has no addresses"),
        (b"\xff\xd8\xff\xe0", "cannot be read"),
    ],
)
def test_a_list_names_addresses_of_the_web_alone(
    site: Faulty, gallery: imgrec.Store, text: bytes, told: str
) -> None:
    site.objects = {"list.txt": text}
    with pytest.raises(imgrec.UsageError, match=told):
        imgrec.ingest(site.web("list.txt"), COLOUR, gallery)


def test_the_own_network_is_closed_unless_the_environment_opens_it(
    site: Faulty, gallery: imgrec.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMGREC_PRIVATE_ADDRESSES")
    how = "is not on the public internet: IMGREC_PRIVATE_ADDRESSES=true in the environment allows it"
    with pytest.raises(imgrec.UsageError, match=how):
        imgrec.ingest(site.web("list.txt"), COLOUR, gallery)
    assert not site.asked


def test_advice_for_queries_is_not_given_for_sources(
    gallery: imgrec.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for address in ("https://me:secret@example.org/a.jpg", "http://no.such.host.invalid/list.txt"):
        with pytest.raises(imgrec.UsageError) as refused:
            imgrec.ingest(address, COLOUR, gallery)
        assert "recommend" not in str(refused.value)


def test_a_list_from_the_shell_may_have_dead_addresses_and_is_looked_for_once(site: Faulty, here: Cli) -> None:
    photos = [name for name in site.objects if name != "list.txt"]
    lines = ["gone.jpg", *photos, "  # an indented comment", "gone too.jpg"]
    site.objects = {**site.objects, "list.txt": "\r\n".join(lines).encode()}
    done = here("ingest", site.web("list.txt"), "extractor=colour")
    assert done.code == 0, done.err
    assert f"{len(photos)} new, 0 unchanged, 0 moved, 0 missing, 0 failed" in done.out
    assert f"2 of the source's {len(lines) - 1} roots are left out: {site.web('gone too.jpg')}" in done.err
    assert site.asked["GET list.txt"] == 1
    site.objects = {"list.txt": "\n".join(f"{number}.jpg" for number in range(50)).encode()}
    done = here("ingest", site.web("list.txt"), "extractor=colour", "store.path=none.sqlite", code=2)
    assert f"there are no images in {site.web('0.jpg')}, " in done.err
    assert done.err.endswith(" and 47 others\n")


def test_a_shard_at_an_address_is_read_by_ranges(site: Faulty, few: Path, tmp_path: Path) -> None:
    site.objects = {"shard-1.tar": archived(tmp_path / "shard-1.tar", files_in(few).items()).read_bytes()}
    site.objects["list.txt"] = b"shard-1.tar\n"
    there = ingested(site.web("list.txt"), tmp_path / "a.sqlite")
    assert there == ingested(few, tmp_path / "b.sqlite")


def test_a_query_of_an_address_is_fetched_within_its_own_limits(site: Faulty, here: Cli) -> None:
    here("ingest", site.web("list.txt"), "extractor=colour")
    first = site.web(next(iter(site.objects)))
    refused = here("recommend", f"query={first}", code=2)
    assert "private_addresses=true allows it" in refused.err
    found = here("recommend", f"query={first}", "private_addresses=true", "k=2")
    assert first not in found.out  # itself
    assert site.endpoint in found.out


def test_a_list_with_a_password_is_refused_without_showing_it(site: Faulty, here: Cli) -> None:
    site.objects = {"list.txt": b"https://me:the-secret@example.org/a.jpg"}
    for source in (site.web("list.txt"), site.web("list.txt").replace("//", "//me:the-secret@")):
        result = here("ingest", source, code=2)
        assert "password" in result.err
        assert "the-secret" not in result.err
