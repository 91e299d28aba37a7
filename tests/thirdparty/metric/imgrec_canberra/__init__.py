"""Relative differences (Lance and Williams, 1967)."""

from dataclasses import dataclass

import numpy as np

import imgrec


@dataclass
class Canberra(imgrec.Metric):
    """The sum of absolute differences, each relative to the sum of the two values."""

    name = "canberra"

    def distances(self, query, vectors):
        """Distances from a query, `float64 (n,)`; see `Metric.distances`."""
        sizes = np.abs(vectors) + np.abs(query)
        return (np.abs(vectors - query) / np.where(sizes > 0, sizes, 1)).sum(axis=1)


@imgrec.hookimpl
def imgrec_components():
    """The components of this plugin."""
    return [Canberra]
