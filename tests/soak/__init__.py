"""Long jobs that try to lose something: `make soak`."""

from pathlib import Path

RESULTS = Path(__file__).parent / "results.json"
"""What each part told when it last ran whole."""
