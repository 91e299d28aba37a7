"""How near two images of a gallery have to be for near-duplicates, judged by the gallery itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imgrec.kinds import Doubles
from imgrec.search import exact
from imgrec.search.exact import Mask, VectorField
from imgrec.search.pruning import Rows

NEIGHBOUR = 5
"""Which of the nearest other images is looked for."""

FEWEST = 20
"""With fewer distances above 0, only images at distance 0 are near-duplicates."""

STEPS = 4
"""How far below the median the limit lies, in steps from the median to the upper quartile, of logarithms."""

NOISE = 1e-6
"""Distances below this share of the largest are rounding errors."""


def nearness(fields: Sequence[VectorField], sample: Rows, usable: Mask) -> tuple[float, str]:
    """The distance up to which images are near-duplicates, and the reason for it in a few words.

    For a sample of images the distance to the fifth nearest other one is measured, which is another picture even
    where each has a few near-duplicates. These are below Tukey's lower fence of the distances' logarithms (J.
    Tukey, Exploratory Data Analysis, 1977), and at most a third of the median apart. The fence is taken from the
    upper half of the distances, as far below the median as it would be if the lower half were like it: so images
    with many near-duplicates hardly move it.

    Args:
        fields: what is compared.
        sample: rows, chosen at random.
        usable: `bool (n,)`: those that can be found.
    """
    asked = [np.array(each.of(sample)) for each in fields]
    found = exact.nearest(fields, asked, NEIGHBOUR + 1, usable)  # each finds itself too
    return limit(np.array([distances[NEIGHBOUR] for _, distances in found if len(distances) > NEIGHBOUR]))


def limit(apart: Doubles) -> tuple[float, str]:
    """The distance of `nearness`, and its reason, from distances of images to their fifth nearest other one.

    >>> limit(np.array([1e-9, 0.0, *[1.0] * 10, *[3.0] * 30]))
    (1.0, '0.33 of 3, the median distance of 40 images from their fifth nearest other one')
    """
    positive = apart[apart > NOISE * apart.max()] if len(apart) else apart
    if len(positive) < FEWEST:
        return 0.0, f"only {len(positive)} images differ: too few to say what is near"
    median, upper = np.quantile(positive, [0.5, 0.75])
    found = min(median / 3, median * (median / upper) ** STEPS)
    count = f"{len(positive):,} images from their fifth nearest other one"
    return float(found), f"{found / median:.2g} of {median:.4g}, the median distance of {count}"
