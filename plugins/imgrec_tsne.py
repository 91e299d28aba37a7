"""t-SNE, by openTSNE."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

import imgrec
from imgrec import NeighbourReducer, Vectors, neighbours, option

log = logging.getLogger(__name__)

EXAGGERATED = 250
"""Steps of early exaggeration, openTSNE's default."""

TOLD_EVERY = 10
"""Steps between updates of the progress bar."""

MANY = 10_000
"""Points from which threads pay: at each step of few they wait for each other. On two busy cores 713 points take
2 s of the processor by one thread and 13 s by two, 5,000 take 11 s and 20 s; the maps are the same."""

GRID = 1.5
"""Width of the interpolation grid's cells for repulsive forces; openTSNE's default is 1. With 50,000 points, 1.5
takes two thirds of the time and keeps 0.289 of the ten nearest neighbours instead of 0.296."""


@dataclass
class TSNE(NeighbourReducer):
    """t-SNE (van der Maaten and Hinton 2008; FIt-SNE, Linderman et al. 2019): similar images become clusters.

    Initialised with principal components (Kobak and Berens 2019) to preserve the global structure.
    """

    requires: ClassVar[Mapping[str, str]] = {"openTSNE": "openTSNE"}

    n_components: int = option(2, minimum=1, maximum=2, help="dimensions of the result")
    perplexity: float = option(30.0, minimum=1, help="about how many neighbours pull at a point")
    exaggeration: float | None = option(None, minimum=1, help="pull clusters together; null: not")
    n_iter: int = option(500, minimum=1, help="steps of the optimisation, after 250 of early exaggeration")
    n_jobs: int = option(-1, help="threads; -1: one for few points, all cores for many")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_jobs == 0 or self.n_jobs < -1:
            raise imgrec.UsageError(f"tsne.n_jobs is -1, for all cores, or a number of threads, not {self.n_jobs}")

    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        """Compute the map of these vectors; `labels` are ignored.

        Raises:
            UsageError: fewer than 5 vectors.
        """
        from openTSNE import TSNE as Model

        if len(vectors) < 5:
            raise imgrec.UsageError(f"tsne needs at least 5 images, and there are {len(vectors)}")
        self._prepare(vectors)
        affinities = self._affinities()
        with self.progress("t-SNE", EXAGGERATED + self.n_iter) as advance:
            model = Model(
                n_components=self.n_components,
                exaggeration=self.exaggeration,
                early_exaggeration_iter=EXAGGERATED,
                n_iter=self.n_iter,
                initialization="pca" if np.ptp(self._vectors, axis=0).any() else "random",  # all may be equal
                random_state=self.seed,
                n_jobs=self._threads(),
                ints_in_interval=GRID,
                callbacks=lambda *_: advance(TOLD_EVERY),
                callbacks_every_iters=TOLD_EVERY,
            )
            with _quick_fourier_transforms(self._threads()):
                self._model = model.fit(self._vectors, affinities=affinities)
        return self._embedded(self._model)

    def _affinities(self) -> Any:
        """The affinities between each vector and its neighbours."""
        from openTSNE.affinity import PerplexityBasedNN
        from openTSNE.nearest_neighbors import PrecomputedNeighbors

        vectors, perplexity = self._vectors, self._perplexity()

        class Found(PrecomputedNeighbors):  # type: ignore[misc] # openTSNE has no types
            """Precomputed neighbours of the fitted vectors; those of new vectors are searched for."""

            def query(self, query: Vectors, k: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
                rows, distances = neighbours.of_new(query, vectors, k)
                return rows.astype(np.int64), distances.astype(np.float64)

        rows, distances = self._neighbours(min(len(vectors) - 1, int(3 * perplexity)))
        found = Found(rows.astype(np.int64), distances.astype(np.float64))
        return PerplexityBasedNN(knn_index=found, perplexity=perplexity, n_jobs=self._threads())

    def _threads(self) -> int:
        return 1 if self.n_jobs == -1 and len(self._vectors) < MANY else self.n_jobs

    def _perplexity(self) -> float:
        """The perplexity option, lowered for few images, as a point needs three times as many neighbours."""
        return min(self.perplexity, (len(self._vectors) - 1) / 3)

    def _placed(self, prepared: Vectors) -> Any:
        """See `NeighbourReducer._placed`."""
        if self._model is None:
            from openTSNE import TSNEEmbedding

            self._model = TSNEEmbedding(
                self._embedding.astype(np.float64),
                self._affinities(),
                random_state=self.seed,
                n_jobs=self._threads(),
            )
        self._model.gradient_descent_params["callbacks"] = None  # no progress bar: placing is fast
        return self._model.transform(prepared, perplexity=min(5, self._perplexity()))


class _WithScipyFFT:
    """NumPy with SciPy's `fft`."""

    def __getattr__(self, name: str) -> Any:
        import scipy.fft

        return scipy.fft if name == "fft" else getattr(np, name)


@contextlib.contextmanager
def _quick_fourier_transforms(n_jobs: int) -> Iterator[None]:
    """Replace NumPy's single-threaded FFT, which dominates the time of large maps, by SciPy's parallel one.

    A private module of openTSNE is patched. If it has moved, no longer refers to NumPy, or was built with FFTW,
    openTSNE goes its own way: the map is the same, and only takes longer.
    """
    import scipy.fft

    try:
        matrix_mul: Any = importlib.import_module("openTSNE._matrix_mul.matrix_mul")
        usual = matrix_mul.np
        matrix_mul.np = _WithScipyFFT()
    except (ImportError, AttributeError, TypeError) as error:
        log.info("t-SNE's Fourier transforms by openTSNE itself: %s", error)
        yield
        return
    try:
        with scipy.fft.set_workers(n_jobs):
            yield
    finally:
        matrix_mul.np = usual


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Reducer]]:
    """This plugin's components."""
    return [TSNE]
