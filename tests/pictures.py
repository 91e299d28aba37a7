"""Make the pictures of the README, in `.github/`: a contact sheet, a map, and a sweep's leaderboard.

python tests/pictures.py            makes them anew, in about a minute
python tests/pictures.py QUERY      with another query, below `test/` of the photographs

They are what imgrec itself draws of the 713 photographs of clothes in `../shared/photos/clothing` (CC0), by
MobileNet v2 from `../shared/weights`, made smaller. The leaderboard is kept as text, too: `leaderboard.txt`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import PIL.Image

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
PICTURES = ROOT / ".github"

WIDTHS = {"contact-sheet": 1600, "map": 1400, "leaderboard": 1200}
"""In pixels, at the most. A page shows them at half of that, sharp on fine displays as well."""

QUALITY = 80
"""Of WebP."""

QUERY = "dress/4ceed2f1-8e20-4439-9c27-cceb8d2257a4.jpg"

PRESET = """
defaults: [timm, _self_]
model: mobilenetv2_100
checkpoint: {checkpoint}
model_kwargs: {{pad_type: same}}
mean: [0.5, 0.5, 0.5]
std: [0.5, 0.5, 0.5]
"""


def main(query: str = QUERY) -> None:
    photos = SHARED / "photos" / "clothing"
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        preset = folder / "mine" / "extractor" / "mobilenetv2.yaml"
        preset.parent.mkdir(parents=True)
        preset.write_text(PRESET.format(checkpoint=SHARED / "weights" / "mobilenetv2_100.safetensors"))

        def imgrec(*words: str | Path) -> str:
            command = [sys.executable, "-m", "imgrec", *map(str, words), "--config-dir", "mine"]
            return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout

        imgrec("ingest", photos / "validation", "extractor=mobilenetv2")
        imgrec("recommend", photos / "test" / query, "metric=cosine")
        keep("contact-sheet", folder.glob("outputs/2*/*-recommend/recommendations.png"))
        imgrec("ingest", photos, "store.path=all.sqlite", "extractor=mobilenetv2")
        imgrec("visualise", "store.path=all.sqlite", "thumbnails=60")
        keep("map", folder.glob("outputs/2*/*-visualise/map.png"))
        extractors = "extractor=colour,hog,mobilenetv2"
        told = imgrec("-m", "evaluate", photos / "validation", extractors, "metric=euclidean,cosine")
        (PICTURES / "leaderboard.txt").write_text(told)
        keep("leaderboard", folder.glob("outputs/sweeps/*/*-evaluate/leaderboard.png"))


def keep(name: str, made: Iterator[Path]) -> None:
    """The one picture that was made, smaller."""
    (file,) = made
    with PIL.Image.open(file) as picture:
        small = picture.convert("RGB")
    width = min(WIDTHS[name], small.width)
    small = small.resize((width, round(small.height * width / small.width)), PIL.Image.Resampling.LANCZOS)
    small.save(PICTURES / f"{name}.webp", quality=QUALITY, method=6)


if __name__ == "__main__":
    main(*sys.argv[1:])
