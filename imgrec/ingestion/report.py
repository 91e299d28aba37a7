"""What an ingest found, in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from imgrec import images


@dataclass
class IngestReport:
    """The results of an ingest, in numbers of files."""

    new: int = 0
    """Extracted, or a copy of an image that was."""

    unchanged: int = 0
    moved: int = 0
    """Known by content, under a path that no longer exists."""

    missing: int = 0
    """Recorded below the source, but no longer there, or excluded."""

    failed: int = 0
    """Could not be read; see the store's failures."""

    extracted: int = 0
    """Vectors extracted."""

    pruned: int = 0
    """Missing, and forgotten on request."""

    dismissed: int = 0
    """Passed over, since they were forgotten on purpose."""

    damaged: int = 0
    """Read, though the decoder warned of damage; see the records' warnings."""

    passed_over: dict[str, int] = field(default_factory=dict)
    """Pictures by suffix that nothing installed reads; they are not opened."""

    def __str__(self) -> str:
        rare = ("pruned", "dismissed", "damaged", "passed_over")
        counts = {name: count for name, count in asdict(self).items() if count or name not in rare}
        counts.pop("passed_over", None)
        text = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        return f"{text}; passed over: {images.passed_over(self.passed_over)}" if self.passed_over else text
