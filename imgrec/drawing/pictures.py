"""Colours and thumbnails shared by all drawings."""

from __future__ import annotations

import itertools
import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

import PIL.Image
import PIL.ImageDraw

from imgrec import images
from imgrec.drawing.fonts import Letters, font
from imgrec.gallery.query import Shown, Text
from imgrec.kinds import Image

LEADING = 1.3
"""The distance of lines of text, of the letters' size."""

INK, FAINT, PAPER, ACCENT, BLANK = "#1f2328", "#6e7781", "#ffffff", "#c2410c", "#eaeef2"


FETCHED = 256
"""How many thumbnails that were fetched may wait to be drawn, some 40 MB."""

_fetched: OrderedDict[tuple[Shown, int], PIL.Image.Image | None] = OrderedDict()


def fetch(shown: Iterable[Shown], side: int) -> None:
    """Make thumbnails of pictures from elsewhere, many at a time, which `thumbnail` then has at hand, once each.

    Others are made where they are drawn.
    """
    paths = [each for each in dict.fromkeys(shown) if isinstance(each, str) and "://" in each][:FETCHED]
    for path, picture in zip(paths, images.each(lambda path: thumbnail(path, side), paths), strict=True):
        _fetched[path, side] = picture
    while len(_fetched) > FETCHED:
        _fetched.popitem(last=False)


def thumbnail(of: Shown, side: int) -> PIL.Image.Image | None:
    """An image fitted to a square of `side` pixels, enlarged at most fourfold; None if it cannot be read."""
    if isinstance(of, Text):
        return in_words(of.text, side)
    if (of, side) in _fetched:
        return _fetched.pop((of, side))
    try:
        data = images.read(of)[0] if isinstance(of, str) else of.data
        with images.warned.heard():  # the ingest told of damage
            return in_square(images.decode(data, side), side)
    except images.UnreadableImageError:
        return None


def in_square(image: Image, side: int) -> PIL.Image.Image:
    """A picture scaled to fit a square of `side` pixels."""
    picture = PIL.Image.fromarray(image)
    scale = min(side / picture.width, side / picture.height, 4)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, PIL.Image.Resampling.LANCZOS)


def in_words(text: str, side: int) -> PIL.Image.Image:
    """A text on a square of `side` pixels, in letters as large as it allows; cut if it is long."""
    inside = side - side // 6
    for size in range(side // 7, 9, -1):
        letters, most = font(size, of=text), int(inside / (size * LEADING))
        lines = _wrapped(text, letters, inside)
        if len(lines) <= most and all(letters.getlength(line) <= inside for line in lines):
            break
    if len(lines) > most:
        lines = [*lines[: most - 1], "…"]
    picture = PIL.Image.new("RGB", (side, side), PAPER)
    pen = PIL.ImageDraw.Draw(picture)
    top = (side - len(lines) * size * LEADING) / 2
    for i, line in enumerate(lines):
        fitting = shortened(line, letters, inside)
        pen.text((side / 2, top + (i + 0.5) * size * LEADING), fitting, font=letters, fill=INK, anchor="mm")
    return picture


def _wrapped(text: str, letters: Letters, width: float) -> list[str]:
    """Lines of whole words; a word that is wider has a line of its own."""
    lines: list[str] = []
    for word in text.split():
        if lines and letters.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def shortened(text: str, font: Letters, width: float) -> str:
    """Shorten text to a width by omitting its middle, as both ends of a file's name are informative."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    keep = len(text)
    shown = text
    while font.getlength(shown) > width and keep > 2:
        keep -= 1
        shown = f"{text[: (keep + 1) // 2]}…{text[-(keep // 2) :]}"
    return shown


def captions(paths: Sequence[str]) -> list[str]:
    """What tells files apart: their paths below the folder that all share; a long beginning of all names is cut.

    >>> captions(["/photos/hat/1.jpg", "/photos/shoe/1.jpg"]), captions(["/photos/hat/1.jpg"])
    (['hat/1.jpg', 'shoe/1.jpg'], ['1.jpg'])
    >>> captions(["a/holiday-in-greece-2019-1.jpg", "a/holiday-in-greece-2019-2.jpg"])
    ['…ece-2019-1.jpg', '…ece-2019-2.jpg']
    """
    parts = [Path(path).parts for path in paths]
    shared = _shared([each[:-1] for each in parts])
    names = [os.path.join(*each[shared:]) for each in parts]
    same = _shared(names) - KEPT
    is_long = len(set(names)) > 1 and same > KEPT
    return [f"…{name[same:]}" for name in names] if is_long else names


def _shared(sequences: Sequence[Sequence[str]]) -> int:
    """The number of items with which all sequences begin."""
    every = zip(*sequences, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda items: len(set(items)) == 1, every))


KEPT = 9
"""Characters that are kept of a beginning that all names share."""

SMALL, HIT, MISS = 150, "#0072b2", "#d55e00"
"""Two colours that everybody can tell apart: Okabe and Ito, Color Universal Design (2008)."""
