"""A bucket with a great many objects, none of which has changed: looked at again, in bounded time and memory."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import imgrec
from faulty_storage import elsewhere
from imgrec import Batch, Record, Space

SECONDS_A_MILLION = 60
"""Of the processor, as others may use the machine."""

MEGABYTES = 600
"""The most that an ingest may take, whatever it looks at."""

DIGEST = "0" * 64


def run(keys: int = 1_000_000) -> str:
    """Record the objects as an ingest would, and run a second one in a process of its own."""
    with tempfile.TemporaryDirectory() as folder, elsewhere(keys) as server:
        os.environ |= server.environment
        root, file = server.url("n"), Path(folder, "gallery.sqlite")
        record(root, file)
        command = [sys.executable, "-m", "imgrec", "ingest", root, f"store.path={file}", "extractor=colour"]
        start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
        seconds = time.monotonic() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        peak = after.ru_maxrss / 1000
        assert f"{keys:,} unchanged" in done.stdout + done.stderr, done.stderr
        assert cpu <= max(5, SECONDS_A_MILLION * keys / 1_000_000), f"{cpu:.0f} s of CPU"
        assert peak <= MEGABYTES, f"{peak:.0f} MB"
        took = f"{cpu:.0f} s of CPU ({seconds:.0f} s)"
        return f"{keys:,} unchanged objects looked at in {took}, peak memory {peak:.0f} MB"


def record(root: str, file: Path) -> None:
    colour = imgrec.build("extractor", "colour")
    space = Space.of(colour)
    vector = colour.extract([np.zeros((64, 64, 3), np.uint8)])
    with imgrec.build("store", "sqlite", path=str(file)).open(create=True) as store:
        for some in imgrec.chunks(imgrec.build("source", "remote").find([root]), 10_000):
            records = [
                Record(each.path, DIGEST, each.size, each.mtime_ns, stamp=each.stamp, width=64, height=64)
                for each in some
            ]
            store.write(Batch(records, vectors={space: ([DIGEST], vector)}))
