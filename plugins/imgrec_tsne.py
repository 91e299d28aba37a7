"""t-SNE, by openTSNE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

import imgrec
from imgrec.contracts import Vectors, as_euclidean
from imgrec.options import option


@dataclass
class TSNE(imgrec.Reducer):
    """t-SNE (van der Maaten and Hinton 2008; FIt-SNE, Linderman et al. 2019): similar images become clusters.

    Started from principal components, as Kobak and Berens (2019) advise, so that large shapes mean something.
    """

    requires: ClassVar[Mapping[str, str]] = {"openTSNE": "pip install openTSNE"}

    n_components: int = option(2, minimum=1, help="dimensions of the result: 1 or 2")
    perplexity: float = option(30.0, minimum=1, help="about how many neighbours pull at a point")
    exaggeration: float | None = option(None, minimum=1, help="pull clusters together; null: not")
    n_iter: int = option(500, minimum=1, help="steps of the optimisation, after 250 of early exaggeration")
    n_jobs: int = option(-1, help="threads; -1: all cores")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_jobs == 0 or self.n_jobs < -1:
            raise imgrec.UsageError(f"tsne.n_jobs is -1, for all cores, or a number of threads, not {self.n_jobs}")
        if self.n_components > 2:
            raise imgrec.UsageError("tsne makes maps of 1 or 2 dimensions: take pca or umap for more")

    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        """Learn the map of these vectors; `labels` are not used.

        Raises:
            UsageError: fewer than 5 vectors.
        """
        from openTSNE import TSNE as Model

        if len(vectors) < 5:
            raise imgrec.UsageError(f"tsne needs at least 5 images, and there are {len(vectors)}")
        self._vectors = as_euclidean(vectors, self.metric)
        model = Model(
            n_components=self.n_components,
            perplexity=self._perplexity(),
            exaggeration=self.exaggeration,
            n_iter=self.n_iter,
            initialization="pca" if np.ptp(self._vectors, axis=0).any() else "random",  # images may be all alike
            random_state=self.seed,
            n_jobs=self.n_jobs,
        )
        self._model: Any = model.fit(self._vectors)
        self._embedding: Vectors = np.asarray(self._model, dtype=np.float32)
        return self

    def _perplexity(self) -> float:
        """As asked, or less for few images: a point has three times as many neighbours as its perplexity."""
        return min(self.perplexity, (len(self._vectors) - 1) / 3)

    def fit_transform(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Vectors:
        """The map of these vectors, `float32 (n, n_components)`."""
        return self.fit(vectors, labels)._embedding

    def transform(self, vectors: Vectors) -> Vectors:
        """New points placed on the map, which stays as it is: `float32 (n, n_components)`."""
        if self._model is None:
            from openTSNE import TSNEEmbedding
            from openTSNE.affinity import PerplexityBasedNN

            affinities = PerplexityBasedNN(
                self._vectors, perplexity=self._perplexity(), random_state=self.seed, n_jobs=self.n_jobs
            )
            self._model = TSNEEmbedding(
                self._embedding.astype(np.float64), affinities, random_state=self.seed, n_jobs=self.n_jobs
            )
        placed = self._model.transform(as_euclidean(vectors, self.metric), perplexity=min(5, self._perplexity()))
        return np.asarray(placed, dtype=np.float32)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """`vectors (n, dim)` and their `embedding (n, n_components)`."""
        return {"vectors": self._vectors, "embedding": self._embedding}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Take over a `state`; neighbours are looked for again when new points come."""
        self._vectors, self._embedding, self._model = state["vectors"], state["embedding"], None
        return self


@imgrec.hookimpl
def imgrec_reducers() -> list[type[imgrec.Reducer]]:
    """This plugin's reducers."""
    return [TSNE]
