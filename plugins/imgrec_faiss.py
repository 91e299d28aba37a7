"""Faiss: inverted lists of 8-bit codes."""

from __future__ import annotations

import functools
import math
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

import imgrec
from imgrec import Numbers, Vectors, option

LISTS, LEARNED = "lists.bin", "learned.npz"
"""The files of an index: codes and then row numbers, list by list; and what was learned from the sample."""

CHUNK = 8_192
"""Rows that are encoded together, whatever the blocks: how a product is rounded may depend on their number."""

SHARD = 128 * CHUNK
"""Rows that are encoded in memory, before they are merged with the others in files."""

WIDTH = 16
"""Vectors are padded with zeros to a multiple of this length, for which Faiss has fast code."""


@dataclass
class Faiss(imgrec.Index):
    """Inverted lists of 8-bit codes, by Faiss (Douze et al. 2024): a quarter of the vectors' size, mapped.

    Vectors are grouped by their nearest centre, and a search looks at the lists of the centres that are nearest to
    its query; that is the effort.
    """

    requires: ClassVar[Mapping[str, str]] = {"faiss": "imgrec[faiss]"}

    lists: int | None = option(None, minimum=1, help="how many; null: four times the square root of the images")
    seed: int = option(0, minimum=0, maximum=2**31 - 1, help="of the centres that are begun with")

    def build(self, blocks: Iterator[Vectors], count: int, sample: Vectors, folder: Path) -> None:
        """Learn centres and the codes' ranges from the sample, encode the vectors, and write the lists."""
        points = _padded(sample)
        lists = max(1, min(self.lists or round(4 * math.sqrt(count)), len(points) // 8))
        index = _empty(points.shape[1], lists)
        index.cp.seed, index.cp.min_points_per_centroid = self.seed, 1  # the latter, so that it prints no warning
        index.train(points)
        learned = _Learned(index.quantizer.reconstruct_n(0, lists), _faiss().vector_to_array(index.sq.trained))
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            _merge(_encoded(index, learned, blocks, 0, Path(aside)), folder, gone=np.empty(0, np.int64))

    def open(self, folder: Path) -> Self:
        """Map the lists, and read what was learned."""
        self._lists = _Lists.read(folder)
        self._index = self._lists.mapped()
        return self

    def efforts(self) -> Sequence[int]:
        """Numbers of lists: 1, 2, 4, 8 to 16, 18, 20, ..., 32, 36, ..., all of them."""
        count = len(self._lists.learned.centres)
        steps = {step << shift for shift in range(count.bit_length()) for step in (1, 9, 10, 11, 12, 13, 14, 15)}
        return [*sorted(step for step in steps if step < count), count]

    def candidates(
        self, queries: Vectors, count: int, effort: int, usable: npt.NDArray[np.bool_] | None
    ) -> list[Numbers]:
        """The rows whose codes are nearest in the nearest lists."""
        faiss = _faiss()
        how: dict[str, Any] = {"nprobe": effort}
        if usable is not None:
            how["sel"] = faiss.IDSelectorBitmap(np.packbits(usable, bitorder="little"))
        _, rows = self._index.search(_padded(queries), count, params=faiss.SearchParametersIVF(**how))
        return [each[each >= 0] for each in rows]

    def update(self, older: Path, gone: Numbers, blocks: Iterator[Vectors], folder: Path) -> bool:
        """Merge the older lists, without what is gone, with those of new vectors by the older centres."""
        kept = _Lists.read(older)
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            new = _encoded(kept.learned.index(), kept.learned, blocks, kept.rows, Path(aside))
            _merge([kept, *new], folder, gone)
        return True


@dataclass(frozen=True)
class _Learned:
    """What was learned from the sample."""

    centres: Vectors
    """`float32 (lists, dim)`."""

    ranges: npt.NDArray[np.float32]
    """`(2 * dim,)`: the least value of the codes of each dimension, and how far it is to the greatest."""

    def index(self) -> Any:
        """An empty index."""
        faiss, (lists, dim) = _faiss(), self.centres.shape
        index = _empty(dim, lists)
        index.quantizer.add(self.centres)
        faiss.copy_array_to_vector(self.ranges, index.sq.trained)
        index.is_trained = True
        return index


@dataclass(frozen=True)
class _Lists:
    """The lists in a file."""

    learned: _Learned
    sizes: npt.NDArray[np.int64]
    """`(lists,)`."""

    rows: int
    """How many row numbers have been given, those of rows that are gone included."""

    file: Path

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read all but the lists.

        Raises:
            Exception: the files are not those that were written; nothing in them is run.
        """
        with (folder / LEARNED).open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            found = {name: np.ascontiguousarray(arrays[name]) for name in ("centres", "ranges", "sizes", "rows")}
        centres, ranges, sizes, rows = found.values()
        lists, dim = centres.shape
        are_right = centres.dtype == ranges.dtype == np.float32 and ranges.shape == (2 * dim,)
        are_right = are_right and sizes.shape == (lists,) and sizes.dtype == rows.dtype == np.int64
        file = folder / LISTS
        if (
            not are_right
            or (sizes < 0).any()
            or dim % WIDTH
            or file.stat().st_size != int(sizes.sum()) * (dim + 8)
        ):
            raise ValueError("its files are not of one index")
        return cls(_Learned(centres, ranges), sizes, rows.item(), file)

    def mapped(self) -> Any:
        """An index that can be searched, and must not be added to: Faiss would end the process."""
        faiss, index = _faiss(), self.learned.index()
        mapped = faiss.OnDiskInvertedLists(index.nlist, index.code_size, str(self.file))
        mapped.read_only, mapped.prefetch_nthread = True, 0  # threads that read ahead cost more than a search
        sizes = self.sizes.astype(np.uint64)  # has to live as long as Faiss reads it
        mapped.set_all_lists_sizes(faiss.swig_ptr(sizes))
        mapped.totsize = self.file.stat().st_size
        mapped.do_mmap()
        mapped.this.disown()  # the index frees it
        index.replace_invlists(mapped, True)
        index.ntotal = int(self.sizes.sum())
        return index

    def each(self) -> Iterator[tuple[npt.NDArray[np.uint8], Numbers]]:
        """The codes and row numbers of each list, mapped."""
        dim = self.learned.centres.shape[1]
        data = np.memmap(self.file, np.uint8, "r") if self.sizes.any() else np.empty(0, np.uint8)
        start = 0
        for size in self.sizes.tolist():
            middle, end = start + size * dim, start + size * (dim + 8)
            yield data[start:middle].reshape(size, dim), data[middle:end].view(np.int64)
            start = end


def _encoded(
    index: Any, learned: _Learned, blocks: Iterator[Vectors], start: int, folder: Path
) -> Iterator[_Lists]:
    """Encode vectors by an empty index, and write the lists of each shard; rows are numbered from `start`."""
    faiss, row = _faiss(), start
    dim = learned.centres.shape[1]

    def written() -> _Lists:
        file, sizes = folder / f"{row}.bin", np.empty(index.nlist, np.int64)
        with file.open("wb") as opened:
            for i in range(index.nlist):
                sizes[i] = size = index.invlists.list_size(i)
                if size:
                    opened.write(faiss.rev_swig_ptr(index.invlists.get_codes(i), size * dim).tobytes())
                    opened.write(faiss.rev_swig_ptr(index.invlists.get_ids(i), size).tobytes())
        index.reset()
        return _Lists(learned, sizes, row, file)

    for chunk in _rechunked(blocks):
        index.add_with_ids(_padded(chunk), np.arange(row, row + len(chunk)))
        row += len(chunk)
        if index.ntotal >= SHARD:
            yield written()
    if index.ntotal or row == start:
        yield written()


def _rechunked(blocks: Iterator[Vectors]) -> Iterator[Vectors]:
    """The same vectors, `CHUNK` at a time."""
    held, count = list[Vectors](), 0
    for block in blocks:
        held.append(block)
        count += len(block)
        while count >= CHUNK:
            together = np.concatenate(held)
            yield together[:CHUNK]
            held, count = [together[CHUNK:]], count - CHUNK
    if count:
        yield np.concatenate(held)


def _merge(shards: Iterable[_Lists], folder: Path, gone: Numbers) -> None:
    """Write the files of an index of several, list by list, without some rows."""
    parts = list(shards)
    learned, rows = parts[0].learned, parts[-1].rows
    is_left, sizes = np.ones(rows, np.bool_), np.empty(len(learned.centres), np.int64)
    is_left[gone] = False
    with (folder / LISTS).open("wb") as file:
        for i, each in enumerate(zip(*(part.each() for part in parts), strict=True)):
            codes, numbers = (np.concatenate(some) for some in zip(*each, strict=True))
            left = is_left[numbers]
            sizes[i] = left.sum()
            file.write(codes[left].tobytes())
            file.write(numbers[left].tobytes())
    np.savez(folder / LEARNED, centres=learned.centres, ranges=learned.ranges, sizes=sizes, rows=rows)


def _empty(dim: int, lists: int) -> Any:
    """An index that nothing was learned for."""
    faiss = _faiss()
    return faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatL2(dim), dim, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_L2
    )


def _padded(vectors: Vectors) -> Vectors:
    """Vectors with zeros at the end, to a multiple of `WIDTH` values; distances stay the same."""
    if not (lacking := -vectors.shape[1] % WIDTH):
        return vectors
    return np.hstack([vectors, np.zeros((len(vectors), lacking), np.float32)])


@functools.cache
def _faiss() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of SWIG, from Python 3.12 on
        import faiss
    return faiss


@imgrec.hookimpl
def imgrec_components() -> list[type[imgrec.Index]]:
    """This plugin's components."""
    return [Faiss]
