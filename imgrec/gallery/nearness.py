"""Nearness: from which distance on two images of a gallery are copies of each other."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np

from imgrec import images
from imgrec.errors import ImgrecError
from imgrec.extraction import extract
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.query import Known
from imgrec.kinds import Image, Vectors
from imgrec.search import exact
from imgrec.threads import each

COPIED = 64
"""Images that are copied to see how far copies are."""

SHARE = 0.95
"""The share of these copies that the distance is to find."""

Alter = Callable[[bytes, int | None], Sequence[Image]]
"""Makes altered images of a file's bytes, for an extractor that needs the given shorter side."""


def near_copies(gallery: Gallery) -> tuple[float, str]:
    """The distance within which copies of a gallery's images lie, and the reason for it.

    Some images are copied as messengers do it, to half their width and height as JPEG of quality 75, and
    extracted; the distance is that which `SHARE` of the copies have at most from their originals. Where none can
    be read or extracted, it is 0: only equal vectors are near. The images are those with the first digests, as
    good as a random sample.
    """
    records = list({record.digest: record for record in reversed(gallery.records)}.values())
    records = sorted(records, key=lambda record: record.digest)[:COPIED]
    rows = gallery._rows_of(records)
    why = "none can be read"
    try:
        read, copies = altered(gallery, [record.path for record in records], _copied)
    except ImgrecError as error:  # the vectors are of another program, say
        read, why = [], str(error)
    if read:
        by_copy = zip(zip(*copies, strict=True), rows[read], strict=True)
        apart = [exact.measured(gallery.fields, copy, np.array([row]))[1][0] for copy, row in by_copy]
        return float(np.quantile(apart, SHARE, method="higher")), (
            f"{SHARE:.0%} of copies of {len(read)} of its images, at half the size and as JPEG of quality 75, are "
            "that near to their originals"
        )
    return 0.0, f"its images cannot be copied to see how far copies are: {why}; distance= says it"


def altered(gallery: Gallery, paths: Sequence[str], alter: Alter) -> tuple[list[int], list[Vectors]]:
    """Vectors of altered images of some files, as a gallery compares them.

    Args:
        gallery: whose extractors and projections are used.
        paths: of the files.
        alter: makes as many images of each file.

    Returns:
        Which of the paths could be read, and for each term `float32 (altered images of these, dim)`, file by file.

    Raises:
        UsageError: an extractor cannot be built.
    """
    extractors = {term.name: term.ready_extractor() for term in gallery.similarity.terms}

    def made(path: str) -> dict[str, Sequence[Image]] | None:
        try:
            data, _ = images.read(path)
            with images.warned.heard():  # the ingest told of damage
                return {name: alter(data, extractor.side) for name, extractor in extractors.items()}
        except images.UnreadableImageError:
            return None

    by_path = {i: found for i, found in enumerate(each(made, paths)) if found}
    names = [paths[i] for i, found in by_path.items() for _ in next(iter(found.values()))]
    if not names:
        return [], []
    vectors = {
        name: extract(extractor, [image for found in by_path.values() for image in found[name]], names)
        for name, extractor in extractors.items()
    }
    known = [Known({name: rows[i] for name, rows in vectors.items()}) for i in range(len(names))]
    return list(by_path), gallery.targets(known)


def _copied(data: bytes, side: int | None) -> Sequence[Image]:
    import PIL.Image

    image = images.decode(data)
    height, width = (max(1, length // 2) for length in image.shape[:2])
    file = io.BytesIO()
    PIL.Image.fromarray(image).resize((width, height), PIL.Image.Resampling.BOX).save(file, "JPEG", quality=75)
    return [images.decode(file.getvalue(), side)]
