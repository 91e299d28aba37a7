"""What a benchmark has measured, and how it is told: as Markdown for people, as JSON for programs."""

from __future__ import annotations

from dataclasses import dataclass, field

from tables import table


@dataclass(frozen=True)
class Figure:
    """One thing measured."""

    what: str
    value: float
    unit: str
    """`s`, `ms`, `images/s`, ... or nothing, for a ratio."""

    def __str__(self) -> str:
        digits = 0 if abs(self.value) >= 100 else 1 if abs(self.value) >= 10 else 3
        return f"{self.value:,.{digits}f} {self.unit}".strip()


@dataclass(frozen=True)
class Target:
    """A figure with a bound that it is held to: a ratio, mostly."""

    what: str
    value: float
    bound: float
    at_most: bool = False
    unit: str = "x"

    @property
    def is_met(self) -> bool:
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def row(self) -> list[str]:
        number = f"{self.value:.4f}" if 0.99 < self.value < 1 else f"{self.value:,.2f}"
        return [
            self.what,
            f"{number} {self.unit}".strip(),
            f"{'at most' if self.at_most else 'at least'} {self.bound:g} {self.unit}".strip(),
            "yes" if self.is_met else "no",
        ]


@dataclass
class Report:
    """What one part of the benchmarks found."""

    about: str
    """What it was measured on."""

    figures: list[Figure] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, what: str, value: float, unit: str) -> float:
        """Keep a figure, and give its value back."""
        self.figures.append(Figure(what, float(value), unit))
        return float(value)

    def hold(self, what: str, value: float, *, at_least: float = 0, at_most: float = 0, unit: str = "x") -> None:
        """Keep a target: exactly one of the bounds is given."""
        self.targets.append(Target(what, float(value), at_most or at_least, bool(at_most), unit))

    def markdown(self) -> str:
        parts = [self.about]
        if self.figures:
            parts.append(table(["measured", ""], [[figure.what, str(figure)] for figure in self.figures]))
        if self.targets:
            parts.append(table(["in this run", "reached", "asked", "met"], [t.row() for t in self.targets]))
        return "\n\n".join([*parts, *self.notes])
