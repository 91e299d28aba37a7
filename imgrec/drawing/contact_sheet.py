"""Draws contact sheets of a query and its neighbours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

if TYPE_CHECKING:
    from imgrec.gallery.results import Match
from imgrec import images
from imgrec.drawing.pictures import ACCENT, BLANK, FAINT, INK, PAPER, font, shortened, thumbnail

CELL, GAP, MARGIN, CAPTION, COLUMNS = 240, 20, 28, 62, 5

MOST = 100
"""The maximum number of neighbours, for a sheet 6,500 pixels high."""


def contact_sheet(query: str | os.PathLike[str], matches: Sequence[Match], file: Path, subtitle: str) -> None:
    """Draw a query beside its neighbours, each with rank, distance and name, as a PNG.

    Args:
        query: the query's image file.
        matches: its neighbours, nearest first; only the first `MOST` are drawn. An unreadable file is drawn as an
            empty frame.
        file: where to write.
        subtitle: for example the space and metric.
    """
    heading = f"The {len(matches)} most similar" + (f", {MOST} of them drawn" if len(matches) > MOST else "")
    matches = matches[:MOST]
    columns = max(1, min(COLUMNS, len(matches)))
    rows = max(1, -(-len(matches) // columns))
    left = MARGIN + CELL + 2 * GAP
    top = MARGIN + 40
    size = (left + columns * (CELL + GAP) - GAP + MARGIN, top + rows * (CELL + CAPTION + GAP) - GAP + MARGIN)
    sheet = PIL.Image.new("RGB", size, PAPER)
    pen = PIL.ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN - 6), "Query", font=font(20, bold=True), fill=ACCENT)
    pen.text((left, MARGIN - 6), heading, font=font(20, bold=True), fill=INK)
    pen.text((size[0] - MARGIN, MARGIN + 8), subtitle, font=font(14), fill=FAINT, anchor="rs")
    pen.line([(left - GAP, top), (left - GAP, size[1] - MARGIN)], fill=BLANK, width=2)
    _cell(sheet, (MARGIN, top), os.fspath(query), "", ACCENT)
    for i, match in enumerate(matches):
        corner = (left + i % columns * (CELL + GAP), top + i // columns * (CELL + CAPTION + GAP))
        _cell(sheet, corner, match.path, f"{match.rank}", INK, f"{match.distance:#.4g}".rstrip("."))
    sheet.save(file, compress_level=1)  # four times as fast as the default, for a slightly larger file


def _cell(
    sheet: PIL.Image.Image, corner: tuple[int, int], path: str, rank: str, colour: str, distance: str = ""
) -> None:
    pen = PIL.ImageDraw.Draw(sheet)
    x, y = corner
    picture = thumbnail(path, CELL)
    if picture is None:
        pen.rectangle([x, y, x + CELL - 1, y + CELL - 1], fill=BLANK)
        why = "cannot be read" if images.is_there(path) else "file not found"
        pen.text((x + CELL // 2, y + CELL // 2), why, font=font(15), fill=FAINT, anchor="mm")
    else:
        # Aligned at the bottom, so that all pictures of a row stand on one line.
        sheet.paste(picture, (x + (CELL - picture.width) // 2, y + CELL - picture.height))
        width = 1 if rank else 3
        left, top = x + (CELL - picture.width) // 2 - width, y + CELL - picture.height - width
        frame = [left, top, left + picture.width + 2 * width - 1, y + CELL + width - 1]
        pen.rectangle(frame, outline=BLANK if rank else colour, width=width)
    line = y + CELL + (8 if rank else -18)
    if rank:
        pen.text((x, line), rank, font=font(19, bold=True), fill=colour)
        pen.text((x + CELL, line + 3), distance, font=font(16), fill=colour, anchor="ra")
    name = os.path.join(*Path(path).parts[-2:])
    pen.text((x, line + 26), shortened(name, font(14), CELL), font=font(14), fill=FAINT)
