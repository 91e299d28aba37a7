"""Finds the outliers of a gallery."""

from dataclasses import dataclass

import imgrec


@dataclass(kw_only=True)
class Outliers(imgrec.Stage):
    """List the images least similar to any other, often misplaced ones."""

    k: int = imgrec.option(5, minimum=1, help="how many")
    store: imgrec.Store = imgrec.component("store", choice="sqlite")

    def execute(self, run):
        """Print the images farthest from their nearest neighbour, by Euclidean distance."""
        with imgrec.open(self.store) as gallery:
            run.reads(len(gallery), gallery.fingerprint, *gallery.similarity.sources())
            records, vectors = gallery.records, gallery.points(gallery.records)
        if len(vectors) < 2:
            raise imgrec.UsageError("outliers needs at least two images")
        from sklearn.neighbors import NearestNeighbors

        with run.timed("search"):
            nearest, _ = NearestNeighbors(n_neighbors=1).fit(vectors).kneighbors()
        apart = sorted(zip(nearest[:, 0].tolist(), (each.path for each in records), strict=True), reverse=True)
        found = [{"distance": distance, "path": path} for distance, path in apart[: self.k]]
        run.counts.update(images=len(records))
        run.write_json("results.json", {"images": found})
        run.print("\n".join(f"{each['distance']:.4f}  {each['path']}" for each in found))


@imgrec.hookimpl
def imgrec_components():
    """The components of this plugin."""
    return [Outliers]
