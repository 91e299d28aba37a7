"""Photographs with bytes changed, cut out and put in: each is decoded, or refused with a reason, and nothing else.

Decoding is done in a process of its own, so that one that dies, hangs or takes too much memory is seen.

python tests/soak/fuzz.py FOLDER SEED START END decodes some cases, for the process above it
"""

from __future__ import annotations

import io
import re
import resource
import select
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from random import Random

import numpy as np
import PIL.Image

from imgrec import images

SHARED = Path(__file__).parent.parent.parent.parent / "shared" / "photos"
SECONDS_A_CASE = 60
MOST_MEMORY = 2**30

EDGES = (0, 1, 2, 8, 255, 4_000, 16_383, 32_767, 65_535, 50_000, 2**31 - 1, 2**32 - 1)
"""Values that are put into headers, in two and in four bytes."""


@dataclass
class Counts:
    """What became of the cases."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """How many were read, refused, or ..."""

    wrong: list[str] = field(default_factory=list)
    """Those at which the process died, hung or raised, with what was seen."""

    peak: int = 0
    """Bytes that a process had in memory at the most."""

    def __str__(self) -> str:
        told = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        total = sum(self.outcomes.values())
        return f"{total:,} cases: {told}; {len(self.wrong)} wrong; peak memory {self.peak / 2**20:,.0f} MiB"


def run(count: int = 10_000, seed: int = 0) -> Counts:
    """Decode so many altered files.

    Raises:
        AssertionError: at one of them the decoding process died, hung, raised or took more than 1 GiB.
    """
    counts = Counts()
    with tempfile.TemporaryDirectory() as folder:
        for i, data in enumerate(photographs()):
            (Path(folder) / f"{i:03}").write_bytes(data)
        start = 0
        while start < count:
            start = _watch(folder, seed, start, count, counts)
    assert not counts.wrong, f"{counts}: {counts.wrong[:10]}"
    assert counts.peak < MOST_MEMORY, str(counts)
    return counts


def _watch(folder: str, seed: int, start: int, end: int, counts: Counts) -> int:
    """Have a process decode cases from one on; the case after the last that it began."""
    words = [sys.executable, __file__, folder, str(seed), str(start), str(end)]
    with tempfile.TemporaryFile("w+") as told, subprocess.Popen(words, 0, stdout=-1, stderr=told) as process:
        assert process.stdout is not None
        case, is_open = start, False
        while select.select([process.stdout], [], [], SECONDS_A_CASE)[0]:
            word, *rest = process.stdout.readline().decode().split(maxsplit=1) or [""]
            if word == "begun":
                case, is_open = int(rest[0]), True
            elif word == "peak":
                counts.peak = max(counts.peak, int(rest[0]))
            elif word:
                counts.outcomes[word] += 1
                is_open = False
            else:
                break
        else:
            process.kill()
        if process.wait() or is_open:
            told.seek(0)
            counts.outcomes["wrong"] += 1
            counts.wrong.append(f"case {case} of seed {seed}: exit {process.returncode}, {told.read()[-2_000:]}")
    return case + 1


def photographs() -> list[bytes]:
    """Real files of every format, none of more than 300 kB."""
    found = [file for file in sorted(SHARED.glob("odd/**/*.*")) if file.stat().st_size < 300_000]
    real = [file.read_bytes() for file in found]
    with files("sklearn.datasets.images").joinpath("china.jpg").open("rb") as file:
        photograph = PIL.Image.open(file).convert("RGB").resize((160, 107))
    return real + list(_in_every_format(photograph))


def _in_every_format(photograph: PIL.Image.Image) -> Iterator[bytes]:
    few, clear = photograph.quantize(64), photograph.copy()
    clear.putalpha(photograph.convert("L"))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[PIL.Image.Image, str, dict[str, object]]] = [
        (photograph, "JPEG", {"exif": exif}),
        (photograph, "JPEG", {"progressive": True}),
        (photograph.convert("CMYK"), "JPEG", {}),
        (photograph, "MPO", {"save_all": True, "append_images": [photograph.rotate(180)]}),
        (photograph, "PNG", {"exif": exif}),
        (clear, "PNG", {}),
        (few, "PNG", {"transparency": 3}),
        (PIL.Image.fromarray(np.asarray(photograph.convert("L")).astype(np.uint16) * 257), "PNG", {}),
        (photograph, "WEBP", {}),
        (clear, "WEBP", {"lossless": True, "save_all": True, "append_images": [clear.rotate(180)]}),
        (few, "GIF", {"save_all": True, "append_images": [few.rotate(180)]}),
        (photograph, "TIFF", {}),
        (photograph, "TIFF", {"compression": "tiff_lzw"}),
        (photograph, "TIFF", {"compression": "tiff_deflate"}),
        (photograph, "TIFF", {"compression": "jpeg"}),
        (clear, "TIFF", {"compression": "packbits"}),
        (photograph.convert("1"), "TIFF", {"compression": "group4"}),
        (photograph, "BMP", {}),
        (few, "BMP", {}),
        (photograph, "PPM", {}),
        (photograph, "TGA", {"compression": "tga_rle"}),
        (photograph, "JPEG2000", {}),
        (clear, "JPEG2000", {"tile_size": (64, 64)}),
        (photograph, "AVIF", {"speed": 10}),
    ]
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        pillow_heif.register_heif_opener()
        kinds.append((photograph, "HEIF", {}))
    for picture, format, options in kinds:
        file = io.BytesIO()
        picture.save(file, format, **options)
        yield file.getvalue()


# --- in the other process -----------------------------------------------------------------------------------


def altered(originals: Sequence[bytes], random: Random) -> bytes:
    """A file with one to four changes, most of them near its beginning."""
    data = bytearray(random.choice(originals))
    for _ in range(random.randint(1, 4)):
        change = random.choice((_flip, _flip, _set, _set, _cut, _truncate, _repeat, _splice))
        change(data, random, originals)
    return bytes(data)


def _place(data: bytearray, random: Random) -> int:
    """A position: in half of the cases within the header."""
    return random.randrange(max(1, min(len(data), random.choice((64, 700, len(data), len(data))))))


def _flip(data: bytearray, random: Random, _: Sequence[bytes]) -> None:
    for _i in range(random.choice((1, 1, 4, 32)) if data else 0):
        data[_place(data, random)] ^= 1 << random.randrange(8)


def _set(data: bytearray, random: Random, _: Sequence[bytes]) -> None:
    place, width = _place(data, random), random.choice((1, 2, 4))
    value = random.choice(EDGES) % 256**width
    data[place : place + width] = value.to_bytes(width, random.choice(("big", "little")))


def _cut(data: bytearray, random: Random, _: Sequence[bytes]) -> None:
    place = _place(data, random)
    del data[place : place + random.choice((1, 2, 16, 1_000))]


def _truncate(data: bytearray, random: Random, _: Sequence[bytes]) -> None:
    if not random.randrange(3):
        del data[random.randrange(max(1, len(data))) :]


def _repeat(data: bytearray, random: Random, _: Sequence[bytes]) -> None:
    place = _place(data, random)
    data[place:place] = data[place : place + random.choice((1, 16, 1_000))]


def _splice(data: bytearray, random: Random, originals: Sequence[bytes]) -> None:
    other = random.choice(originals)
    place, start = _place(data, random), random.randrange(len(other))
    data[place : place + random.choice((4, 64, 2_000))] = other[start : start + random.choice((4, 64, 2_000))]


def decode_cases(folder: Path, seed: int, start: int, end: int) -> None:
    """Decode cases, saying on stdout of each when it is begun and what became of it, and the peak of memory."""
    originals = [file.read_bytes() for file in sorted(folder.iterdir())]
    resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))  # what runs away ends here, not the machine
    for case in range(start, end):
        print(f"begun {case}", flush=True)
        random = Random(f"{seed}-{case}")
        data = altered(originals, random)
        try:
            image = images.decode(data, random.choice((None, 64, 256)))
        except images.UnreadableImageError as error:
            assert str(error), "refused without a reason"
            outcome = "refused"
        else:
            assert image.dtype == np.uint8, image.dtype
            assert image.ndim == 3, image.shape
            assert image.shape[2] == 3, image.shape
            assert image.size, image.shape
            outcome = "read"
        peak = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]
        print(f"{outcome}\npeak {int(peak) * 1024}", flush=True)


if __name__ == "__main__":
    decode_cases(Path(sys.argv[1]), *map(int, sys.argv[2:]))
