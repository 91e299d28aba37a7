"""What goes wrong while an ingest is at work, in real processes: nothing is lost but the batch in flight."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import imgrec
from conftest import Cli
from imgrec.errors import NoStoreError
from soak.galleries import Pictures, check_contained, check_csv, check_database, check_equal, content
from soak.kills import kill_many
from soak.rounds import follow

SLOW = """
import os, sys, time
from dataclasses import dataclass
import numpy as np
import imgrec
from imgrec import registry
from imgrec.__main__ import program

seconds, breaks_at, *words = sys.argv[1:]

@dataclass
class Slow(imgrec.Extractor):
    name = "slow"
    def extract(self, images):
        for image in images:
            Slow.seen = getattr(Slow, "seen", 0) + 1
            if Slow.seen == int(breaks_at):
                raise ValueError("out of order")
        if len(images) > 1:  # not the trial before a store is made
            print("extracting", file=sys.stderr, flush=True)
            time.sleep(float(seconds))
        return np.array([image.mean(axis=(0, 1)) for image in images], np.float32)

class Plugin:
    @imgrec.hookimpl
    def imgrec_components(self):
        return [Slow]

registry.manager().register(Plugin())
sys.argv = ["imgrec", *words]
sys.exit(program())
"""
"""The command line with one extractor more, that sleeps for some seconds a batch, and breaks at some image."""


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    """Forty small ones, of which two cannot be read."""
    pictures = Pictures(tmp_path / "pictures", 40)
    for path in pictures.paths[10:12]:
        path.write_bytes(path.read_bytes()[:30])
    return pictures


@pytest.fixture
def whole(pictures: Pictures, tmp_path: Path) -> imgrec.Store:
    """Their gallery, that nothing went wrong with."""
    store = imgrec.build("store", "sqlite", path=str(tmp_path / "whole.sqlite"))
    imgrec.ingest(pictures.folder, imgrec.build("extractor", "colour"), store)
    return store  # type: ignore[no-any-return]


def gallery(folder: Path) -> imgrec.Store:
    return imgrec.build("store", "sqlite", path=str(folder / "outputs" / "gallery.sqlite"))  # type: ignore[no-any-return]


def backup(folder: Path) -> imgrec.Store:
    return imgrec.build("store", "csv", path=str(folder / "outputs" / "gallery-csv"))  # type: ignore[no-any-return]


def check_goes_on(cli: Cli, pictures: Pictures, whole: imgrec.Store, folder: Path) -> None:
    """What is left after a fault is whole, and the next run makes what an uninterrupted one would have made."""
    check_database(Path(gallery(folder).location))
    with contextlib.suppress(NoStoreError):  # it had not come so far
        check_contained(content(gallery(folder)), content(whole))
    cli("ingest", pictures.folder, "extractor=colour", "backup=csv", cwd=folder)
    for store in (gallery(folder), backup(folder)):
        check_equal(content(store), content(whole))
    check_csv(Path(backup(folder).location))


def test_kills_at_ten_moments_cost_nothing(tmp_path: Path) -> None:
    assert kill_many(tmp_path, kills=10, images=60) >= 2


def test_a_gallery_that_follows_changes_is_as_one_built_from_nothing(tmp_path: Path) -> None:
    follow(tmp_path, images=120, rounds=6, changes=60)


@contextlib.contextmanager
def slow_ingest(
    folder: Path, pictures: Pictures, *words: str, seconds: float = 60
) -> Iterator[subprocess.Popen[str]]:
    """An ingest of batches of four, each of which takes long, in its first batch but one."""
    command = ["ingest", str(pictures.folder), "extractor=slow", "batch_size=4", *words]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(seconds), "-1", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
    try:
        assert process.stderr is not None
        assert any(line == "extracting\n" for line in process.stderr)
        yield process
    finally:
        process.kill()
        process.communicate()


def run_slow(
    folder: Path, pictures: Pictures, *words: str, breaks_at: int = -1
) -> subprocess.CompletedProcess[str]:
    """The same, without the sleep, to its end."""
    command = ["ingest", str(pictures.folder), "extractor=slow", "batch_size=4", *words]
    return subprocess.run(
        [sys.executable, "-c", SLOW, "0", str(breaks_at), *command],
        capture_output=True, text=True, cwd=folder, check=False, timeout=60,
    )  # fmt: skip


def test_after_ctrl_c_nobody_waits_for_a_batch_that_takes_long(tmp_path: Path, pictures: Pictures) -> None:
    with slow_ingest(tmp_path, pictures) as process:
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)  # the batch takes sixty
    assert process.returncode == 130
    assert "the same command goes on from here" in errors
    assert "Traceback" not in errors
    assert "0 new, 0 unchanged" in out
    assert not Path(gallery(tmp_path).location + ".lock").exists()


def test_ctrl_c_between_batches_keeps_what_was_written(
    tmp_path: Path, pictures: Pictures, whole: imgrec.Store
) -> None:
    with slow_ingest(tmp_path, pictures, "backup=csv", seconds=0.2) as process:
        assert process.stderr is not None
        for _ in range(3):
            assert any(line == "extracting\n" for line in process.stderr)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    told = int(out.split(": ")[1].split(" new")[0])
    with gallery(tmp_path) as store:
        assert 4 <= told <= len(list(store.records())) <= told + 4
    check_database(Path(gallery(tmp_path).location))
    again = run_slow(tmp_path, pictures, "backup=csv")
    assert again.returncode == 0, again.stderr
    for store in (gallery(tmp_path), backup(tmp_path)):
        found = content(store)
        assert found.records == content(whole).records
        (rows,) = found.vectors.values()
        assert len(rows) == 38


def test_an_extractor_that_raises_in_the_middle(tmp_path: Path, pictures: Pictures) -> None:
    results = [run_slow(tmp_path, pictures, "backup=csv", breaks_at=image) for image in (20, -1)]
    assert [each.returncode for each in results] == [1, 0], results[1].stderr
    (line,) = [line for line in results[0].stderr.splitlines() if "out of order" in line]
    assert line.startswith("imgrec: extractor slow of ")
    assert "18 new, 0 unchanged, 0 moved, 0 missing, 2 failed" in results[0].stdout  # five batches
    assert "20 new, 18 unchanged, 0 moved, 0 missing, 2 failed" in results[1].stdout
    assert content(gallery(tmp_path)).records == content(backup(tmp_path)).records


# --- disks --------------------------------------------------------------------------------------------------

ON_A_DISK = """
import os, subprocess, sys, time
size, disk, source, *words = sys.argv[1:]
mount = lambda *words: subprocess.run(["mount", *words], check=True)
mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk)
os.chdir(disk)
def run(*words):
    return subprocess.run([sys.executable, "-m", "imgrec", *words], capture_output=True, text=True)
def tell(done):
    print(done.returncode, done.stderr.strip().splitlines()[-1], flush=True)
"""
"""In a mount namespace of its own: a small disk, made to fail, then mended, and then copied to where we see it."""


def on_a_disk(tmp_path: Path, size: str, script: str, *words: str) -> str:
    """Run a script on a disk of its own; what it prints. What the disk holds in the end is in `tmp_path/kept`."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("needs mount namespaces (unshare -rm), which are not allowed here")
    disk = tmp_path / "disk"
    disk.mkdir()
    keep = f"\nsubprocess.run(['cp', '-a', disk + '/.', {str(tmp_path / 'kept')!r}], check=True)\n"
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", ON_A_DISK + script + keep, size, str(disk), *words],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("free", [0.1, 0.5, 1, 2, 4])
def test_a_full_disk(cli: Cli, tmp_path: Path, pictures: Pictures, whole: imgrec.Store, free: float) -> None:
    """Full before the run's folder is made, before the store is, and in the middle."""
    script = f"""
with open("ballast", "wb") as file:
    file.write(bytes({int((8 - free) * 2**20)}))
tell(run("ingest", source, "extractor=colour", "batch_size=2", "backup=csv"))
os.unlink("ballast")
"""
    told = on_a_disk(tmp_path, str(8 * 2**20), script, str(pictures.folder))
    assert told.startswith(("1 imgrec: ", "2 imgrec: "))
    assert re.search("full|No space left|disk I/O error", told), told
    check_goes_on(cli, pictures, whole, tmp_path / "kept")


def test_a_store_that_turns_read_only(cli: Cli, tmp_path: Path, pictures: Pictures) -> None:
    """As Linux makes of a disk that has errors: it is not written to any more, and read as before."""
    cli("ingest", pictures.folder, "extractor=colour", "backup=csv")
    before = content(gallery(tmp_path))
    query = str(pictures.paths[0])
    pictures.add()
    script = f"""
subprocess.run(["cp", "-a", {str(tmp_path / "outputs")!r}, disk], check=True)
mount("-o", "remount,ro", disk)
runs = "hydra.run.dir={tmp_path}/runs/"
tell(run("ingest", source, runs + "1", "backup=csv"))
tell(run("recommend", {query!r}, runs + "2"))
tell(run("recommend", {query!r}, runs + "3", "store=csv"))
"""
    ingest, *recommended = on_a_disk(tmp_path, "8000000", script, str(pictures.folder)).splitlines()
    assert ingest.startswith("2 imgrec: ")
    assert "cannot be written: Read-only file system" in ingest
    assert [line[:2] for line in recommended] == ["0 ", "0 "]
    check_equal(content(gallery(tmp_path / "kept")), before)


# --- sources ------------------------------------------------------------------------------------------------


def test_a_source_that_vanishes_takes_nothing_with_it(tmp_path: Path, cli: Cli, pictures: Pictures) -> None:
    cli("ingest", pictures.folder, "extractor=colour")
    before = content(gallery(tmp_path))
    with slow_ingest(tmp_path, pictures, seconds=0.5) as process:
        pictures.folder.rename(tmp_path / "unplugged")
        out, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"source {pictures.folder} is gone" in errors
    assert "new" in out
    assert content(gallery(tmp_path)).records == before.records
    (tmp_path / "unplugged").rename(pictures.folder)
    assert "0 new, 38 unchanged" in cli("ingest", pictures.folder, "extractor=colour").out


def test_a_folder_that_vanishes_while_it_is_read_is_missing(tmp_path: Path, cli: Cli, pictures: Pictures) -> None:
    """Its images stay recorded, with their vectors, also where they were to be read again."""
    cli("ingest", pictures.folder, "extractor=colour")
    before = content(gallery(tmp_path))
    for path in pictures.paths:
        os.utime(path, (1, 1))
    with slow_ingest(tmp_path, pictures, seconds=0.3) as process:
        for folder in sorted(pictures.folder.iterdir())[20:]:
            folder.rename(tmp_path / f"unplugged-{folder.name}")
        process.communicate(timeout=30)
    assert process.returncode == 0
    after = content(gallery(tmp_path))
    assert len(after.missing) == 20
    assert before.records.keys() == after.records.keys() | after.missing
    for folder in tmp_path.glob("unplugged-*"):
        folder.rename(pictures.folder / folder.name.removeprefix("unplugged-"))
    again = cli("ingest", pictures.folder, "extractor=colour")
    assert "0 new, 38 unchanged, 0 moved, 0 missing, 2 failed, 0 extracted" in again.out


# --- what is missing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sqlite", "csv"])
def test_pruning_forgets_what_is_missing_below_the_source(cli: Cli, tmp_path: Path, few: Path, kind: str) -> None:
    elsewhere = Pictures(tmp_path / "elsewhere", 4)
    words = ["extractor=colour", f"store={kind}"]
    cli("ingest", few, elsewhere.folder, *words)
    elsewhere.paths[0].unlink()
    cli("ingest", few, elsewhere.folder, *words)
    (few / "china" / "china-0-0.jpg").unlink()
    (few / "china" / "china-0-1.jpg").rename(few / "china" / "renamed.jpg")
    pruned = cli("ingest", few, "prune=true", *words)
    assert "forgetting 1 missing images of 16" in pruned.err
    assert "10 unchanged, 1 moved, 1 missing, 0 failed, 0 extracted, 1 pruned" in pruned.out
    assert pruned.record()["counts"]["pruned"] == 1
    with gallery(tmp_path) if kind == "sqlite" else backup(tmp_path) as store:
        left = {record.path for record in store.records()}
    assert left == {*map(str, few.rglob("*.jpg")), *map(str, elsewhere.paths)}


def test_pruning_more_than_half_of_the_gallery_is_refused(cli: Cli, tmp_path: Path, pictures: Pictures) -> None:
    cli("ingest", pictures.folder, "extractor=colour", "backup=csv")
    for path in pictures.paths[15:35]:
        path.unlink()
    refused = cli("ingest", pictures.folder, "prune=true", "backup=csv", code=2)
    assert (
        "20 of the gallery's 38 images are missing, and none was forgotten: is a drive unplugged?" in refused.err
    )
    assert refused.out.endswith("18 unchanged, 0 moved, 20 missing, 2 failed, 0 extracted\n")
    assert len(content(gallery(tmp_path)).missing) == 20
    assert "20 pruned" in cli("ingest", pictures.folder, "prune=true", "force=true", "backup=csv").out
    for store in (gallery(tmp_path), backup(tmp_path)):
        assert len(content(store).missing) == 0
        assert len(content(store).records) == 18


WITHOUT_OVERRIDING = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
for capability in (1, 2):  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, with which root reads what nobody may
    libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.executable, [sys.executable, "-m", "imgrec", *sys.argv[1:]])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="root's rights are taken away by Linux's prctl")
def test_what_may_not_be_read_is_told_and_never_forgotten(tmp_path: Path, few: Path) -> None:
    def ingest(*words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-c", WITHOUT_OVERRIDING, "ingest", str(few), "extractor=colour", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        return done.returncode, done.stdout, done.stderr

    folder, file = few / "china", few / "flower" / "flower-0-0.jpg"
    folder.chmod(0)
    file.chmod(0)
    code, out, errors = ingest()
    assert (code, f"{folder} cannot be listed: Permission denied" in errors) == (0, True)
    assert f"{file}: cannot be opened: Permission denied" in errors
    assert "5 new, 0 unchanged, 0 moved, 0 missing, 1 failed, 5 extracted" in out
    folder.chmod(0o700)
    file.chmod(0o600)
    assert "7 new, 5 unchanged, 0 moved, 0 missing, 0 failed" in ingest()[1]
    folder.chmod(0)
    file.chmod(0)
    (few / "flower" / "flower-0-1.jpg").unlink()
    code, out, errors = ingest("prune=true")
    assert "7 missing images are not forgotten: they may be there, as " in errors
    assert "forgetting 1 missing images of 12" in errors
    assert (code, "4 unchanged, 0 moved, 8 missing, 0 failed, 0 extracted, 1 pruned" in out) == (0, True), out
    folder.chmod(0o700)
    file.chmod(0o600)
    assert "0 new, 11 unchanged, 0 moved, 0 missing, 0 failed, 0 extracted" in ingest()[1]
    copies = few / "flower" / "copies"
    shutil.copytree(folder, copies)
    folder.chmod(0)
    code, out, _ = ingest()  # originals out of sight are not moved
    assert "6 new, 5 unchanged, 0 moved, 6 missing, 0 failed, 0 extracted" in out
    folder.chmod(0o700)


# --- many hands ---------------------------------------------------------------------------------------------


def test_eight_recommend_beside_an_ingest(cli: Cli, tmp_path: Path) -> None:
    """None fails, and none sees half of a batch: images come four at a time, each with its copy in the batch."""
    pictures = Pictures(tmp_path / "pictures", 150)
    first, rest = pictures.paths[:4], pictures.paths[4:]
    cli("ingest", *first, "extractor=colour", "batch_size=4")
    words = [sys.executable, "-m", "imgrec"]
    ingest = subprocess.Popen(
        [*words, "ingest", *map(str, rest), "extractor=colour", "batch_size=2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    asked = [
        subprocess.Popen(
            [*words, "recommend", str(first[0]), "k=200", "format=json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        )
        for _ in range(8)
    ]  # fmt: skip
    counts = []
    for process in asked:
        out, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        counts.append(out.count('"rank"'))
    assert "146 new" in ingest.communicate(timeout=60)[0]
    assert all(count % 2 == 1 for count in counts)  # itself left out
    assert cli("recommend", first[0], "k=200", "format=json").out.count('"rank"') == 149


def test_ingests_of_one_store_take_turns_and_the_second_finds_what_the_first_extracted(
    tmp_path: Path, pictures: Pictures
) -> None:
    with slow_ingest(tmp_path, pictures, "backup=csv", seconds=0.2) as first:
        second = run_slow(tmp_path, pictures, "backup=csv")
        out, _ = first.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0), second.stderr
    assert "38 new" in out
    assert "0 new, 38 unchanged, 0 moved, 0 missing, 2 failed, 0 extracted" in second.stdout
    assert f"process {first.pid} on" in second.stderr
    check_equal(content(gallery(tmp_path)), content(backup(tmp_path)))


def test_jobs_of_a_sweep_side_by_side_extract_once(tmp_path: Path, pictures: Pictures, cli: Cli) -> None:
    words = [sys.executable, "-m", "imgrec", "evaluate", str(pictures.folder), "extractor=colour", "labels=none"]
    jobs = [
        subprocess.Popen(
            [*words, f"metric={metric}"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for metric in ("euclidean", "cosine", "manhattan")
    ]
    for job in jobs:
        _, errors = job.communicate(timeout=60)
        assert job.returncode == 0, errors
    assert "38 unchanged" in cli("ingest", pictures.folder, "extractor=colour").out
    check_database(Path(gallery(tmp_path).location))
