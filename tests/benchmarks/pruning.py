"""The index of exact search for a million vectors: how long it takes, and the memory beside what is mapped.

It needs 15 GB of disk for a while: store, index, and the next one beside it. `IMGREC_ROWS` makes it smaller.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import imgrec
from benchmarks.report import Report
from benchmarks.search import DIM, like_real_ones
from imgrec.kinds import Batch, Record, Space

ROWS = int(os.environ.get("IMGREC_ROWS", "1000000"))
AT_ONCE = 16_384
SPACE = Space("made-0123456789ab", "made", {}, {"extractor": "made"})

CHILD = """
import json, re, sys, threading, time
from pathlib import Path
import numpy as np
import imgrec
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.similarity import of
from imgrec.search import files

peak, status = 0, Path("/proc/self/status")

def watch():  # what this process has itself: pages of mapped files, which the system can take back, are not in it
    global peak
    while True:
        peak = max(peak, int(re.search(r"RssAnon:\\s*(\\d+) kB", status.read_text())[1]))
        time.sleep(0.01)

store = imgrec.build("store", "sqlite", path=sys.argv[2]).open()
(space,) = store.spaces()
query = np.ones(int(sys.argv[3]), np.float32)
threading.Thread(target=watch, daemon=True).start()
start, begun = time.perf_counter(), time.process_time()
if sys.argv[1] == "pass":
    for _ in store.blocks(space):
        pass
elif sys.argv[1] == "index":
    files.prepare(files.whole(store, space))
else:
    assert len(Gallery(store, of(space)).search([query], 5)[0]) == 5
print(json.dumps([time.perf_counter() - start, time.process_time() - begun, peak / 1e6]))
"""


def run() -> Report:
    """Each in a process of its own, one after the other; a store that was read once before."""
    report = Report(f"{ROWS:,} x {DIM:,} float32 in a SQLite store; the memory is `RssAnon`, looked at each 10 ms")
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "gallery.sqlite")
        _fill(store, range(ROWS), rng)
        _child("pass", store)
        once, *_ = _child("pass", store)
        report.add("one pass over the store", once, "s")
        search, cpu, memory = _child("search", store)
        report.add("first search, with no index", search, "s")
        report.add("first search, with no index", cpu, "s of CPU")
        report.hold("first search over one pass", search / once, at_most=2)
        report.hold("memory of the first search", memory, at_most=1, unit="GB")
        index, cpu, memory = _child("index", store)
        report.add("index", cpu, "s of CPU")
        report.hold("index", index, at_most=60, unit="s")
        report.hold("memory of it, beside the vectors", memory, at_most=1, unit="GB")
        report.add("search with the index", _child("search", store)[0], "s")
        _fill(store, range(ROWS, ROWS + ROWS // 100), rng)
        followed, cpu, memory = _child("index", store)
        report.add("index after an ingest of 1 %", followed, "s")
        report.add("index after an ingest of 1 %", cpu, "s of CPU")
        report.add("index anew over this", index / followed, "x")
        report.hold("memory of this", memory, at_most=1, unit="GB")
    return report


def _fill(path: Path, numbers: range, rng: np.random.Generator) -> None:
    with imgrec.build("store", "sqlite", path=str(path)).open(create=True) as store:
        for start in range(numbers.start, numbers.stop, AT_ONCE):
            some = range(start, min(start + AT_ONCE, numbers.stop))
            digests = [hashlib.sha256(str(i).encode()).hexdigest() for i in some]
            records = [
                Record(f"/photos/{i:07}.jpg", digest, 1, 1) for i, digest in zip(some, digests, strict=True)
            ]
            store.write(Batch(records, vectors={SPACE: (digests, like_real_ones(len(some), rng))}))


def _child(what: str, store: Path) -> tuple[float, float, float]:
    """The seconds that something takes, those of CPU, and the gigabytes that it holds at most."""
    command = [sys.executable, "-c", CHILD, what, str(store), str(DIM)]
    seconds, cpu, peak = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return seconds, cpu, peak
