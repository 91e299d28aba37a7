from dataclasses import dataclass

import imgrec


@dataclass
class MDS(imgrec.Reducer):
    """Multidimensional scaling (Kruskal, 1964): distances on the map approximate those of the vectors."""

    def fit_transform(self, vectors, labels=None):
        from sklearn.manifold import MDS as Model

        if len(vectors) < 3:
            raise imgrec.UsageError(f"mds needs at least 3 images, and there are {len(vectors)}")
        model = Model(self.n_components, n_init=1, init="random", random_state=self.seed)
        return model.fit_transform(imgrec.as_euclidean(vectors, self.metric)).astype("float32")


@imgrec.hookimpl
def imgrec_components():
    return [MDS]
