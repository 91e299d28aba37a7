"""Colours as a query: `red`, or `c03020:0.7,white:0.3`, compared where an extractor sees colours alone.

They are asked for as a picture that has them in their shares, as cloth has a colour: in light and shadow, and a
little noisy. A histogram of the pure colour would fill one bin, and miss what lies beyond the bin's edge.
"""

from __future__ import annotations

import functools
import io
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from imgrec import registry
from imgrec.errors import UsageError
from imgrec.extraction import extract
from imgrec.gallery.query import Known, PictureBytes, Query
from imgrec.gallery.similarity import EUCLIDEAN, Similarity, Term
from imgrec.kinds import Extractor, Image, Space, Store, Vectors
from imgrec.kinds.metric import metric_of

log = logging.getLogger(__name__)

Colour = tuple[int, int, int]
"""Red, green and blue, each from 0 to 255."""

Colours = Mapping[Colour, float]
"""Colours with their shares, which add up to 1."""

COLOURS = "colours"
"""What extractors see (`Extractor.sees`) that colours can be asked of; also the name of their term in a fusion."""

SIDE = 256
SHADOW, NOISE = 0.7, 20.0
"""The least brightness, of 1, and the standard deviation of each channel.

For twelve queries of the photographs of clothes, the share of what was asked for in the ten nearest images is
0.568 by Euclidean and 0.603 by Hellinger's distance; of pure colours it is 0.558 and 0.553, and at best 0.705.
"""


def parsed(text: str) -> dict[Colour, float]:
    """Colours by name, as CSS has them, or in hexadecimal digits, with shares or all alike.

    >>> parsed("red"), parsed("#c03020:3,white:1")
    ({(255, 0, 0): 1.0}, {(192, 48, 32): 0.75, (255, 255, 255): 0.25})

    Raises:
        UsageError: one is no colour, or the shares are not positive numbers.
    """
    found: dict[Colour, float] = {}
    parts = [part.partition(":") for part in text.split(",")]
    if len({bool(colon) for _, colon, _ in parts}) > 1:
        raise UsageError(f"colour={text}: give a share to every colour, or to none")
    for name, colon, share in parts:
        colour = _colour(name.strip(), text)
        found[colour] = found.get(colour, 0) + (_share(share, text) if colon else 1)
    total = sum(found.values())
    if not total < math.inf:
        raise UsageError(f"colour={text}: the sum of the shares is too large a number")
    return {colour: share / total for colour, share in found.items()}


def _colour(name: str, text: str) -> Colour:
    import PIL.ImageColor

    digits = name.removeprefix("#")
    if name.lower() in PIL.ImageColor.colormap:
        return PIL.ImageColor.getrgb(name)[:3]
    if re.fullmatch(r"([0-9a-fA-F]{3}){1,2}", digits):
        return PIL.ImageColor.getrgb(f"#{digits}")[:3]
    raise UsageError(f"colour={text}: {name!r} is no colour: red, as CSS has names, or c03020; shares as red:0.7")


def _share(share: str, text: str) -> float:
    try:
        value = float(share)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"colour={text}: a share is a number above 0, not {share.strip()!r}")
    return value


def named(colours: Colours) -> dict[str, float]:
    """Colours in hexadecimal digits, for records: `{"c03020": 0.7, "ffffff": 0.3}`."""
    return {bytes(colour).hex(): share for colour, share in colours.items()}


def caption(colours: Colours) -> str:
    """Colours as written below a picture: `c03020 70%, ffffff 30%`, or how many."""
    names = named(colours)
    if len(names) == 1:
        return next(iter(names))
    if len(names) > 2:
        return f"{len(names)} colours"
    return ", ".join(f"{name} {share:.0%}" for name, share in names.items())


def areas(colours: Colours, pixels: int = SIDE * SIDE) -> Image:
    """Pixels in these shares, `uint8 (pixels, 3)`, exact but for rounding to whole ones."""
    ends = np.rint(np.cumsum(list(colours.values())) * pixels).astype(int)
    ends[-1] = pixels
    return np.repeat(np.array(list(colours), dtype=np.uint8), np.diff(ends, prepend=0), axis=0)


def as_cloth(colours: Colours) -> Image:
    """A picture of these colours in light and shadow, `uint8 (SIDE, SIDE, 3)`; always the same."""
    random, pixels = np.random.default_rng(0), areas(colours)
    lit = pixels * random.uniform(SHADOW, 1, (len(pixels), 1)) + random.normal(0, NOISE, pixels.shape)
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8).reshape(SIDE, SIDE, 3)


@functools.lru_cache(maxsize=8)  # many queries have the same
def shown(text: str) -> PictureBytes:
    """A picture of colours, side by side, with their names."""
    import PIL.Image

    colours, data = parsed(text), io.BytesIO()
    PIL.Image.fromarray(np.repeat(areas(colours, SIDE)[None], SIDE, axis=0)).save(data, "PNG")
    return PictureBytes(data.getvalue(), caption(colours))


def vector(colours: Colours, term: Term) -> Vectors:
    """The vector of colours in the space of a term, `float32 (dim,)`."""
    found: Vectors = extract(term.ready_extractor(), [as_cloth(colours)], ["colour="])[0]
    return found


def known(text: str, term: Term) -> Known:
    """Colours as an item of a query in the space of a term."""
    return Known({term.name: vector(parsed(text), term)})


# --- what they are compared in ------------------------------------------------------------------------------


def terms_of(query: Query, similarity: Similarity) -> tuple[Sequence[Term], Term | None]:
    """The terms that a query's items are asked of, and the one of its colours; None without colours.

    Colours alone are an item themselves, so that both are the same.

    Raises:
        UsageError: the gallery was not opened for such queries.
    """
    terms = similarity.terms
    if query.colours is None:
        return terms, None
    if len(terms) == 1 and _sees_colours(terms[0].space):
        found: Term | None = terms[0]
    else:
        found = next((term for term in terms if term.name == similarity.colours), None)
    if found is None or bool(query.items) != (len(terms) > 1):
        weight = "below 1 for pictures and colours" if query.items else "1 for colours alone"
        raise UsageError(
            f"this gallery was not opened for the query: imgrec.open(store, colour_weight=), {weight}"
        )
    return [term for term in terms if term is not found or len(terms) == 1], found


def asked_of(similarity: Similarity, store: Store, metric: str | None, weight: float) -> Similarity:
    """A similarity that colours can be asked of, alone or beside pictures.

    Args:
        similarity: what pictures are compared by.
        store: open; has the space that colours are compared in, if the similarity does not.
        metric: the name of the colours' metric, if it is not the similarity's own.
        weight: of the colours, above 0 and up to 1, which is colours alone.

    Raises:
        UsageError: no space sees colours alone, or several do.
    """
    if not 0 < weight <= 1:
        raise UsageError(f"colour_weight is above 0 and up to 1, not {weight!r}")
    term = _colour_term(similarity, store, metric)
    if weight == 1:
        return Similarity((replace(term, name="", weight=1.0),), colours="", basis=similarity)
    total = sum(each.weight for each in similarity.terms)
    pictures = [
        replace(each, name=each.name or each.space.extractor, weight=each.weight / total * (1 - weight))
        for each in similarity.terms
    ]
    name = COLOURS
    while name in {each.name for each in pictures}:
        name += "+"
    return Similarity(
        (*pictures, replace(term, name=name, weight=weight)),
        f"{similarity.stored_key}+{term.space.key}",
        colours=name,
        basis=similarity,
    )


def _colour_term(similarity: Similarity, store: Store, metric: str | None) -> Term:
    own = [term for term in similarity.terms if _sees_colours(term.space)]
    if len(own) == 1:
        return own[0]
    found = [term.space for term in own] or [space for space in store.spaces() if _sees_colours(space)]
    if not found:
        able = [name for name, plugin in registry.available(Extractor.kind).items() if _plugin_sees(plugin.cls)]
        raise UsageError(
            f"no space of {store.location} sees colours alone, which colour= needs: ingest again with "
            f"extractor={' or '.join(able)}"
        )
    if len(found) > 1:
        raise UsageError(
            f"several spaces see colours: {', '.join(space.key for space in found)}; space= says which is meant"
        )
    log.warning("colours are compared in %s", found[0].key)
    return Term(found[0], metric_of(metric or EUCLIDEAN))


@functools.cache
def _plugin_sees(cls: type) -> bool:
    return getattr(cls, "sees", None) == COLOURS


def _sees_colours(space: Space) -> bool:
    plugin = registry.available(Extractor.kind).get(space.extractor)
    return plugin is not None and _plugin_sees(plugin.cls)
