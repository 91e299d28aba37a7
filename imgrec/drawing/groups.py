"""Draws groups of duplicates."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import PIL.Image
import PIL.ImageDraw

from imgrec.drawing.contact_sheet import GAP, MARGIN
from imgrec.drawing.fonts import font
from imgrec.drawing.pictures import (
    ACCENT,
    BLANK,
    FAINT,
    INK,
    PAPER,
    SMALL,
    captions,
    fetch,
    shortened,
    thumbnail,
)
from imgrec.gallery.duplicates import Duplicate, Duplicates

GROUPS, IMAGES = 20, 8
"""How many groups are drawn at most, and of each how many images."""


def draw_groups(found: Duplicates, file: Path | IO[bytes], subtitle: str = "") -> None:
    """Draw the first groups as a PNG, a row each: the image to keep, framed, then the others.

    Args:
        found: the groups, at least one.
        file: where to write.
        subtitle: for example the space and metric.
    """
    groups = found.groups[:GROUPS]
    left, top, step = MARGIN, MARGIN + 62, SMALL + 62
    columns = max(min(len(group.images), IMAGES) for group in groups)
    size = (max(left + columns * (SMALL + GAP) - GAP + MARGIN, 640), top + len(groups) * step + MARGIN)
    sheet = PIL.Image.new("RGB", size, PAPER)
    pen = PIL.ImageDraw.Draw(sheet)
    count = len(found.groups)
    heading = f"{count:,} group{'s' if count > 1 else ''} of duplicates"
    heading += f", {GROUPS} of them drawn" if count > GROUPS else ""
    pen.text((left, MARGIN - 6), heading, font=font(20, bold=True), fill=INK)
    within = "; ".join(filter(None, [f"within {found.distance:.4g}", subtitle]))
    letters = font(14, of=within)
    pen.text((left, MARGIN + 24), shortened(within, letters, size[0] - 2 * MARGIN), font=letters, fill=FAINT)
    fetch((image.record.path for group in groups for image in group.images[:IMAGES]), SMALL)
    for i, group in enumerate(groups):
        y, names = top + i * step, captions([image.record.path for image in group.images])
        for j, (image, name) in enumerate(zip(group.images[:IMAGES], names, strict=False)):
            more = len(group.images) - IMAGES if j == IMAGES - 1 else 0
            _cell(sheet, (left + j * (SMALL + GAP), y), image, name, group.reason if j == 0 else "", max(more, 0))
    sheet.save(file, "PNG", compress_level=1)


def _cell(
    sheet: PIL.Image.Image, corner: tuple[int, int], image: Duplicate, name: str, reason: str, more: int
) -> None:
    pen, (x, y) = PIL.ImageDraw.Draw(sheet), corner
    picture = thumbnail(image.record.path, SMALL) or PIL.Image.new("RGB", (SMALL, SMALL), BLANK)
    at = x + (SMALL - picture.width) // 2, y + SMALL - picture.height
    sheet.paste(picture, at)
    if reason:
        frame = [at[0] - 3, at[1] - 3, at[0] + picture.width + 2, at[1] + picture.height + 2]
        pen.rectangle(frame, outline=ACCENT, width=3)
    apart = image.how if image.how.startswith("equal") else f"{image.distance:.4g} {image.how}"
    said = f"keep: {reason}" if reason else apart
    size = f"{image.record.width} x {image.record.height}" if image.record.width else ""
    lines = [(said, ACCENT if reason else INK), (f"and {more:,} more" if more else size, FAINT), (name, FAINT)]
    for i, (text, colour) in enumerate(lines):
        letters, at = font(12, of=text), (x, y + SMALL + 5 + 16 * i)
        pen.text(at, shortened(text, letters, SMALL + GAP - 4), font=letters, fill=colour)
