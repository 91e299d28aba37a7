"""What a collection of any size will take, reckoned from what this machine takes for a few images."""

from imgrec.planning.measuring import Measured, measure
from imgrec.planning.reckoning import Limits, Way, ways

__all__ = ["Limits", "Measured", "Way", "measure", "ways"]
