"""Pseudo-relevance feedback (Rocchio, 1971)."""

from dataclasses import dataclass

import numpy as np

import imgrec


@dataclass
class Rocchio(imgrec.Reranker):
    """Pseudo-relevance feedback: the query moves towards the mean of its neighbours."""

    name = "rocchio"
    beta: float = imgrec.option(0.75, minimum=0, help="how much the mean counts; the query itself counts 1")

    def expand(self, query, nearest):
        """The weighted mean of the query and that mean, `float32 (dim,)`; see `Reranker.expand`."""
        return ((query + self.beta * nearest.mean(axis=0)) / (1 + self.beta)).astype(np.float32)


@imgrec.hookimpl
def imgrec_components():
    """The components of this plugin."""
    return [Rocchio]
