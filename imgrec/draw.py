"""Pictures of results: the contact sheet of a query, the map of a gallery; pictures of several runs together."""

from __future__ import annotations

import functools
import importlib.util
import os
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from imgrec import images
from imgrec.kinds import Image, Vectors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from imgrec.gallery.gallery import Match

INK, FAINT, PAPER, ACCENT, BLANK = "#1f2328", "#6e7781", "#ffffff", "#c2410c", "#eaeef2"


# --- contact sheet ------------------------------------------------------------------------------------------

CELL, GAP, MARGIN, CAPTION, COLUMNS = 240, 20, 28, 62, 5
MOST = 100
"""How many neighbours are drawn at the most: a sheet of 6,500 pixels' height."""


def contact_sheet(query: str | os.PathLike[str], matches: Sequence[Match], file: Path, subtitle: str) -> None:
    """Draw a query beside its neighbours, each with rank, distance and name, as a PNG.

    Args:
        query: the query's image file.
        matches: its neighbours, nearest first; of more than `MOST` the first ones. One whose file cannot be
            read is drawn as an empty frame.
        file: where to.
        subtitle: the space and metric, say.
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
    pen.text((MARGIN, MARGIN - 6), "Query", font=_font(20, bold=True), fill=ACCENT)
    pen.text((left, MARGIN - 6), heading, font=_font(20, bold=True), fill=INK)
    pen.text((size[0] - MARGIN, MARGIN + 8), subtitle, font=_font(14), fill=FAINT, anchor="rs")
    pen.line([(left - GAP, top), (left - GAP, size[1] - MARGIN)], fill=BLANK, width=2)
    _cell(sheet, (MARGIN, top), os.fspath(query), "", ACCENT)
    for i, match in enumerate(matches):
        corner = (left + i % columns * (CELL + GAP), top + i // columns * (CELL + CAPTION + GAP))
        _cell(sheet, corner, match.path, f"{match.rank}", INK, f"{match.distance:#.4g}".rstrip("."))
    sheet.save(file, compress_level=1)  # four times as quick as the default, for a file that is a little larger


def _cell(
    sheet: PIL.Image.Image, corner: tuple[int, int], path: str, rank: str, colour: str, distance: str = ""
) -> None:
    pen = PIL.ImageDraw.Draw(sheet)
    x, y = corner
    picture = thumbnail(path, CELL)
    if picture is None:
        pen.rectangle([x, y, x + CELL - 1, y + CELL - 1], fill=BLANK)
        why = "cannot be read" if os.path.exists(path) else "file not found"
        pen.text((x + CELL // 2, y + CELL // 2), why, font=_font(15), fill=FAINT, anchor="mm")
    else:
        # At the bottom of its cell, so that all pictures of a row stand on the captions' line.
        sheet.paste(picture, (x + (CELL - picture.width) // 2, y + CELL - picture.height))
        width = 1 if rank else 3
        left, top = x + (CELL - picture.width) // 2 - width, y + CELL - picture.height - width
        frame = [left, top, left + picture.width + 2 * width - 1, y + CELL + width - 1]
        pen.rectangle(frame, outline=BLANK if rank else colour, width=width)
    line = y + CELL + (8 if rank else -18)
    if rank:
        pen.text((x, line), rank, font=_font(19, bold=True), fill=colour)
        pen.text((x + CELL, line + 3), distance, font=_font(16), fill=colour, anchor="ra")
    name = os.path.join(*Path(path).parts[-2:])
    pen.text((x, line + 26), _shortened(name, _font(14), CELL), font=_font(14), fill=FAINT)


def thumbnail(path: str, side: int) -> PIL.Image.Image | None:
    """An image that fits a square of `side` pixels, never enlarged above four times; None if it cannot be read."""
    try:
        data, _ = images.read(path)
        return _in_square(images.decode(data, side), side)
    except images.UnreadableImageError:
        return None


def _in_square(image: Image, side: int) -> PIL.Image.Image:
    picture = PIL.Image.fromarray(image)
    scale = min(side / picture.width, side / picture.height, 4)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, PIL.Image.Resampling.LANCZOS)


@functools.cache
def _font(size: int, *, bold: bool = False) -> PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont:
    """DejaVu Sans, which matplotlib ships, found without importing matplotlib; else Pillow's own."""
    spec = importlib.util.find_spec("matplotlib")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        file = Path(folder) / "mpl-data" / "fonts" / "ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf"
        if file.exists():
            return PIL.ImageFont.truetype(str(file), size)
    return PIL.ImageFont.load_default(size)


def _shortened(text: str, font: PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont, width: float) -> str:
    """Text that fits, its middle left out if need be: both ends of a file's name tell something."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    keep = len(text)
    shown = text
    while font.getlength(shown) > width and keep > 2:
        keep -= 1
        shown = f"{text[: (keep + 1) // 2]}…{text[-(keep // 2) :]}"
    return shown


# --- the worst queries of an evaluation ---------------------------------------------------------------------

SMALL, HIT, MISS = 150, "#1a7f37", "#cf222e"


def worst_queries(
    rows: Sequence[tuple[Image | None, str, Sequence[tuple[str, bool]]]], file: Path, subtitle: str
) -> None:
    """Draw queries, a row each, beside what was found for them: framed green where right, red where wrong.

    Args:
        rows: of each query its image, or None if it cannot be read; its caption; and of its neighbours, nearest
            first, the path and whether it is a hit.
        file: where to, as a PNG.
        subtitle: the space and metric, say.
    """
    columns = max([1, *(len(found) for _, _, found in rows)])
    left, top, step = MARGIN + SMALL + 2 * GAP, MARGIN + 40, SMALL + 34
    size = (max(left + columns * (SMALL + GAP) - GAP + MARGIN, 640), top + max(1, len(rows)) * step + MARGIN)
    sheet = PIL.Image.new("RGB", size, PAPER)
    pen = PIL.ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN - 6), f"The {len(rows)} worst queries", font=_font(20, bold=True), fill=INK)
    pen.text((size[0] - MARGIN, MARGIN + 8), subtitle, font=_font(14), fill=FAINT, anchor="rs")
    for i, (image, caption, found) in enumerate(rows):
        y = top + i * step
        _framed(sheet, (MARGIN, y), None if image is None else _in_square(image, SMALL), ACCENT)
        pen.text((MARGIN, y + SMALL + 6), _shortened(caption, _font(13), SMALL + GAP), font=_font(13), fill=INK)
        for j, (path, is_hit) in enumerate(found):
            x = left + j * (SMALL + GAP)
            _framed(sheet, (x, y), thumbnail(path, SMALL), HIT if is_hit else MISS)
            name = _shortened(Path(path).parent.name, _font(13), SMALL)
            pen.text((x, y + SMALL + 6), name, font=_font(13), fill=HIT if is_hit else MISS)
    sheet.save(file, compress_level=1)


def _framed(sheet: PIL.Image.Image, corner: tuple[int, int], picture: PIL.Image.Image | None, colour: str) -> None:
    """A picture in the middle of its square, with a frame."""
    picture = picture or PIL.Image.new("RGB", (SMALL, SMALL), BLANK)
    x, y = corner[0] + (SMALL - picture.width) // 2, corner[1] + (SMALL - picture.height) // 2
    sheet.paste(picture, (x, y))
    frame = [x - 3, y - 3, x + picture.width + 2, y + picture.height + 2]
    PIL.ImageDraw.Draw(sheet).rectangle(frame, outline=colour, width=3)


# --- pictures of several runs --------------------------------------------------------------------------------

BROADEST, NARROWEST, SHEET = 900, 240, 5_400
"""Pixels: the width of a column is between the first two, so that all of them keep to the third where they can."""


def side_by_side(titles: Sequence[str], pictures: Mapping[str, Sequence[Path | None]], file: Path) -> None:
    """Draw the pictures of runs in columns, a row for each name, as a PNG. None is enlarged.

    Args:
        titles: of the columns, one a run.
        pictures: by name, one a run; where there is none or it cannot be read, its place stays empty.
        file: where to.
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
        pen.text(corner, _shortened(title, _font(20, bold=True), width), font=_font(20, bold=True), fill=INK)
    top = MARGIN + 30
    for name, row, height in zip(pictures, rows, heights, strict=True):
        pen.text((MARGIN, top), name, font=_font(14), fill=FAINT)
        for column, picture in enumerate(row):
            x, y = MARGIN + column * (width + GAP), top + 24
            if picture is None:
                pen.rectangle([x, y, x + width - 1, y + height - 1], fill=BLANK)
            else:
                sheet.paste(picture, (x, y))
        top += height + 30 + GAP
    sheet.save(file, compress_level=1)


def _narrowed(file: Path | None, width: int) -> PIL.Image.Image | None:
    """A picture of at most a width; None if there is none or it cannot be read."""
    if file is None:
        return None
    try:
        with PIL.Image.open(file) as opened:
            picture = opened.convert("RGB")
    except (OSError, PIL.Image.DecompressionBombError):
        return None
    height = max(1, round(picture.height * width / picture.width))
    return picture.resize((width, height), PIL.Image.Resampling.LANCZOS) if picture.width > width else picture


# --- maps ---------------------------------------------------------------------------------------------------

MAX_LABELS = 20
# Twenty colours that stay apart on white, dark before light.
COLOURS = (
    "#1f77b4 #d62728 #2ca02c #9467bd #ff7f0e #17becf #e377c2 #8c564b #bcbd22 #393b79 "
    "#e7969c #637939 #843c39 #7b4173 #3182bd #e6550d #31a354 #756bb1 #ad494a #8ca252"
).split()
OTHERS = "#c4c9cf"


@dataclass(frozen=True)
class Map:
    """Images on a plane."""

    paths: list[str]
    positions: Vectors
    """`float32 (n, 2)`, one row a path."""

    labels: list[str]
    title: str = ""
    rest: str | None = None
    """The label, if any, that is only background to the others."""

    def save(self, file: str | os.PathLike[str], *, thumbnails: int = 40) -> None:
        """Draw it as a PNG (or PDF or SVG, by the file's suffix)."""
        draw_map(self, Path(file), thumbnails=thumbnails)


def draw_map(points: Map, file: Path, *, thumbnails: int = 40) -> None:
    """Draw a map: points coloured by label, a legend, and some of the images in their places.

    Args:
        points: the map.
        file: where to; the suffix decides the format.
        thumbnails: how many images to show, spread over the map.
    """
    from matplotlib.figure import Figure

    span = np.maximum(np.ptp(points.positions, axis=0), 1e-9)
    figure = Figure(figsize=(14, float(np.clip(11.5 * span[1] / span[0], 6, 12))), dpi=120, layout="constrained")
    axes = figure.subplots()
    shown = _shown_labels(points)
    colour_of = {label: colour for _, colour, members in shown for label in members}
    _scatter(axes, points, colour_of)
    _place_thumbnails(axes, points, colour_of, thumbnails)
    axes.margins(0.06, 0.14)  # room for the thumbnails, which stand above their points
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(BLANK)
    title = f"{len(points.paths):,} images: {points.title}"
    axes.set_title(title, loc="left", color=INK, fontsize=13, parse_math=False)
    _legend(axes, points, shown)
    figure.savefig(file)


def _scatter(axes: Axes, points: Map, colour_of: dict[str, str]) -> None:
    """The background first; all else in random order, so that no label lies above the others."""
    size, alpha = _point_size(len(points.paths))
    colours = np.array([colour_of[label] for label in points.labels])
    is_background = colours == OTHERS
    order = np.random.default_rng(0).permutation(len(colours))
    for part, scale in ((order[is_background[order]], 0.7), (order[~is_background[order]], 1.0)):
        x, y = points.positions[part].T
        axes.scatter(x, y, s=scale * size, c=colours[part], alpha=scale * alpha, linewidths=0, rasterized=True)


def _legend(axes: Axes, points: Map, shown: list[tuple[str, str, set[str]]]) -> None:
    from matplotlib.lines import Line2D

    counts = Counter(points.labels)
    entries = [
        (f"{_plain(name)} ({sum(counts[label] for label in members):,})", colour)
        for name, colour, members in shown
        if name
    ]
    if len(entries) < 2:
        return
    handles = [Line2D([], [], marker="o", linestyle="", markersize=9, color=colour) for _, colour in entries]
    names = [name for name, _ in entries]
    legend = axes.legend(handles, names, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=12)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _shown_labels(points: Map) -> list[tuple[str, str, set[str]]]:
    """Name, colour and labels of each entry of the legend: the rest first, then labels by name."""
    counts = Counter(points.labels)
    background = {points.rest} & counts.keys() if points.rest else set()
    ordered = [label for label, _ in counts.most_common() if label not in background]
    named = sorted(ordered if len(ordered) <= MAX_LABELS else ordered[: MAX_LABELS - 1])
    others = set(ordered) - set(named)
    shown: list[tuple[str, str, set[str]]] = []
    if others:
        shown.append((f"{len(others):,} others", OTHERS, others))
    if background:
        shown.append((points.rest or "", OTHERS, {label for label in background if label is not None}))
    colours = [ACCENT] if background and len(named) == 1 else COLOURS
    return shown + [(label, colour, {label}) for label, colour in zip(named, colours, strict=False)]


def _point_size(count: int) -> tuple[float, float]:
    """Area in points^2 and opacity: 50 images make dots to touch, 200,000 a texture."""
    return float(np.clip(9_000 / count**0.82, 0.6, 90)), float(np.clip(3.2 / count**0.14, 0.35, 0.85))


THUMBNAIL_INCHES = 0.5


def _place_thumbnails(axes: Axes, points: Map, colour_of: dict[str, str], count: int) -> None:
    """Some images, each above its point, so that the point stays in sight."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    width = axes.get_figure(root=True).get_figwidth()  # type: ignore[union-attr]
    gap = 1.25 * THUMBNAIL_INCHES / width
    foreground = np.flatnonzero([label != points.rest for label in points.labels])
    for index in foreground[
        _spread(points.positions[foreground], count, gap * np.ptp(points.positions, axis=0).max())
    ]:
        picture = thumbnail(points.paths[index], 96)
        if picture is None:
            continue
        box: Any = OffsetImage(np.asarray(picture), zoom=72 * THUMBNAIL_INCHES / 96)
        colour = colour_of[points.labels[index]]
        x, y = points.positions[index]
        note = AnnotationBbox(
            box,
            (float(x), float(y)),
            xybox=(0, 72 * 0.62 * THUMBNAIL_INCHES),
            boxcoords="offset points",
            pad=0.12,
            bboxprops={"edgecolor": colour, "linewidth": 1.6, "boxstyle": "square,pad=0"},
            zorder=3,
        )
        axes.add_artist(note)


def _spread(positions: Vectors, count: int, gap: float) -> list[int]:
    """Indices of at most `count` points, drawn at random with a fixed seed, none nearer to another than `gap`."""
    order = np.random.default_rng(0).permutation(len(positions))
    chosen: list[int] = []
    while len(chosen) < count and len(order):
        chosen.append(int(order[0]))
        order = order[np.abs(positions[order] - positions[order[0]]).max(axis=1) >= max(gap, 1e-12)]
    return chosen


# --- quality against cost -----------------------------------------------------------------------------------


LONGEST_LABEL = 60


@dataclass(frozen=True)
class Point:
    """A job of a sweep."""

    label: str
    quality: float
    cost: float
    """Above 0."""

    interval: tuple[float, float] | None = None
    """The ends of the quality's confidence interval."""

    is_best: bool = False


def quality_against_cost(points: Sequence[Point], file: Path, quality: str, cost: str) -> None:
    """Draw quality against cost: a point a job with its interval, each with its label at the right.

    Args:
        points: the jobs, one or more, in any order.
        file: where to; the suffix decides the format.
        quality: what the vertical axis is.
        cost: what the horizontal axis is, logarithmic where the costs differ by ten times or more.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    points = sorted(points, key=lambda point: (point.quality, -point.cost))
    height = max(5.0, 0.3 * len(points) + 1)
    figure = Figure(figsize=(11, height), dpi=120)
    longest = min(LONGEST_LABEL, max(len(point.label) for point in points))
    axes = figure.add_axes((0.08, 0.6 / height, max(0.3, 0.87 - 0.0079 * longest), 1 - 1.1 / height))
    costs = [point.cost for point in points]
    if max(costs) >= 10 * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.xaxis.set_minor_formatter(FuncFormatter(_first_digit_of_few))
    for point in points:
        colour = ACCENT if point.is_best else COLOURS[0]
        low, high = point.interval or (point.quality, point.quality)
        axes.plot([point.cost] * 2, [low, high], color=colour, alpha=0.35, linewidth=2.5, solid_capstyle="butt")
        axes.plot(point.cost, point.quality, "o", color=colour, markersize=8, markeredgecolor=PAPER, zorder=3)
    axes.margins(0.08, 0.08)
    axes.autoscale_view()  # at once, for the labels' heights
    axes.tick_params(which="both", length=4, color=FAINT)
    title = f"{quality} and its 95% confidence interval, against {cost}"
    axes.set_title(title, loc="left", color=INK, fontsize=13, parse_math=False)
    axes.set_xlabel(cost, color=INK, fontsize=12, parse_math=False)
    axes.set_ylabel(quality, color=INK, fontsize=12, parse_math=False)
    axes.grid(color=BLANK)
    axes.set_axisbelow(True)
    axes.spines[:].set_color(BLANK)
    _label_at_the_right(axes, points, 0.24 / (height - 1.1))
    figure.savefig(file)


def _first_digit_of_few(value: float, _: int) -> str:
    """Ticks between powers of ten: as many as have room.

    >>> [_first_digit_of_few(value, 0) for value in (20, 30, 500)]
    ['20', '', '500']
    """
    return f"{value:,g}" if f"{value:e}"[0] in "25" else ""


def _label_at_the_right(axes: Axes, points: Sequence[Point], gap: float) -> None:
    """Labels in a column beside the axes, in the order of the points' heights, each with a line to its point.

    Args:
        axes: with limits that stay.
        points: the lowest first.
        gap: between two labels at the least, as a share of the axes' height.
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [float(to_axes.transform((point.cost, point.quality))[1]) for point in points]
    for point, height in zip(points, _apart(heights, gap), strict=True):
        colour = ACCENT if point.is_best else INK
        axes.annotate(
            textwrap.shorten(_plain(point.label), LONGEST_LABEL, placeholder=" ..."),
            (point.cost, point.quality),
            xytext=(1.03, height),
            textcoords="axes fraction",
            va="center",
            color=colour,
            fontsize=11,
            fontweight="bold" if point.is_best else "normal",
            parse_math=False,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "alpha": 0.25,
                "shrinkA": 2,
                "shrinkB": 4,
                "relpos": (0, 0.5),
            },
        )


def _apart(heights: Sequence[float], gap: float) -> list[float]:
    """Ascending heights moved as little as makes them `gap` apart, by the means of those that would touch.

    >>> _apart([0.0, 0.5, 0.5], 0.1)
    [0.0, 0.45, 0.55]
    """
    groups: list[list[float]] = []  # each: the sum of where its members would have it begin, and their number
    for i, height in enumerate(heights):
        groups.append([height - i * gap, 1])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] >= groups[-1][0] / groups[-1][1]:
            total, count = groups.pop()
            groups[-1] = [groups[-1][0] + total, groups[-1][1] + count]
    starts = [total / count for total, count in groups for _ in range(int(count))]
    return [round(start + i * gap, 6) for i, start in enumerate(starts)]
