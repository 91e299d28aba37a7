"""Draws the queries with the worst results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from imgrec.drawing.contact_sheet import GAP, MARGIN
from imgrec.drawing.fonts import font
from imgrec.drawing.pictures import (
    BLANK,
    FAINT,
    HIT,
    INK,
    MISS,
    PAPER,
    SMALL,
    fetch,
    in_square,
    shortened,
    thumbnail,
)
from imgrec.kinds import Image


def worst_queries(
    rows: Sequence[tuple[Image | None, str, Sequence[tuple[str, bool]]]], file: Path, subtitle: str
) -> None:
    """Draw each query in a row with its neighbours, hits and misses told by colour, width and mark, as a PNG.

    Args:
        rows: for each query its image, or None if it cannot be read; its caption; and the path of each neighbour,
            nearest first, and whether it is a hit.
        file: where to write.
        subtitle: for example the space and metric.
    """
    columns = max([1, *(len(found) for _, _, found in rows)])
    left, top, step = MARGIN + SMALL + 2 * GAP, MARGIN + 72, SMALL + 34
    size = (max(left + columns * (SMALL + GAP) - GAP + MARGIN, 640), top + max(1, len(rows)) * step + MARGIN)
    sheet = PIL.Image.new("RGB", size, PAPER)
    pen = PIL.ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN - 6), f"The {len(rows)} worst queries", font=font(20, bold=True), fill=INK)
    letters = font(14, of=subtitle)
    pen.text((MARGIN, MARGIN + 22), shortened(subtitle, letters, size[0] - 2 * MARGIN), font=letters, fill=FAINT)
    x = MARGIN
    for text, (colour, width) in KEY.items():
        pen.rectangle([x, MARGIN + 46, x + 14, MARGIN + 60], outline=colour, width=width)
        pen.text((x + 22, MARGIN + 45), text, font=font(13), fill=colour)
        x += 22 + round(font(13).getlength(text)) + 2 * GAP
    fetch((path for *_, found in rows for path, _ in found), SMALL)
    for i, (image, caption, found) in enumerate(rows):
        y = top + i * step
        _framed(sheet, (MARGIN, y), None if image is None else in_square(image, SMALL), *KEY["query"])
        letters = font(13, of=caption)
        pen.text((MARGIN, y + SMALL + 6), shortened(caption, letters, SMALL + GAP), font=letters, fill=INK)
        for j, (path, is_hit) in enumerate(found):
            x = left + j * (SMALL + GAP)
            mark = "✓ hit" if is_hit else "✗ miss"
            _framed(sheet, (x, y), thumbnail(path, SMALL), *KEY[mark])
            name = f"{mark[0]} {Path(path).parent.name}"
            letters = font(13, of=name)
            pen.text((x, y + SMALL + 6), shortened(name, letters, SMALL), font=letters, fill=KEY[mark][0])
    sheet.save(file, compress_level=1)


KEY = {"query": (INK, 3), "✓ hit": (HIT, 5), "✗ miss": (MISS, 2)}
"""What is drawn in which colour, and how wide in pixels."""


def _framed(
    sheet: PIL.Image.Image, corner: tuple[int, int], picture: PIL.Image.Image | None, colour: str, width: int
) -> None:
    """Draw a picture centred in its square, with a frame."""
    picture = picture or PIL.Image.new("RGB", (SMALL, SMALL), BLANK)
    x, y = corner[0] + (SMALL - picture.width) // 2, corner[1] + (SMALL - picture.height) // 2
    sheet.paste(picture, (x, y))
    frame = [x - width, y - width, x + picture.width + width - 1, y + picture.height + width - 1]
    PIL.ImageDraw.Draw(sheet).rectangle(frame, outline=colour, width=width)
