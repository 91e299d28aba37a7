from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import imgrec
from imgrec import locks
from imgrec.errors import UsageError
from imgrec.kinds import Batch, Record

HOLD = """
import sys, time
from pathlib import Path
from imgrec import locks
with locks.only_writer(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def hold(file: Path) -> subprocess.Popen[str]:
    """A process that has a lock, until a line comes in."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


@pytest.mark.parametrize("how", ["released", "killed"])
def test_another_process_is_waited_for_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str) -> None:
    file = tmp_path / "a.lock"
    with hold(file) as holder:
        with locks.only_writer(tmp_path / "b.lock", "another"):
            pass  # is free
        assert not caplog.records

        def end() -> None:
            while not caplog.records:
                pass
            holder.send_signal(signal.SIGKILL) if how == "killed" else holder.communicate("\n")

        ending = threading.Thread(target=end)
        ending.start()
        with locks.only_writer(file, "the gallery"):
            assert holder.wait(30) == (-signal.SIGKILL if how == "killed" else 0)
            assert file.exists()
        ending.join()
    (told,) = caplog.messages
    assert told.startswith(f"waiting to write to the gallery: process {holder.pid} on ")
    assert "import locks with locks.only_writer(" in told  # its command, in one line
    assert not file.exists()


def test_the_next_holder_is_named_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "a.lock"
    holder = hold(file)
    done = threading.Event()

    def wait() -> None:
        with locks.only_writer(file, "it"):
            done.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    while not caplog.messages:
        pass
    file.write_text(file.read_text().replace(str(holder.pid), "7"))  # as if another one had been quicker
    while len(caplog.messages) == 1:
        pass
    assert not done.is_set()
    holder.communicate("\n")
    waiter.join()
    first, second = caplog.messages
    assert f"process {holder.pid} on " in first
    assert "process 7 on " in second


def test_ctrl_c_ends_the_wait(tmp_path: Path) -> None:
    file = tmp_path / "a.lock"
    with hold(file) as holder:
        command = [sys.executable, "-c", HOLD, str(file)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as waiter:
            assert waiter.stderr is not None
            assert waiter.stderr.readline().startswith(f"waiting to write to it: process {holder.pid} on ")
            waiter.send_signal(signal.SIGINT)
            assert waiter.wait(10) == -signal.SIGINT
            waiter.stderr.read()
        assert file.exists()
        holder.communicate("\n")
    assert not file.exists()


def test_a_removed_file_locks_nobody(tmp_path: Path) -> None:
    """Also where it has another name, and so looks as if it was there; NFS does so with what is open."""
    file = tmp_path / "a.lock"
    taken: list[int] = []
    lock_of_descriptor = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        if not taken:  # between opening and locking it
            os.link(file, tmp_path / ".nfs")
            file.unlink()
        taken.append(descriptor)
        lock_of_descriptor(descriptor, operation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", flock)
        with locks.only_writer(file, "it"):
            assert json.loads(file.read_text())["process"] == os.getpid()
    assert len(taken) > 2


def test_threads_take_turns_and_a_thread_may_nest(tmp_path: Path) -> None:
    file, inside, most = tmp_path / "a.lock", 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            with locks.only_writer(file, "it"), locks.only_writer(file, "it"):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "why"),
    [("file/a.lock", "File exists"), ("folder", "Is a directory"), ("/proc/a.lock", "No such file or directory")],
)
def test_a_lock_that_cannot_be_made_is_told(tmp_path: Path, file: str, why: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    lock = locks.only_writer(tmp_path / file, "it")
    with pytest.raises(UsageError, match=f"it cannot be written: {why}"), lock:
        pass


def test_what_a_forked_process_inherits_is_released(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "a.lock"
    script = f"""
import os, time
from pathlib import Path
from imgrec import locks
with locks.only_writer(Path({os.fspath(file)!r}), "it"):
    if not os.fork():
        time.sleep(5)
        os._exit(0)
"""
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL, timeout=10)
    with locks.only_writer(file, "it"):
        assert not caplog.records  # nobody was waited for


def test_a_forked_process_that_ends_releases_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.lock"
    script = f"""
import os, sys
from pathlib import Path
from imgrec import locks
file = Path({os.fspath(file)!r})
with locks.only_writer(file, "it"):
    child = os.fork()
    if not child:
        sys.exit()
    os.waitpid(child, 0)
    print(file.exists())
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=10)
    assert done.stdout == "True\n"


@pytest.mark.parametrize("kind", ["sqlite", "csv"])
def test_two_writers_lose_nothing(tmp_path: Path, kind: str) -> None:
    def write(who: str) -> None:
        store = imgrec.build("store", kind, path=str(tmp_path / "store"))
        with store.open(create=True):
            for i in range(20):
                store.write(Batch(records=[Record(f"/{who}{i}.jpg", f"{who}{i:02}", 1, 2)]))

    threads = [threading.Thread(target=write, args=(who,)) for who in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with imgrec.build("store", kind, path=str(tmp_path / "store")) as store:
        assert len(list(store.records())) == 80
