import zipfile

import pytest

import imgrec
from imgrec.testing import check_source, write_pictures


@pytest.fixture
def archive(tmp_path):
    write_pictures(tmp_path / "pictures")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as opened:
        for file in sorted((tmp_path / "pictures").rglob("*.png")):
            opened.write(file, file.relative_to(tmp_path / "pictures"))
        opened.writestr("notes.txt", "no picture")
    return tmp_path / "photos.zip"


def test_it_keeps_its_contract(archive):
    check_source(imgrec.build("source", "zip"), str(archive))


def test_an_archive_is_as_its_folder(archive, tmp_path):
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "gallery.sqlite"))
    assert imgrec.ingest(archive, imgrec.build("extractor", "colour"), store).new == 9
    report = imgrec.ingest(tmp_path / "pictures", imgrec.build("extractor", "colour"), store)
    assert (report.new, report.extracted) == (9, 0)
    assert imgrec.ingest(archive, imgrec.build("extractor", "colour"), store).unchanged == 9


def test_an_archive_that_cannot_be_opened_is_not_told_to_be_missing(archive):
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(imgrec.UsageError, match="cannot be opened"):
        imgrec.ingest(archive, imgrec.build("extractor", "colour"), imgrec.build("store", "sqlite", path="no"))


def test_a_file_that_is_gone_from_the_archive_is_missing(archive, tmp_path):
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "gallery.sqlite"))
    imgrec.ingest(archive, imgrec.build("extractor", "colour"), store)
    with zipfile.ZipFile(archive) as opened:
        kept = {name: opened.read(name) for name in opened.namelist() if name != "a/0.png"}
    with zipfile.ZipFile(archive, "w") as opened:
        for name, data in kept.items():
            opened.writestr(name, data)
    assert imgrec.ingest(archive, imgrec.build("extractor", "colour"), store).missing == 1
