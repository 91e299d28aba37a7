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
from imgrec.drawing.fonts import font
from imgrec.drawing.pictures import ACCENT, BLANK, FAINT, INK, PAPER, captions, fetch, shortened, thumbnail
from imgrec.gallery.query import Shown
from imgrec.gallery.variants import WHOLE

CELL, GAP, MARGIN, HEAD, CAPTION, COLUMNS = 240, 20, 28, 62, 62, 5

SMALL, LINE, HEADING = (CELL - GAP) // 2, 26, 34
"""The side of one of several pictures that are asked for, the line below it, and the heading above them."""

MOST = 100
"""The maximum number of neighbours, for a sheet 6,500 pixels high."""

MOST_ASKED = 8
"""The maximum number of pictures of the query, and of those that it keeps away from."""


def contact_sheet(
    query: Sequence[Shown],
    matches: Sequence[Match],
    file: Path | IO[bytes],
    subtitle: str,
    unlike: Sequence[Shown] = (),
) -> None:
    """Draw a query beside its neighbours as a PNG: each with rank, distance and what tells it from the others.

    Args:
        query: the query's image files, their bytes, and texts; empty for one of none. Only the first
            `MOST_ASKED` are drawn.
        matches: its neighbours, nearest first; only the first `MOST` are drawn. An unreadable file is drawn as an
            empty frame.
        file: where to write.
        subtitle: for example the model and metric; it is shortened to the sheet's width.
        unlike: those that the query keeps away from, drawn below it.
    """
    heading = "The most similar" if len(matches) == 1 else f"The {len(matches):,} most similar"
    heading = heading if matches else "Nothing similar"
    heading += f", {MOST} of them drawn" if len(matches) > MOST else ""
    matches = matches[:MOST]
    columns = max(1, min(COLUMNS, len(matches)))
    rows = max(1, -(-len(matches) // columns))
    left = MARGIN + (CELL + 2 * GAP if query or unlike else 0)
    top = MARGIN + HEAD
    below = top + (_height(query) + GAP // 2 + HEADING if query else 0)
    bottoms = [top + _height(query), below + _height(unlike, small=True) if unlike else 0]
    height = max(rows * (CELL + CAPTION + GAP) - GAP, *(bottom - top for bottom in bottoms))
    size = (left + columns * (CELL + GAP) - GAP + MARGIN, top + height + MARGIN)
    sheet = PIL.Image.new("RGB", size, PAPER)
    pen = PIL.ImageDraw.Draw(sheet)
    for text, line, (letters, colour) in (
        (heading, MARGIN - 6, (font(20, bold=True, of=heading), INK)),
        (subtitle, MARGIN + 24, (font(14, of=subtitle), FAINT)),
    ):
        pen.text((left, line), shortened(text, letters, size[0] - left - MARGIN), font=letters, fill=colour)
    fetch([match.path for match in matches] + (list(query) if len(query) == 1 else []), CELL)
    fetch([*query[:MOST_ASKED], *unlike[:MOST_ASKED]], SMALL)
    if query or unlike:
        pen.line([(left - GAP, top), (left - GAP, size[1] - MARGIN)], fill=BLANK, width=2)
    if query:
        pen.text((MARGIN, MARGIN - 6), _heading("Query", query), font=font(20, bold=True), fill=ACCENT)
    if len(query) == 1:
        _cell(sheet, (MARGIN, top), query[0], _name(query[0]), "", ACCENT)
    elif query:
        _small_cells(sheet, top, query, ACCENT)
    if unlike:
        heading_at = below - HEADING if query else MARGIN - 6
        pen.text((MARGIN, heading_at), _heading("Unlike", unlike), font=font(20, bold=True), fill=INK)
        _small_cells(sheet, below, unlike, INK)
    for i, (match, name) in enumerate(zip(matches, captions([match.path for match in matches]), strict=True)):
        corner = (left + i % columns * (CELL + GAP), top + i // columns * (CELL + CAPTION + GAP))
        distance = f"{match.distance:#.4g}".rstrip(".")
        _cell(sheet, corner, match.path, name, f"{match.rank}", INK, distance, _others(match))
    # four times as fast as the default, for a slightly larger file
    sheet.save(file, format="PNG", compress_level=1)


def _name(shown: Shown) -> str:
    return Path(shown).name if isinstance(shown, str) else shown.caption


def _heading(what: str, paths: Sequence[Shown]) -> str:
    return what if len(paths) <= MOST_ASKED else f"{what}: {MOST_ASKED} of {len(paths):,}"


def _height(paths: Sequence[Shown], *, small: bool = False) -> int:
    """Of the cells of pictures that are asked for, without a gap below them."""
    if len(paths) == 1 and not small:
        return CELL + CAPTION
    return -(-min(len(paths), MOST_ASKED) // 2) * (SMALL + LINE)


def _small_cells(sheet: PIL.Image.Image, top: int, paths: Sequence[Shown], colour: str) -> None:
    """Pictures that are asked for, two in a row, each with its name below."""
    pen = PIL.ImageDraw.Draw(sheet)
    for i, path in enumerate(paths[:MOST_ASKED]):
        x, y = MARGIN + i % 2 * (SMALL + GAP), top + i // 2 * (SMALL + LINE)
        _framed(sheet, (x, y), path, SMALL, colour, 2)
        letters = font(12, of=_name(path))
        pen.text((x, y + SMALL + 4), shortened(_name(path), letters, SMALL), font=letters, fill=FAINT)


def _framed(
    sheet: PIL.Image.Image, corner: tuple[int, int], shown: Shown, side: int, colour: str, width: int
) -> None:
    """A picture in a frame; without a picture an empty one that says why."""
    pen = PIL.ImageDraw.Draw(sheet)
    x, y = corner
    picture = thumbnail(shown, side)
    if picture is None:
        pen.rectangle([x, y, x + side - 1, y + side - 1], fill=BLANK)
        is_there = not isinstance(shown, str) or images.is_there(shown)
        why = "cannot be read" if is_there else "file not found"
        pen.text((x + side // 2, y + side // 2), why, font=font(15), fill=FAINT, anchor="mm")
        return
    # Aligned at the bottom, so that all pictures of a row stand on one line.
    left, top = x + (side - picture.width) // 2, y + side - picture.height
    sheet.paste(picture, (left, top))
    frame = [left - width, top - width, left + picture.width + width - 1, y + side + width - 1]
    pen.rectangle(frame, outline=colour, width=width)


def _others(match: Match) -> str:
    """The variant that it is like, and how many images it stands for besides its own."""
    near, copies = len(match.near_copies or ()), len(match.copies)
    variant = match.variant if match.variant != WHOLE else None
    if near:
        count = f"+ {near + copies:,} near"
    else:
        count = f"+ {copies:,} {'copy' if copies == 1 else 'copies'}" if copies else ""
    return " ".join(filter(None, [count, variant]))


def _cell(
    sheet: PIL.Image.Image,
    corner: tuple[int, int],
    shown: Shown,
    name: str,
    rank: str,
    colour: str,
    distance: str = "",
    others: str = "",
) -> None:
    pen = PIL.ImageDraw.Draw(sheet)
    x, y = corner
    _framed(sheet, corner, shown, CELL, BLANK if rank else colour, 1 if rank else 3)
    line = y + CELL + (8 if rank else -18)
    if rank:
        pen.text((x, line), rank, font=font(19, bold=True), fill=colour)
        after = x + font(19, bold=True).getlength(rank) + 8
        room = x + CELL - after - 4
        if font(14).getlength(others) + font(16).getlength(said := f"distance {distance}") > room:
            said = distance  # it is known by its place
        others = shortened(others, font(14), room - font(16).getlength(said))
        pen.text((after, line + 4), others, font=font(14), fill=FAINT)
        pen.text((x + CELL, line + 3), said, font=font(16), fill=colour, anchor="ra")
    letters = font(14, of=name)
    folder, _, last = name.rpartition(os.sep)
    folder = shortened(f"{folder}{os.sep}", letters, CELL) if folder else ""
    taken = letters.getlength(folder)
    if taken <= 0.6 * CELL:  # rather the file's name is shortened than the folder's
        text = folder + shortened(last, letters, CELL - taken)
    else:
        text = shortened(name, letters, CELL)
    pen.text((x, line + 26), text, font=letters, fill=FAINT)
