"""Plots the jobs of a sweep: quality against cost."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

from imgrec.drawing.map import COLOURS, _plain
from imgrec.drawing.pictures import ACCENT, BLANK, FAINT, INK, PAPER

LONGEST_LABEL = 60


@dataclass(frozen=True)
class Point:
    """A job of a sweep."""

    label: str
    quality: float
    cost: float
    """Above 0."""

    interval: tuple[float, float] | None = None
    """The bounds of the quality's confidence interval."""

    is_best: bool = False
    is_tie: bool = False
    """Whether the queries do not tell it from the best."""

    is_pareto: bool = False
    """Whether no other is better in one of the two without being worse in the other."""


def quality_against_cost(points: Sequence[Point], file: Path, quality: str, cost: str) -> None:
    """Plot quality against cost: one point per job, with its interval and with its label at the right.

    The best is red and bold, what ties with it red; points of the Pareto front are filled, and a line joins them.

    Args:
        points: the jobs, at least one, in any order.
        file: where to write; the suffix decides the format.
        quality: the name of the vertical axis.
        cost: the name of the horizontal axis, which is logarithmic if costs differ by a factor of ten or more.
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
    front = sorted((point for point in points if point.is_pareto), key=lambda point: point.cost)
    if len(front) > 1:
        axes.plot([p.cost for p in front], [p.quality for p in front], "--", color=FAINT, linewidth=1, zorder=1)
    for point in points:
        colour = ACCENT if point.is_best or point.is_tie else COLOURS[0]
        low, high = point.interval or (point.quality, point.quality)
        axes.plot([point.cost] * 2, [low, high], color=colour, alpha=0.35, linewidth=2.5, solid_capstyle="butt")
        filled = {"color": colour} if point.is_pareto else {"color": PAPER, "markeredgewidth": 2}
        edge = PAPER if point.is_pareto else colour
        axes.plot(point.cost, point.quality, "o", markersize=8, markeredgecolor=edge, zorder=3, **filled)
    axes.margins(0.08, 0.08)
    axes.autoscale_view()  # now, as the labels' heights depend on the limits
    axes.tick_params(which="both", length=4, color=FAINT)
    title = f"{quality} and its 95% confidence interval, against {cost}; filled: the Pareto front"
    axes.set_title(title, loc="left", color=INK, fontsize=13, parse_math=False)
    axes.set_xlabel(cost, color=INK, fontsize=12, parse_math=False)
    axes.set_ylabel(quality, color=INK, fontsize=12, parse_math=False)
    axes.grid(color=BLANK)
    axes.set_axisbelow(True)
    axes.spines[:].set_color(BLANK)
    _label_at_the_right(axes, points, 0.24 / (height - 1.1))
    figure.savefig(file)


def _first_digit_of_few(value: float, _: int) -> str:
    """Label of a minor tick between powers of ten; empty for most digits, for want of room.

    >>> [_first_digit_of_few(value, 0) for value in (20, 30, 500)]
    ['20', '', '500']
    """
    return f"{value:,g}" if f"{value:e}"[0] in "25" else ""


def _label_at_the_right(axes: Axes, points: Sequence[Point], gap: float) -> None:
    """Draw labels in a column beside the axes, in the order of the points' heights, each with a line to its point.

    Args:
        axes: the axes, with final limits.
        points: the jobs, lowest first.
        gap: the minimum distance between labels, as a fraction of the axes' height.
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [float(to_axes.transform((point.cost, point.quality))[1]) for point in points]
    for point, height in zip(points, _apart(heights, gap), strict=True):
        colour = ACCENT if point.is_best or point.is_tie else INK
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
    """Move ascending heights by the least amount that makes them `gap` apart, by isotonic regression.

    >>> _apart([0.0, 0.5, 0.5], 0.1)
    [0.0, 0.45, 0.55]
    """
    from scipy.optimize import isotonic_regression

    gaps = gap * np.arange(len(heights))
    return [round(float(place), 6) for place in isotonic_regression(heights - gaps).x + gaps]
