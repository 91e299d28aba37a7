"""Random projection (Johnson and Lindenstrauss, 1984)."""

from dataclasses import dataclass

import numpy as np

import imgrec
from imgrec import as_euclidean


@dataclass
class JL(imgrec.Reducer):
    """Random projection: distances are preserved approximately, better with more dimensions."""

    name = "jl"
    orthogonal: bool = imgrec.option(True, help="directions at right angles to each other")

    def fit(self, vectors, labels=None):
        """Draw the directions, `(dim, n_components)`, from the seed."""
        if not 0 < self.n_components <= vectors.shape[1] or not len(vectors):
            raise imgrec.UsageError(f"jl to {self.n_components} dimensions needs images of as many values")
        directions = np.random.default_rng(self.seed).normal(size=(vectors.shape[1], self.n_components))
        self._directions = np.linalg.qr(directions)[0] if self.orthogonal else directions
        return self

    def transform(self, vectors):
        """Project vectors, `float32 (n, n_components)`."""
        return (as_euclidean(vectors, self.metric) @ self._directions).astype(np.float32)

    def state(self):
        """The fit as arrays: `directions (dim, n_components)`."""
        return {"directions": self._directions}

    def restore(self, state):
        """Restore a fit from its `state`."""
        self._directions = state["directions"]
        return self


@imgrec.hookimpl
def imgrec_components():
    """The components of this plugin."""
    return [JL]
