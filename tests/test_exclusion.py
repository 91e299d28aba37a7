"""What is no photograph: a system's folders, imgrec's own, what a user excludes, and what nothing reads."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imgrec
from conftest import Cli
from imgrec import images
from imgrec.errors import UsageError
from imgrec.images.exclusion import SYSTEM_FOLDERS
from imgrec.ingestion import drives

COLOUR = imgrec.build("extractor", "colour")


def picture(path: Path, level: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(path, "PNG")
    return path


def found(root: Path, exclude: str | Sequence[str] | None = None) -> list[str]:
    """The files found below a root, relative to it."""
    roots = images.roots(root)
    exclusion = images.Exclusion(roots, exclude)
    paths = [os.path.relpath(file.path, root) for file in images.find(roots, exclusion)]
    assert len(paths) == images.Listing(roots, exclusion).total
    return paths


SYSTEMS = [*sorted(SYSTEM_FOLDERS), "@eaDir", "$RECYCLE.BIN", "System Volume Information", "__MACOSX"]
HIDDEN = [".thumbnails", ".Trash", ".Trash-1000", ".git"]


@pytest.mark.parametrize("name", [*SYSTEMS, *HIDDEN])
def test_folders_of_systems_are_left_out_anywhere(tmp_path: Path, name: str) -> None:
    for folder in (tmp_path / "p", tmp_path / "p" / "a"):
        picture(folder / "a.png")
        picture(folder / name / "inside" / "b.png")
    assert found(tmp_path / "p") == ["a.png", "a/a.png"]
    assert found(tmp_path / "p" / name) == ["inside/b.png"]  # named itself it is taken
    assert found(tmp_path / "p" / name / "inside" / "b.png") == ["."]
    assert len(found(tmp_path / "p", "!" + (rf"\{name}" if name.startswith("#") else name))) == 4


NAMES = st.sampled_from(["a.png", "b.png", "raw", "old", "x y.png", "[1].png", "#c.png", "!d.png"])
PATTERNS = st.one_of(
    NAMES,
    NAMES.map("/{}".format),
    NAMES.map("!{}".format),
    NAMES.map("{}/".format),
    NAMES.map("!{}/".format),
    NAMES.map(r"\{}".format),
    st.sampled_from(["*.png", "!*.png", "raw/*", "!raw/a.png", "**/old/", "raw/**", "old/**/a.png", "[ab].png"]),
    st.sampled_from(
        ["[!a].png", "?.png", "# a comment", "", "a.png ", "*", "!*/", "/raw/old/", "!/raw/old/a.png"]
    ),
)
FOLDERS = ["", "raw/", "old/", "raw/old/", "old/raw/", "raw/old/raw/"]


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git, to compare with")


@needs_git
@settings(max_examples=60, deadline=None)
@given(ignored=st.dictionaries(st.sampled_from(FOLDERS), st.lists(PATTERNS, max_size=4), max_size=4))
def test_ignore_files_mean_what_they_mean_to_git(
    tmp_path_factory: pytest.TempPathFactory, ignored: dict[str, list[str]]
) -> None:
    """Git itself, which has the patterns of each folder from `.imgrecignore`, lists the same files."""
    root = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS:
        for name in ("a.png", "b.png", "x y.png", "[1].png", "#c.png", "!d.png"):
            picture(root / folder / name)
    for folder, patterns in ignored.items():
        (root / folder / ".imgrecignore").write_text("\n".join(patterns), encoding="utf-8")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    listed = ["git", "-C", str(root), "ls-files", "-z", "--others", "--exclude-per-directory=.imgrecignore"]
    right = subprocess.run(listed, check=True, capture_output=True).stdout.decode().split("\0")
    assert sorted(found(root)) == sorted(path for path in right if path.endswith(".png"))
    shutil.rmtree(root)


@settings(max_examples=40, deadline=None)
@given(
    patterns=st.lists(PATTERNS.filter(lambda each: each and each == each.strip() and each[0] != "#"), max_size=4)
)
def test_what_is_given_means_what_it_means_to_git_and_has_the_last_word(
    tmp_path_factory: pytest.TempPathFactory, patterns: list[str]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS:
        for name in ("a.png", "b.png", "#c.png"):
            picture(root / folder / name)
    (root / "raw" / ".imgrecignore").write_text("b.png\n!a.png")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    listed = ["git", "-C", str(root), "ls-files", "-z", "--others", "--exclude-per-directory=.imgrecignore"]
    listed += [f"--exclude={each}" for each in patterns]
    right = subprocess.run(listed, check=True, capture_output=True).stdout.decode().split("\0")
    assert sorted(found(root, patterns)) == sorted(path for path in right if path.endswith(".png"))
    shutil.rmtree(root)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("#recycle/", r"exclude: '#recycle/' is no pattern as in .gitignore: write \\# for a name that begins so"),
        ("", "exclude: '' is no pattern"),
        ("!", "exclude: '!' is no pattern"),
        (2019, "exclude: 2019 is no pattern"),  # as YAML reads it without quotes
        ("[z-a]", r"exclude: '\[z-a\]' is no pattern"),
    ],
)
def test_a_pattern_without_effect_is_refused(tmp_path: Path, pattern: Any, message: str) -> None:
    picture(tmp_path / "p" / "a.png")
    with pytest.raises(UsageError, match=message):
        imgrec.ingest(tmp_path / "p", COLOUR, imgrec.build("store", "csv", path="none"), exclude=[pattern])
    with pytest.raises(UsageError, match=message):
        found(tmp_path, pattern)


def test_an_ignore_file_that_is_wrong_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / ".imgrecignore").write_text("b.png\n!\n")
    with pytest.raises(UsageError, match=r"/\.imgrecignore: '!' is no pattern as in \.gitignore"):
        found(tmp_path)
    (tmp_path / ".imgrecignore").unlink()
    os.mkfifo(tmp_path / ".imgrecignore")  # never waited for
    with pytest.raises(UsageError, match=r"/\.imgrecignore not a regular file"):
        found(tmp_path)


def test_folders_a_thousand_deep_and_a_root_of_everything(tmp_path: Path) -> None:
    exclusion = images.Exclusion(["/"], "*.gif")
    deep = "/a" * 5000
    assert (exclusion(f"{deep}/b.gif"), exclusion(f"{deep}/b.png")) == (True, False)
    assert exclusion(f"{deep}/@eaDir/b.png")


# --- what imgrec writes ---------------------------------------------------------------------------------------


def test_what_imgrec_has_written_is_not_taken(cli: Cli, tmp_path: Path) -> None:
    """Wherever the runs' folders are and whatever they are called."""
    for i in range(6):
        picture(tmp_path / "ab"[i % 2] / f"{i}.png", 40 * i)
    assert "6 new" in cli("ingest", ".", "extractor=colour").out
    cli("recommend", "a/0.png")
    cli("visualise", "reducer=pca", "hydra.run.dir=a/my maps")
    cli("evaluate", "-m", "metric=cosine,euclidean", "hydra.sweep.dir=my sweep")
    for name in ("outputs/*/*/recommendations.png", "a/my maps/map.png", "my sweep/leaderboard.png"):
        assert len(list(tmp_path.glob(name))) == 1
    assert "0 new, 6 unchanged, 0 moved, 0 missing, 0 failed" in cli("ingest", ".").out
    assert "1 new, 0 unchanged" in cli("ingest", "a/my maps").out  # named itself it is taken


# --- what was ingested before it was excluded, or is gone as a whole --------------------------------------------


def ingested(source: Path | Sequence[Path], store: imgrec.Store, **options: object) -> dict[str, object]:
    report = imgrec.ingest(source, COLOUR, store, **options)  # type: ignore[arg-type]
    return {name: count for name, count in vars(report).items() if count}


def missing(store: imgrec.Store) -> list[str]:
    with store:
        return sorted(Path(record.path).name for record in store.records() if record.missing)


def test_what_is_excluded_later_is_missing_until_it_is_not_excluded(
    tmp_path: Path, store: imgrec.Store, caplog: pytest.LogCaptureFixture
) -> None:
    photos = tmp_path / "photos"
    for i, name in enumerate(("a.png", "b.png", "c.png", "raw/d.png")):
        picture(photos / name, 50 * i)
    assert ingested(photos, store) == {"new": 4, "extracted": 4}
    assert ingested(photos, store, exclude="raw/") == {"unchanged": 3, "missing": 1}
    assert "1 images are excluded now, so they count as missing" in caplog.text
    assert missing(store) == ["d.png"]
    assert "d.png" not in {Path(match.path).name for match in imgrec.recommend(photos / "a.png", store)}
    caplog.clear()
    assert ingested(photos, store, exclude="raw/") == {"unchanged": 3, "missing": 1}
    assert "excluded" not in caplog.text  # it is not news
    assert ingested(photos, store) == {"unchanged": 4}
    assert missing(store) == []
    (photos / ".imgrecignore").write_text("raw/")
    assert ingested(photos, store, prune=True) == {"unchanged": 3, "missing": 1, "pruned": 1}
    assert (photos / "raw" / "d.png").exists()
    assert ingested(photos / "raw" / "d.png", store)["new"] == 1  # a file that is named itself is taken


def test_a_failure_that_is_excluded_is_forgotten(tmp_path: Path, store: imgrec.Store) -> None:
    picture(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "b.png").write_text("no picture")
    assert ingested(tmp_path / "photos", store)["failed"] == 1
    assert ingested(tmp_path / "photos", store, exclude=["b.*"]) == {"unchanged": 1}
    with store:
        assert not list(store.failures())


def test_pictures_that_nothing_reads_are_counted_by_suffix(cli: Cli, tmp_path: Path) -> None:
    picture(tmp_path / "p" / "a.png")
    for name in ("b.PSD", "c.psd", "d.xcf", "old/e.psd", "notes.txt", "no suffix"):
        picture(tmp_path / "p" / name)
    done = cli("ingest", "p", "extractor=colour", "exclude=old/")
    assert "; passed over: 2 .psd (no plugin reads it), 1 .xcf (no plugin reads it)\n" in done.out
    assert done.record()["counts"]["passed_over"] == {".psd": 2, ".xcf": 1}
    (tmp_path / "p" / "a.png").rename(tmp_path / "p" / "a.psd")
    refused = cli("ingest", "p/old", code=2)
    assert "there are no images in" in refused.err
    assert "but 1 .psd (no plugin reads it)" in refused.err


def test_patterns_of_any_characters_on_the_command_line(cli: Cli, tmp_path: Path) -> None:
    for i, name in enumerate(("a.png", "#b.png", "c d.png", "[e].png", "f,g.png", "h/i.png")):
        picture(tmp_path / "p" / name, 20 * i)
    patterns = [r"\#b.png", "c d.png", r"\[e\].png", "f,g.png", "h/"]
    for pattern in patterns:
        store = f"store.path={abs(hash(pattern))}.sqlite"
        assert "5 new" in cli("ingest", "p", "extractor=colour", store, f"exclude={pattern}").out
    assert "3 new" in cli("ingest", "p", "extractor=colour", r"exclude=[\#b.png, 'f,g.png', h/]").out


def test_a_folder_that_is_deleted_is_missing_and_forgotten_on_request(
    tmp_path: Path, store: imgrec.Store, cli: Cli
) -> None:
    for i in range(6):
        picture(tmp_path / "photos" / str(i // 4) / f"{i}.png", 40 * i)
    gone = tmp_path / "photos" / "1"
    ingested(tmp_path / "photos", store)
    shutil.rmtree(gone)
    assert ingested(gone, store) == {"missing": 2}
    assert missing(store) == ["4.png", "5.png"]
    with pytest.raises(UsageError, match="mistyped' does not exist"):
        ingested(tmp_path / "mistyped", store)
    with pytest.raises(UsageError, match="mistyped' does not exist"):
        ingested([gone, tmp_path / "mistyped"], store)
    assert ingested([gone, tmp_path / "photos" / "0"], store, prune=True) == {
        "unchanged": 4,
        "missing": 2,
        "pruned": 2,
    }
    with pytest.raises(UsageError, match="does not exist"):  # nothing is known of it any more
        ingested(gone, store)
    shutil.rmtree(tmp_path / "photos")
    with pytest.raises(UsageError, match="4 of the gallery's 4 images are missing"):
        ingested(tmp_path / "photos", store, prune=True)
    assert len(missing(store)) == 4
    words = [f"store={store.name}", f"store.path={store.location}"]
    assert "4 missing" in cli("ingest", "photos", *words).out
    assert "does not exist" in cli("ingest", "mistyped", *words, code=2).err
    assert "4 pruned" in cli("ingest", "photos", "prune=true", "force=true", *words).out


@pytest.mark.parametrize("is_mount_point", [True, False])
def test_a_drive_that_is_unplugged_loses_nothing(
    tmp_path: Path, store: imgrec.Store, monkeypatch: pytest.MonkeyPatch, is_mount_point: bool
) -> None:
    """As the system tells it: the mount point is then of another filesystem, and empty or without the folder."""
    drive, plugged = tmp_path / "drive", True
    root = drive if is_mount_point else drive / "photos"
    for i in range(6):
        picture((root if i < 2 else tmp_path / "here") / f"{i}.png", 40 * i)
    monkeypatch.setattr(
        images, "filesystem", lambda path: "usb" if plugged and str(path).startswith(str(drive)) else "disk"
    )
    sources = [root, tmp_path / "here"]
    assert ingested(sources, store)["new"] == 6
    drive.rename(tmp_path / "away")
    drive.mkdir()
    plugged = False
    for _ in range(2):
        assert ingested(sources, store) == {"unchanged": 4, "missing": 2}
        with pytest.raises(
            UsageError, match=r"2 images are missing, and none was forgotten: the drive of .*drive"
        ):
            ingested(sources, store, prune=True)
    drive.rmdir()
    (tmp_path / "away").rename(drive)
    plugged = True
    assert ingested(sources, store) == {"unchanged": 6}
    shutil.rmtree(root)
    assert ingested(sources, store, prune=True) == {"unchanged": 4, "missing": 2, "pruned": 2}


def test_of_an_older_gallery_it_is_not_known_where_a_source_was(tmp_path: Path, store: imgrec.Store) -> None:
    for i in range(6):
        picture(tmp_path / "photos" / str(i // 4) / f"{i}.png", 40 * i)
    ingested(tmp_path / "photos", store)
    with store:
        store.write(imgrec.Batch(metadata={drives.FILESYSTEMS: None}))
    shutil.rmtree(tmp_path / "photos" / "1")
    with pytest.raises(UsageError, match="may be unplugged"):
        ingested(tmp_path / "photos" / "1", store, prune=True)
    assert ingested(tmp_path / "photos" / "1", store, prune=True, force=True) == {"missing": 2, "pruned": 2}


def test_a_filesystem_is_told_from_another(tmp_path: Path) -> None:
    here = images.filesystem(str(tmp_path))
    assert here is not None
    assert images.filesystem(str(tmp_path / "gone" / "as well")) == here
    if Path("/proc/self").exists():
        assert images.filesystem("/proc/self") != here
