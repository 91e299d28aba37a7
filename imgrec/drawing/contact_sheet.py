"""Draws contact sheets of a query and its neighbours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

if TYPE_CHECKING:
    from imgrec.gallery.results import Match
from imgrec import images
from imgrec.drawing.pictures import ACCENT, BLANK, FAINT, INK, PAPER, captions, font, shortened, thumbnail
from imgrec.gallery.query import Picture

CELL, GAP, MARGIN, HEAD, CAPTION, COLUMNS = 240, 20, 28, 62, 62, 5

MOST = 100
"""The maximum number of neighbours, for a sheet 6,500 pixels high."""


def contact_sheet(
    query: str | os.PathLike[str] | Picture | None,
    matches: Sequence[Match],
    file: Path | IO[bytes],
    subtitle: str,
) -> None:
    """Draw a query beside its neighbours as a PNG: each with rank, distance and what tells it from the others.

    Args:
        query: the query's image file, or picture; None for one that is neither.
        matches: its neighbours, nearest first; only the first `MOST` are drawn. An unreadable file is drawn as an
            empty frame.
        file: where to write.
        subtitle: for example the model and metric; it is shortened to the sheet's width.
    """
    heading = "The most similar" if len(matches) == 1 else f"The {len(matches):,} most similar"
    heading += f", {MOST} of them drawn" if len(matches) > MOST else ""
    matches = matches[:MOST]
    columns = max(1, min(COLUMNS, len(matches)))
    rows = max(1, -(-len(matches) // columns))
    left = MARGIN + (CELL + 2 * GAP if query is not None else 0)
    top = MARGIN + HEAD
    size = (left + columns * (CELL + GAP) - GAP + MARGIN, top + rows * (CELL + CAPTION + GAP) - GAP + MARGIN)
    sheet = PIL.Image.new("RGB", size, PAPER)
    pen = PIL.ImageDraw.Draw(sheet)
    for text, line, (letters, colour) in (
        (heading, MARGIN - 6, (font(20, bold=True), INK)),
        (subtitle, MARGIN + 24, (font(14), FAINT)),
    ):
        pen.text((left, line), shortened(text, letters, size[0] - left - MARGIN), font=letters, fill=colour)
    if query is not None:
        pen.text((MARGIN, MARGIN - 6), "Query", font=font(20, bold=True), fill=ACCENT)
        pen.line([(left - GAP, top), (left - GAP, size[1] - MARGIN)], fill=BLANK, width=2)
        shown = query.data if isinstance(query, Picture) else os.fspath(query)
        name = query.caption if isinstance(query, Picture) else Path(query).name
        _cell(sheet, (MARGIN, top), shown, name, "", ACCENT)
    for i, (match, name) in enumerate(zip(matches, captions([match.path for match in matches]), strict=True)):
        corner = (left + i % columns * (CELL + GAP), top + i // columns * (CELL + CAPTION + GAP))
        distance = f"distance {match.distance:#.4g}".rstrip(".")
        _cell(sheet, corner, match.path, name, f"{match.rank}", INK, distance, len(match.copies))
    # four times as fast as the default, for a slightly larger file
    sheet.save(file, format="PNG", compress_level=1)


def _cell(
    sheet: PIL.Image.Image,
    corner: tuple[int, int],
    shown: str | bytes,
    name: str,
    rank: str,
    colour: str,
    distance: str = "",
    copies: int = 0,
) -> None:
    pen = PIL.ImageDraw.Draw(sheet)
    x, y = corner
    picture = thumbnail(shown, CELL)
    if picture is None:
        pen.rectangle([x, y, x + CELL - 1, y + CELL - 1], fill=BLANK)
        why = "cannot be read" if isinstance(shown, bytes) or images.is_there(shown) else "file not found"
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
        if copies:
            after = x + font(19, bold=True).getlength(rank) + 8
            pen.text(
                (after, line + 4), f"+ {copies:,} {'copy' if copies == 1 else 'copies'}", font=font(14), fill=FAINT
            )
        pen.text((x + CELL, line + 3), distance, font=font(16), fill=colour, anchor="ra")
    folder, _, last = name.rpartition(os.sep)
    folder = shortened(f"{folder}{os.sep}", font(14), CELL) if folder else ""
    taken = font(14).getlength(folder)
    if taken <= 0.6 * CELL:  # rather the file's name is shortened than the folder's
        text = folder + shortened(last, font(14), CELL - taken)
    else:
        text = shortened(name, font(14), CELL)
    pen.text((x, line + 26), text, font=font(14), fill=FAINT)
