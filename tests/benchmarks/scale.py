"""Ten times the images: memory and time of an ingest, and of a second one of files that have not changed."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.ingest import photographs
from benchmarks.report import Report

SMALL, LARGE = 4_000, 40_000
DIFFERENT = 200
"""Pictures; the others are copies with other bytes behind the end, which are other files to imgrec."""

CHILD = """
import json, re, sys, time
from pathlib import Path
import imgrec
store = imgrec.build("store", "sqlite", path=sys.argv[2])
start = time.perf_counter()
summary = imgrec.ingest(sys.argv[1], imgrec.build("extractor", "colour"), store)
seconds = time.perf_counter() - start
# Not getrusage: its peak begins with what the parent had when it made this process.
peak = int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps([seconds, peak, summary.extracted, summary.unchanged]))
"""


def run() -> Report:
    """Each ingest in a process of its own, whose peak of memory the system tells."""
    report = Report(f"{SMALL:,} and {LARGE:,} JPEG files of 160 x 213, colour")
    with tempfile.TemporaryDirectory() as folder:
        pictures = [photo.read_bytes() for photo in photographs(Path(folder, "few"), DIFFERENT, (160, 213))]
        seconds, peaks = {}, {}
        for count in (SMALL, LARGE):
            source = Path(folder, str(count))
            fill(source, pictures, count)
            seconds[count], peaks[count], extracted, _ = _ingest(source)
            assert extracted == count
            report.add(f"ingest of {count:,}", count / seconds[count], "images/s")
            report.add(f"peak memory of it, {count:,} images", peaks[count], "MiB")
        again, _, _, unchanged = _ingest(source)
        assert unchanged == LARGE
    report.hold("peak memory, 40,000 over 4,000", peaks[LARGE] / peaks[SMALL], at_most=1.1)
    report.hold(
        "seconds an image, 40,000 over 4,000", seconds[LARGE] / seconds[SMALL] * SMALL / LARGE, at_most=1.1
    )
    report.hold("second ingest of 40,000 unchanged files", LARGE / again, at_least=20_000, unit="files/s")
    return report


def fill(folder: Path, pictures: list[bytes], count: int) -> None:
    """Write so many files, each of other bytes: pictures with a number behind their end."""
    for i in range(count):
        (folder / f"{i // 1000:02}").mkdir(parents=True, exist_ok=True)
        (folder / f"{i // 1000:02}" / f"{i:06}.jpg").write_bytes(
            pictures[i % len(pictures)] + i.to_bytes(4, "big")
        )


def _ingest(source: Path) -> tuple[float, float, int, int]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(source), f"{source}.sqlite"], capture_output=True, text=True, check=True
    )
    seconds, peak, extracted, unchanged = json.loads(done.stdout)
    return seconds, peak, extracted, unchanged
