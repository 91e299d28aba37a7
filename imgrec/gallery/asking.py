"""What is asked for, said by options: pictures, how several count, what to keep away from, variants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from imgrec import images
from imgrec.errors import UsageError
from imgrec.gallery import variants
from imgrec.gallery.query import COMBINE, UNLIKE_WEIGHT, Query
from imgrec.options import Options, option


@dataclass(kw_only=True)
class Asking(Options):
    """The options of what is asked for. A stage that takes them inherits from it."""

    takes_several: ClassVar[bool] = True

    query: Any = option(path=True, help="a picture, inside or outside the gallery; or a list [a.jpg,b.jpg]")
    combine: str = option(
        "mean", choices=COMBINE, help="several pictures: images like their mean, or like the nearest of them"
    )
    unlike: Any = option(None, path=True, help="pictures to keep away from: a path or a list [c.jpg]")
    unlike_weight: float = option(
        UNLIKE_WEIGHT, minimum=0, maximum=0.99, help="how far away: Rocchio's gamma, where alpha is 1"
    )
    variants: str | None = option(
        None,
        choices=(*variants.SETS,),
        help="of the picture: the nearest of 8 orientations, 5 crops or all counts",
    )
    each: bool = option(False, help="of a folder or several pictures, each is a query of its own")
    include_self: bool = option(False, help="let the query's own content be found")

    @property
    def asked(self) -> Query:
        """The query that these options make.

        Raises:
            UsageError: an option cannot be understood, or has no effect.
        """
        if self.unlike is None and self.unlike_weight != UNLIKE_WEIGHT:
            raise UsageError("unlike_weight= has no effect without unlike=, what to keep away from")
        if self.each and self.combine != "mean":
            raise UsageError("combine= has no effect with each=true, where each picture is a query of its own")
        return Query.of(
            self.query,
            combine=self.combine,
            include_self=self.include_self,
            unlike=() if self.unlike is None else self.unlike,
            unlike_weight=self.unlike_weight,
            variants=self.variants,
        )


def as_told(query: Query, *, each: bool = False) -> Mapping[str, Any]:
    """For results: the pictures that are asked for, a path or a list of several, and the options that count."""
    pictures = [images.absolute(path) for path in query.items if isinstance(path, str)]
    unlike = [images.absolute(path) for path in query.unlike if isinstance(path, str)]
    return {
        "query": pictures[0] if len(pictures) == 1 else pictures,
        **({"each": True} if each else {"combine": query.combine} if len(query.items) > 1 else {}),
        **({"unlike": unlike, "unlike_weight": query.unlike_weight} if query.unlike else {}),
        **({"variants": query.variants} if query.variants else {}),
    }
