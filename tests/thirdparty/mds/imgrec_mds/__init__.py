from dataclasses import dataclass

import imgrec


@dataclass
class MDS(imgrec.Reducer):
    """Multidimensional scaling (Kruskal, 1964): distances on the map approximate those of the vectors."""

    def fit_transform(self, vectors, labels=None):
        from sklearn.manifold import smacof
        from sklearn.metrics import pairwise_distances

        if len(vectors) < 3:
            raise imgrec.UsageError(f"mds needs at least 3 images, and there are {len(vectors)}")
        distances = pairwise_distances(imgrec.as_euclidean(vectors, self.metric))
        places, _ = smacof(distances, n_components=self.n_components, n_init=1, random_state=self.seed)
        return places.astype("float32")


@imgrec.hookimpl
def imgrec_components():
    return [MDS]
