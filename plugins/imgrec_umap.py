"""UMAP, by umap-learn."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

import imgrec
from imgrec import NeighbourReducer, Vectors, neighbours, no_progress, option

NO_BAR = {"disable": True}


class _Steps:
    """A file for tqdm, with which umap-learn shows its steps: it reads their number, to be shown imgrec's way."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance, self._done = advance, 0

    def write(self, text: str) -> None:
        if (shown := text.strip()).isdigit():
            self._advance(int(shown) - self._done)
            self._done = int(shown)

    def flush(self) -> None:
        """Nothing is held back."""


@dataclass
class UMAP(NeighbourReducer):
    """UMAP (McInnes, Healy and Melville 2018): neighbourhoods as in t-SNE, and more of the global structure."""

    requires: ClassVar[Mapping[str, str]] = {"umap": "imgrec[umap]"}

    n_neighbors: int = option(15, minimum=2, help="how many neighbours make a neighbourhood")
    min_dist: float = option(0.1, minimum=0, maximum=1, help="how close points may lie on the map")
    n_epochs: int | None = option(None, minimum=1, help="steps of the optimisation; null: by the number of images")

    def fit(self, vectors: Vectors, labels: Sequence[str] | None = None) -> Self:
        """Compute the map of these vectors; `labels` are ignored.

        Raises:
            UsageError: fewer than `n_components` + 2 vectors.
        """
        if len(vectors) < self.n_components + 2:
            raise imgrec.UsageError(
                f"umap needs at least {self.n_components + 2} images, and there are {len(vectors)}"
            )
        self._prepare(vectors)
        # Spectral initialisation needs considerably more points than dimensions.
        start = "spectral" if len(vectors) > 2 * self.n_components + 2 else "random"
        steps = self.n_epochs or (500 if len(vectors) <= 10_000 else 200)  # umap-learn's own
        with self.progress("UMAP", steps) as advance:
            bar = {"file": _Steps(advance), "bar_format": "{n}", "disable": self.progress is no_progress}
            self._model = self._fitted(n_epochs=self.n_epochs, init=start, tqdm_kwds=bar)
        self._model.tqdm_kwds = NO_BAR  # placing is fast
        return self._embedded(self._model.embedding_)

    def _fitted(self, **options: Any) -> Any:
        import umap

        count = min(self.n_neighbors, len(self._vectors) - 1)
        model = umap.UMAP(
            n_components=self.n_components,
            n_neighbors=count,
            precomputed_knn=self._graph(count),
            min_dist=self.min_dist,
            random_state=self.seed,
            n_jobs=1,  # implied by a seed; set explicitly to avoid the warning
            **options,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations in numba and scikit-learn
            return model.fit(self._vectors)

    def _graph(self, count: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any], Any]:
        """Neighbours as UMAP expects them, each vector itself first, and a search for those of new vectors."""
        from pynndescent import NNDescent

        vectors = self._vectors

        class Exact(NNDescent):  # type: ignore[misc] # umap-learn requires it; pynndescent has no types
            """Exact search in place of PyNNDescent's approximate one."""

            _angular_trees = False

            def __init__(self) -> None:
                """Skip building the search trees."""

            def query(self, query_data: Vectors, k: int = 10, **_: Any) -> neighbours.Neighbours:
                return neighbours.of_new(query_data, vectors, k)

        rows, distances = self._neighbours(count - 1)
        own = np.arange(len(rows), dtype=rows.dtype)[:, None]
        return np.hstack([own, rows]), np.hstack([np.zeros_like(own, np.float32), distances]), Exact()

    def _placed(self, prepared: Vectors) -> Any:
        """See `NeighbourReducer._placed`."""
        if self._model is None:
            # Rebuild the neighbour graph in zero steps, and undo UMAP's rescaling of the saved map.
            self._model = self._fitted(n_epochs=0, init=self._embedding, tqdm_kwds=NO_BAR)
            self._model.embedding_ = self._embedding.copy()
            self._model.n_epochs = self.n_epochs  # for placing new points
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._model.transform(prepared)


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Reducer]]:
    """This plugin's components."""
    return [UMAP]
