"""Cut a gallery of real photographs: 200 tiles of the two that scikit-learn ships.

python tests/tiles.py FOLDER          cuts them
python tests/tiles.py --first FOLDER  prints the first image of a folder
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import PIL.Image

SIDE = 128


def cut(folder: Path, columns: int = 10, rows: int = 10) -> list[Path]:
    """Overlapping tiles, `columns` by `rows` of each photograph, in a folder each: china and flower."""
    tiles = []
    for name in ("china", "flower"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        with files("sklearn.datasets.images").joinpath(f"{name}.jpg").open("rb") as file:
            photograph = PIL.Image.open(file).convert("RGB")
        for row in range(rows):
            for column in range(columns):
                left = column * (photograph.width - SIDE) // max(1, columns - 1)
                top = row * (photograph.height - SIDE) // max(1, rows - 1)
                tile = folder / name / f"{name}-{row}-{column}.jpg"
                photograph.crop((left, top, left + SIDE, top + SIDE)).save(tile, quality=92)
                tiles.append(tile)
    return tiles


def first_image(folder: Path) -> Path:
    """The first image below a folder."""
    from imgrec import images

    return Path(next(images.find(images.roots(folder))).path)


if __name__ == "__main__":
    if sys.argv[1] == "--first":
        from imgrec import UsageError

        try:
            print(first_image(Path(sys.argv[2])))
        except StopIteration:
            sys.exit(f"make demo: there are no pictures in PHOTOS={sys.argv[2]}")
        except UsageError as error:
            sys.exit(f"make demo: PHOTOS={sys.argv[2]}: {error}")
    else:
        print(f"{len(cut(Path(sys.argv[1])))} tiles in {sys.argv[1]}")
