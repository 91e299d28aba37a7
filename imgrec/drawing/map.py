"""Draws maps of galleries."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgrec.kinds import Vectors
from imgrec.paths import expanded

if TYPE_CHECKING:
    from matplotlib.axes import Axes

from imgrec.drawing.pictures import ACCENT, BLANK, INK, thumbnail

MAX_LABELS = 20

# Distinguishable colours on white, dark before light.
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
    """`float32 (n, 2)`, row-aligned with `paths`."""

    labels: list[str]
    title: str = ""
    rest: str | None = None
    """The label, if any, drawn as background."""

    def save(self, file: str | os.PathLike[str], *, thumbnails: int = 40) -> None:
        """Draw the map as PNG, PDF or SVG, by the file's suffix."""
        draw_map(self, Path(expanded(os.fspath(file))), thumbnails=thumbnails)


def draw_map(points: Map, file: Path, *, thumbnails: int = 40) -> None:
    """Draw a map: points coloured by label, a legend, and thumbnails of some images.

    Args:
        points: the map.
        file: where to write; the suffix decides the format.
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
    axes.margins(0.06, 0.14)  # room for the thumbnails above their points
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(BLANK)
    title = f"{len(points.paths):,} images: {points.title}"
    axes.set_title(title, loc="left", color=INK, fontsize=13, parse_math=False)
    _legend(axes, points, shown)
    figure.savefig(file)


def _scatter(axes: Axes, points: Map, colour_of: dict[str, str]) -> None:
    """Draw the background first, then all other points in random order, so that no label covers the others."""
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
    """Name, colour and labels of each entry of the legend: the background first, then by name."""
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
    """Area in points^2 and opacity, both smaller the more points there are."""
    return float(np.clip(9_000 / count**0.82, 0.6, 90)), float(np.clip(3.2 / count**0.14, 0.35, 0.85))


THUMBNAIL_INCHES = 0.5


def _place_thumbnails(axes: Axes, points: Map, colour_of: dict[str, str], count: int) -> None:
    """Draw thumbnails, each above its point so that the point stays visible."""
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
    """Indices of at most `count` points at least `gap` apart, drawn at random with a fixed seed."""
    order = np.random.default_rng(0).permutation(len(positions))
    chosen: list[int] = []
    while len(chosen) < count and len(order):
        chosen.append(int(order[0]))
        order = order[np.abs(positions[order] - positions[order[0]]).max(axis=1) >= max(gap, 1e-12)]
    return chosen
