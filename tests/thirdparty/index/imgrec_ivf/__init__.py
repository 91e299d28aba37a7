"""Inverted lists: vectors are grouped by their nearest centre, and a search scans few of the lists."""

from dataclasses import dataclass

import numpy as np

import imgrec


@dataclass
class IVF(imgrec.Index):
    """Inverted lists (Jégou, Douze and Schmid, 2011): a query scans the lists of its nearest centres."""

    name = "ivf"
    lists: int = imgrec.option(64, minimum=1, help="how many, where there are vectors enough")
    seed: int = imgrec.option(0, minimum=0, maximum=2**32 - 1, help="of the centres that are begun with")

    def build(self, blocks, count, sample, folder):
        """Compute centres by k-means of the sample, and write row numbers and float16 vectors list by list."""
        from sklearn.cluster import KMeans

        different = len(np.unique(sample, axis=0))
        model = KMeans(min(self.lists, different), n_init=1, random_state=self.seed).fit(sample.astype(np.float64))
        centres = model.cluster_centers_.astype(np.float32)
        shape = (count, sample.shape[1])
        kept = np.lib.format.open_memmap(folder / "as-they-came.npy", "w+", np.float16, shape)
        lists, row = np.empty(count, np.int64), 0
        for block in blocks:
            lists[row : row + len(block)] = _nearest(block, centres, 1)[:, 0]
            kept[row : row + len(block)] = block
            row += len(block)
        order = np.argsort(lists, kind="stable")
        ordered = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, shape)
        for start in range(0, count, 8192):
            ordered[start : start + 8192] = kept[order[start : start + 8192]]
        (folder / "as-they-came.npy").unlink()
        starts = np.searchsorted(lists[order], np.arange(len(centres) + 1))
        np.savez(folder / "lists.npz", centres=centres, rows=order, starts=starts)

    def open(self, folder):
        """Map the vectors, and read the lists' offsets."""
        with (folder / "lists.npz").open("rb") as file, np.load(file, allow_pickle=False) as kept:
            self._centres, self._rows, self._starts = (kept[name] for name in ("centres", "rows", "starts"))
        self._vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
        if len(self._vectors) != len(self._rows):
            raise ValueError("its files are not of one index")
        return self

    def efforts(self):
        """Numbers of lists to scan."""
        count = len(self._centres)
        return sorted({max(1, count >> shift) for shift in range(8)})

    def candidates(self, queries, count, effort, usable):
        """The nearest rows in the scanned lists."""
        return [
            self._of_one(query, lists, count, usable)
            for query, lists in zip(queries, _nearest(queries, self._centres, effort), strict=True)
        ]

    def _of_one(self, query, lists, count, usable):
        places = np.concatenate([np.arange(self._starts[each], self._starts[each + 1]) for each in lists])
        if usable is not None:
            places = places[usable[self._rows[places]]]
        apart = np.square(self._vectors[places].astype(np.float32) - query).sum(axis=1)
        best = np.argpartition(apart, count)[:count] if len(places) > count else slice(None)
        return self._rows[places[best]]


def _nearest(vectors, centres, count):
    """Indices of the nearest centres, `(n, count)`."""
    apart = (centres**2).sum(axis=1) - 2 * np.einsum("ij,kj->ik", vectors, centres)
    return np.argsort(apart, axis=1, kind="stable")[:, :count]


@imgrec.hookimpl
def imgrec_components():
    """The components of this plugin."""
    return [IVF]
