"""Draws the pictures of several runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from imgrec.drawing.contact_sheet import CELL, GAP, MARGIN
from imgrec.drawing.fonts import font
from imgrec.drawing.pictures import BLANK, FAINT, INK, PAPER, shortened

BROADEST, NARROWEST, SHEET = 900, 240, 5_400
"""In pixels: the maximum and minimum width of a column, and the target width of the sheet."""


def side_by_side(titles: Sequence[str], pictures: Mapping[str, Sequence[Path | None]], file: Path) -> None:
    """Draw pictures of several runs as a PNG: a column per run, a row per name. Pictures are never enlarged.

    Args:
        titles: the title of each column.
        pictures: by name, one per run; the place of a missing or unreadable one stays empty.
        file: where to write.
    """
    width = min(BROADEST, max(NARROWEST, SHEET // len(titles)))
    rows = [[_narrowed(picture, width) for picture in row] for row in pictures.values()]
    heights = [max((picture.height for picture in row if picture), default=CELL) for row in rows]
    size = (
        2 * MARGIN + len(titles) * (width + GAP) - GAP,
        2 * MARGIN + 30 + sum(heights) + len(rows) * (30 + GAP),
    )
    sheet = PIL.Image.new("RGB", size, PAPER)
    pen = PIL.ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        corner = (MARGIN + column * (width + GAP), MARGIN - 6)
        letters = font(20, bold=True, of=title)
        pen.text(corner, shortened(title, letters, width), font=letters, fill=INK)
    top = MARGIN + 30
    for name, row, height in zip(pictures, rows, heights, strict=True):
        pen.text((MARGIN, top), name, font=font(14), fill=FAINT)
        for column, picture in enumerate(row):
            x, y = MARGIN + column * (width + GAP), top + 24
            if picture is None:
                pen.rectangle([x, y, x + width - 1, y + height - 1], fill=BLANK)
            else:
                sheet.paste(picture, (x, y))
        top += height + 30 + GAP
    sheet.save(file, compress_level=1)


def _narrowed(file: Path | None, width: int) -> PIL.Image.Image | None:
    """A picture scaled down to a width if wider; None if it is missing or cannot be read."""
    if file is None:
        return None
    try:
        with PIL.Image.open(file) as opened:
            picture = opened.convert("RGB")
    except (OSError, PIL.Image.DecompressionBombError):
        return None
    height = max(1, round(picture.height * width / picture.width))
    return picture.resize((width, height), PIL.Image.Resampling.LANCZOS) if picture.width > width else picture
