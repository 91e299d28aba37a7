"""Standard streams that are closed, full or read by nobody."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import imgrec

IMGREC = f"{sys.executable!r} -m imgrec"


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line of a shell; `imgrec` in it is ours."""
    command = command.replace("imgrec ", f"{IMGREC} ", 1)
    return subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    (folder / "photos").symlink_to(photos)
    store = imgrec.build("store", "sqlite", path=str(folder / "outputs" / "gallery.sqlite"))
    imgrec.ingest(folder / "photos", imgrec.build("extractor", "colour"), store)
    return folder


CLOSED = ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"]


@pytest.mark.parametrize("streams", CLOSED)
def test_closed_streams_change_no_result(gallery: Path, streams: str) -> None:
    query = "photos/china/china-0-0.jpg"
    expected = [match.path for match in imgrec.recommend(gallery / query, _store(gallery / "outputs"))]
    done = shell(f"imgrec recommend {query} hydra.run.dir=run format=paths {streams}", gallery)
    assert done.returncode == 0
    assert done.stdout.splitlines() == ([] if ">&-" in streams.split() else expected)
    found = json.loads((gallery / "run" / "results.json").read_text())
    assert [match["path"] for match in found["matches"]] == expected
    assert json.loads((gallery / "run" / "run.json").read_text())["status"] == "done"


def _store(folder: Path) -> imgrec.Store:
    return imgrec.build("store", "sqlite", path=str(folder / "gallery.sqlite"))  # type: ignore[no-any-return]


def test_nothing_is_printed_into_a_gallery_whose_file_takes_the_place_of_stderr(few: Path) -> None:
    """libpng and libjpeg warn on stream 2, whatever that is."""
    broken = few / "china" / "broken.jpg"
    broken.write_bytes((few / "china" / "china-0-0.jpg").read_bytes()[:-400])
    done = shell("imgrec ingest few extractor=colour <&- >&- 2>&-", few.parent)
    assert done.returncode == 0
    assert "12" in shell("imgrec info", few.parent).stdout
    assert shell("imgrec verify sample=null", few.parent).returncode == 0


@pytest.mark.parametrize("streams", ["2>&-", ">&- 2>&-"])
def test_nor_the_exit_code_of_a_mistake(tmp_path: Path, streams: str) -> None:
    assert shell(f"imgrec recommend nofile.jpg {streams}", tmp_path).returncode == 2


@pytest.mark.parametrize("command", ["--version", "--help", "plugins", "info --cfg job", "info", "-m info"])
def test_a_full_stdout_is_a_failure_in_a_line(gallery: Path, command: str) -> None:
    done = shell(f"imgrec {command} >/dev/full", gallery)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("imgrec: ") and "No space left" in line]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_what_a_reader_has_not_seen_yet_is_written(gallery: Path) -> None:
    """Also what Hydra prints, after which the process ends."""
    assert "failures: 10" in shell("imgrec info --cfg job | cat", gallery).stdout
