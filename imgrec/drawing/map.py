"""Draws maps of galleries."""

from __future__ import annotations

import html
import io
import logging
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from imgrec.kinds import Doubles, Vectors
from imgrec.paths import expanded

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend

from imgrec.drawing.fonts import font, fonts_for
from imgrec.drawing.pictures import ACCENT, BLANK, INK, PAPER, fetch, shortened, thumbnail
from imgrec.drawing.visualise import DPI, THUMBNAILS, WIDTH

log = logging.getLogger(__name__)

COLOURS = "#3f90da #ffa90e #bd1f01 #94a4a2 #832db6 #a96b59 #e76300 #b9ac70 #717581 #92dadd".split()
"""Ten colours that people with any colour vision can tell apart: Petroff, Accessible Color Sequences for Data
Visualization, arXiv:2107.02270 (2021)."""

MARKERS = "o^"
"""The marks of the first ten labels, and of the next ten, which have the same colours."""

MAX_LABELS = len(COLOURS) * len(MARKERS)

OTHERS, OTHERS_MARKER = "#aab2ba", "+"
"""What is drawn as background, by a mark of its own."""

MOST_IN_NOTEBOOK = 50_000
"""Images of a map that a notebook shows as a page, which it stores: more are shown as a picture."""

NOTEBOOK_BYTES = 2_000_000
"""Of all thumbnails in such a page."""

TRIED_TOGETHER = 64
"""Candidates for a thumbnail whose pictures are read together, if they lie elsewhere."""

LONGEST_LABEL = 220
"""Of a font of 10 pixels, in pixels: about 36 letters."""

UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""Metadata by format, so that the same map is the same file."""

FOR_EDITORS: Any = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "svg.hashsalt": "imgrec",
    "image.composite_image": False,
}
"""For matplotlib: text is text, in fonts that can be edited, each picture is one, inner names stay the same."""


@dataclass(frozen=True, repr=False)
class Map:
    """Images on a plane. A notebook shows it as a page to walk in, or as a picture where that would be large."""

    paths: list[str]
    positions: Vectors
    """`float32 (n, 2)`, row-aligned with `paths`."""

    labels: list[str]
    title: str = ""
    rest: str | None = None
    """The label, if any, drawn as background."""

    neighbours_kept: float | None = None
    """How good it is: see `visualise.neighbours_kept`."""

    def save(
        self,
        file: str | os.PathLike[str],
        *,
        thumbnails: int | None = None,
        width: float = WIDTH,
        dpi: int = DPI,
        title: str | None = None,
    ) -> None:
        """Draw the map as PNG, PDF or SVG, by the file's suffix, see `draw_map`; or as a page, if it is `.html`.

        A page has no width, and thumbnails of all images by default, see `map_page`.
        """
        path = Path(expanded(os.fspath(file)))
        if path.suffix.lower() == ".html":
            from imgrec.drawing.map_page import save_page

            save_page(self, path, title=title, thumbnails=thumbnails)
        else:
            count = THUMBNAILS if thumbnails is None else thumbnails
            draw_map(self, path, thumbnails=count, width=width, dpi=dpi, title=title)

    def __repr__(self) -> str:
        return f"<Map of {len(self.paths):,} images with {len(set(self.labels)):,} labels>"

    def _repr_html_(self) -> str | None:
        """The page that a notebook shows, in a frame of its own that may do nothing outside of it."""
        if len(self.paths) > MOST_IN_NOTEBOOK:
            return None
        from imgrec.drawing.map_page import map_page

        page = html.escape(map_page(self, most_bytes=NOTEBOOK_BYTES)[0])
        allowed = "allow-scripts allow-downloads"
        return (
            f'<iframe sandbox="{allowed}" srcdoc="{page}" style="width: 100%; height: 560px; border: 0"></iframe>'
        )

    def _repr_png_(self) -> bytes:
        """The picture that a notebook shows."""
        data = io.BytesIO()
        draw_map(self, data, width=9.0, dpi=100)
        return data.getvalue()


class _Entry(NamedTuple):
    """A line of the legend."""

    name: str
    colour: str
    marker: str
    labels: set[str]


def draw_map(
    points: Map,
    file: Path | IO[bytes],
    *,
    thumbnails: int = THUMBNAILS,
    width: float = WIDTH,
    dpi: int = DPI,
    title: str | None = None,
) -> int:
    """Draw a map: points coloured by label, a legend, and thumbnails of some images.

    Args:
        points: the map.
        file: where to write; a path's suffix decides the format, anything else gets PNG.
        thumbnails: how many images to show, beside their points and spread over the map. They are smaller the more
            there are; if there is no room for all, a warning says how many are drawn.
        width: in inches; the height follows from the map.
        dpi: pixels an inch, of PNG and of pictures inside other formats.
        title: in place of the map's own; empty for none.

    Returns:
        How many thumbnails are drawn.
    """
    import matplotlib
    from matplotlib.figure import Figure

    ending = file.suffix[1:].lower() if isinstance(file, Path) else "png"
    title = f"{len(points.paths):,} images: {points.title}".rstrip(": ") if title is None else title
    with matplotlib.rc_context(FOR_EDITORS), fonts_for([title, *set(points.labels)]):
        figure = Figure(figsize=(width, width), dpi=dpi)
        axes = figure.add_axes((0, 0, 1, 1))  # its units will be inches
        axes.set_axis_off()
        drawn = _draw(axes, points, title, thumbnails)
        figure.savefig(file, format=ending, metadata=UNDATED.get(ending))
    return drawn


def _draw(axes: Axes, points: Map, title: str, thumbnails: int) -> int:
    """Draw everything, on axes that fill their figure, and give the figure its height."""
    figure: Any = axes.get_figure()
    width = figure.get_figwidth()
    letters = float(np.clip(12 * width / WIDTH, 7, 12))  # in points
    margin = letters / 72
    shown = _shown_labels(points)
    legend, legend_width, legend_height, is_beside = _legend(axes, points, shown, letters)
    head = 2.2 * margin if title else 0.0
    field = width - 2 * margin - (legend_width + margin if is_beside else 0)
    span = np.maximum(np.ptp(points.positions, axis=0).astype(np.float64), 1e-9)
    ratio = float(np.clip(span[1] / span[0], 0.25, 1.5))
    side = 0.0
    if thumbnails:
        side = min(width / 28, math.sqrt(0.2 * field * field * ratio / min(thumbnails, len(points.paths))))
    padding = margin + 0.6 * side
    high = (field - 2 * padding) * ratio + 2 * padding
    if is_beside:
        high = max(high, legend_height)
    foot = margin + (0 if is_beside or legend is None else legend_height + margin)
    height = foot + high + (head or margin)
    figure.set_size_inches(width, height)
    axes.set(xlim=(0, width), ylim=(0, height), autoscale_on=False)
    frame = np.array([[margin, foot], [margin + field, foot + high]])
    scale = ((frame[1] - frame[0] - 2 * padding) / span).min()  # one for both axes: distances are comparable
    middle = (points.positions.min(axis=0).astype(np.float64) + points.positions.max(axis=0)) / 2
    at = frame.mean(axis=0) + (points.positions - middle) * scale
    if legend is not None:
        place = (width - margin - legend_width, foot + high / 2) if is_beside else (margin, foot / 2)
        legend.set_bbox_to_anchor(place, transform=axes.transData)
    if title:
        fitting = shortened(_plain(title), font(100, of=title), (width - 2 * margin) * 72 / (1.1 * letters) * 100)
        baseline = foot + high + 0.6 * margin
        axes.text(margin, baseline, fitting, color=INK, fontsize=1.1 * letters, parse_math=False)
    corners = frame[[0, 1, 1, 0, 0], 0], frame[[0, 0, 1, 1, 0], 1]
    axes.plot(*corners, color=BLANK, linewidth=width / WIDTH)
    size = max(0.3, _point_size(len(at)) * (width / WIDTH) ** 2)
    _scatter(axes, points, at, shown, size)
    dot = math.sqrt(size) / 144 + 0.02
    return _place_thumbnails(axes, points, at, shown, thumbnails, side, dot, frame)


def _scatter(axes: Axes, points: Map, at: Doubles, shown: Sequence[_Entry], size: float) -> None:
    """Draw the background first, then all other points in random order, so that no label covers the others.

    Points are opaque, so that colours do not mix; where several labels share one place, each is a ring.
    """
    numbers = _entry_numbers(points, shown)
    area = size * (1 + 0.9 * _layers(points.positions, numbers)) ** 2
    order = np.random.default_rng(0).permutation(len(at))
    order = order[np.argsort(-area[order], kind="stable")]
    for marker in OTHERS_MARKER + MARKERS:
        chosen = [number for number, entry in enumerate(shown) if entry.marker == marker]
        part = order[np.isin(numbers[order], chosen)]
        is_background = marker == OTHERS_MARKER
        axes.scatter(
            at[part, 0],
            at[part, 1],
            s=(0.6 if is_background else 1) * area[part],
            c=[shown[number].colour for number in numbers[part]],
            marker=marker,
            edgecolors=None if is_background else PAPER,
            linewidths=math.sqrt(size) / 8 if is_background else 0.4 if size > 12 else 0,  # in points
            rasterized=len(at) > 10_000,
            zorder=1 if is_background else 2,
        )


def _entry_numbers(points: Map, shown: Sequence[_Entry]) -> Any:
    """The row of each point's entry, `intp (n,)`."""
    number_of = {label: number for number, entry in enumerate(shown) for label in entry.labels}
    return np.array([number_of[label] for label in points.labels], dtype=np.intp)


def _layers(positions: Vectors, numbers: Any) -> Any:
    """For points at one place: 0 for those of one label there, 1 for those of the next, ...

    >>> _layers(np.array([[0, 0], [0, 0], [1, 0], [0, 0]], np.float32), np.array([4, 7, 7, 4])).tolist()
    [0, 1, 0, 0]
    """
    _, places = np.unique(positions, axis=0, return_inverse=True)
    pairs, pair_of = np.unique(np.column_stack([places.ravel(), numbers]), axis=0, return_inverse=True)
    first = np.searchsorted(pairs[:, 0], pairs[:, 0])
    return (np.arange(len(pairs)) - first)[pair_of.ravel()]


def _legend(
    axes: Axes, points: Map, shown: Sequence[_Entry], letters: float
) -> tuple[Legend | None, float, float, bool]:
    """The legend, its width and height in inches, and whether it is to stand beside the map or below it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.lines import Line2D

    counts = Counter(points.labels)
    entries = [entry for entry in shown if entry.name]
    if len(entries) < 2:
        return None, 0.0, 0.0, True
    figure: Any = axes.get_figure()
    canvas = FigureCanvasAgg(figure)
    handles = [
        Line2D([], [], marker=entry.marker, linestyle="", markersize=0.75 * letters, color=entry.colour)
        for entry in entries
    ]
    sums = [sum(counts[label] for label in entry.labels) for entry in entries]
    words = [shortened(_plain(entry.name), font(10, of=entry.name), LONGEST_LABEL) for entry in entries]
    names = [f"{word} ({count:,})" for word, count in zip(words, sums, strict=True)]

    def made(columns: int) -> tuple[Legend, float, float]:
        legend = axes.legend(
            handles,
            names,
            loc="center left",
            ncols=columns,
            frameon=False,
            fontsize=letters,
            borderpad=0,
            borderaxespad=0,
            handletextpad=0.4,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
        extent = legend.get_window_extent(canvas.get_renderer())  # type: ignore[no-untyped-call]
        return legend, extent.width / figure.dpi, extent.height / figure.dpi

    width = figure.get_figwidth()
    legend, wide, high = made(1)
    if wide <= 0.3 * width and high <= width:
        return legend, wide, high, True
    columns = max(1, min(len(entries), int((width - letters / 36) / (wide + 2 * letters / 72))))
    return *made(columns), False


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _shown_labels(points: Map) -> list[_Entry]:
    """The entries of the legend: the background first, then by name."""
    counts = Counter(points.labels)
    background = {points.rest} & counts.keys() if points.rest else set()
    ordered = [label for label, _ in counts.most_common() if label not in background]
    named = sorted(ordered if len(ordered) <= MAX_LABELS else ordered[: MAX_LABELS - 1])
    others = set(ordered) - set(named)
    shown: list[_Entry] = []
    if others:
        shown.append(_Entry(f"{len(others):,} others", OTHERS, OTHERS_MARKER, others))
    if background:
        labels = {label for label in background if label is not None}
        shown.append(_Entry(points.rest or "", OTHERS, OTHERS_MARKER, labels))
    colours = [ACCENT] if background and len(named) == 1 else COLOURS
    marks = [(colour, marker) for marker in MARKERS for colour in colours]
    return shown + [_Entry(label, *mark, {label}) for label, mark in zip(named, marks, strict=False)]


def _point_size(count: int) -> float:
    """Area in points^2 on a map of the usual width, smaller the more points there are."""
    return float(np.clip(9_000 / count**0.82, 1.2, 90))


# --- thumbnails ---------------------------------------------------------------------------------------------


def _place_thumbnails(
    axes: Axes,
    points: Map,
    at: Doubles,
    shown: Sequence[_Entry],
    count: int,
    side: float,
    dot: float,
    frame: Doubles,
) -> int:
    """Draw thumbnails beside their points, each joined to its own, where they cover few other points.

    Args:
        axes: whose units are inches.
        points: the map.
        at: places of the points, in inches, `float64 (n, 2)`.
        shown: the entries of the legend.
        count: how many to draw.
        side: of a thumbnail, in inches.
        dot: the radius of a point, in inches.
        frame: the lower left and the upper right corner of the map, in inches.

    Returns:
        How many are drawn.
    """
    figure: Any = axes.get_figure()
    entries = _entry_numbers(points, shown)
    foreground = np.flatnonzero([label != points.rest for label in points.labels])
    wanted = min(count, len(np.unique(at[foreground], axis=0)))  # copies lie at one place
    crowd = _Crowd(at, frame, max(side / 8, 0.01))
    taken: Doubles = np.empty((0, 2))
    owners: Doubles = np.empty((0, 2))
    candidates = foreground[_spread(at[foreground], 8 * wanted, 0.4 * side)]
    pixels = max(64, round(side * figure.dpi))
    for number, index in enumerate(candidates):
        if len(taken) == wanted:
            break
        if number % TRIED_TOGETHER == 0:
            fetch((points.paths[each] for each in candidates[number : number + TRIED_TOGETHER]), pixels)
        place = _free_place(at[index], taken, owners, crowd, side, dot, frame)
        picture = None if place is None else thumbnail(points.paths[index], pixels)
        if place is None or picture is None:
            continue
        taken, owners = np.vstack([taken, place]), np.vstack([owners, at[index]])
        half = np.array(picture.size) / max(picture.size) * side / 2
        (left, low), (right, high) = place - half, place + half
        colour = shown[entries[index]].colour
        thin = 1.4 * figure.get_figwidth() / WIDTH
        axes.plot(*zip(at[index], place, strict=True), color=colour, linewidth=thin, zorder=3)
        axes.imshow(np.asarray(picture), extent=(left, right, low, high), aspect="auto", zorder=4)
        axes.plot(
            [left, right, right, left, left], [low, low, high, high, low], color=colour, linewidth=thin, zorder=5
        )
    axes.scatter(owners[:, 0], owners[:, 1], s=(144 * (dot - 0.02)) ** 2 * 0.25, c=INK, linewidths=0, zorder=6)
    if len(taken) < wanted:
        told = log.info if count == THUMBNAILS else log.warning  # nobody has asked for the default
        told("%d of %d thumbnails are drawn: there is no room, or no file, for more", len(taken), wanted)
    return len(taken)


def _free_place(
    point: Doubles, taken: Doubles, owners: Doubles, crowd: _Crowd, side: float, dot: float, frame: Doubles
) -> Doubles | None:
    """The middle of a square beside a point that covers no other square, no owner of one, and fewest points."""
    if (np.abs(taken - point).max(axis=1, initial=0) < side / 2 + dot).any():
        return None  # another thumbnail is there
    turns = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    around = np.column_stack([np.sin(turns), np.cos(turns)])
    around /= np.abs(around).max(axis=1, keepdims=True)  # on a square
    nearest = side / 2 + dot
    places = np.concatenate([point + (nearest + step * side) * around for step in (0.08, 0.35, 0.7)])
    is_free = ((places - side / 2 >= frame[0]) & (places + side / 2 <= frame[1])).all(axis=1)
    for centres, least in ((taken, 1.06 * side), (owners, side / 2 + dot)):
        is_free &= ~np.any(np.abs(places[:, None] - centres).max(axis=2) < least, axis=1)
    if not is_free.any():
        return None
    costs = np.where(is_free, crowd.inside(places, side / 2) + np.repeat([0, 0.2, 0.5], len(turns)), np.inf)
    found: Doubles = places[np.argmin(costs)]
    return found


class _Crowd:
    """How many points are in a square, from sums over a grid (Crow, 1984)."""

    def __init__(self, at: Doubles, frame: Doubles, cell: float) -> None:
        edges = [np.arange(low, high + 2 * cell, cell) for low, high in frame.T]
        counts, *_ = np.histogram2d(*at.T, bins=edges)  # type: ignore[call-overload]
        self._sums = np.pad(counts.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
        self._origin, self._cell = frame[0], cell

    def inside(self, centres: Doubles, half: float) -> Doubles:
        """How many points are in squares of `2 * half`, to the nearest cell, `float64 (n,)`."""
        last = np.array(self._sums.shape) - 1
        low, high = (
            np.clip(np.round((centres + way * half - self._origin) / self._cell).astype(int), 0, last)
            for way in (-1, 1)
        )
        sums = self._sums
        found: Doubles = (
            sums[high[:, 0], high[:, 1]]
            - sums[low[:, 0], high[:, 1]]
            - sums[high[:, 0], low[:, 1]]
            + sums[low[:, 0], low[:, 1]]
        )
        return found


def _spread(positions: Vectors | Doubles, count: int, gap: float) -> list[int]:
    """Indices of at most `count` points at least `gap` apart, drawn at random with a fixed seed."""
    order = np.random.default_rng(0).permutation(len(positions))
    chosen: list[int] = []
    while len(chosen) < count and len(order):
        chosen.append(int(order[0]))
        order = order[np.abs(positions[order] - positions[order[0]]).max(axis=1) >= max(gap, 1e-12)]
    return chosen
