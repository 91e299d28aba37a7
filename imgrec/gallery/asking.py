"""What is asked for, said by options: pictures, how several count, what to keep away from, variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from imgrec import images
from imgrec.errors import UsageError
from imgrec.gallery import colours, elsewhere, variants
from imgrec.gallery.elsewhere import STDIN, Elsewhere
from imgrec.gallery.query import COMBINE, UNLIKE_WEIGHT, Item, PictureBytes, Query, Text
from imgrec.options import Options, option

COLOUR_WEIGHT = 0.5


@dataclass(kw_only=True)
class Combining(Options):
    """The options of a query that are the same wherever its pictures come from."""

    text: str | None = option(None, text=True, help="what is looked for in words, alone or beside pictures")
    combine: str = option(
        "mean", choices=COMBINE, help="several pictures: images like their mean, or like the nearest of them"
    )
    unlike_text: str | None = option(None, text=True, help="what to keep away from in words")
    unlike_weight: float = option(
        UNLIKE_WEIGHT, minimum=0, maximum=0.99, help="how far away: Rocchio's gamma, where alpha is 1"
    )
    variants: str | None = option(
        None,
        choices=(*variants.SETS,),
        help="of the picture: the nearest of 8 orientations, 5 crops or all counts",
    )
    include_self: bool = option(False, help="let the query's own content be found")


@dataclass(kw_only=True)
class Asking(Combining, Elsewhere):
    """The options of what is asked for. A stage that takes them inherits from it."""

    takes_several: ClassVar[bool] = True

    query: Any = option(
        None,
        path=True,
        help="a picture, inside or outside the gallery: a file, http(s)://, or - for standard input; or a list "
        "[a.jpg,b.jpg]",
    )
    unlike: Any = option(None, path=True, help="pictures to keep away from: a path or a list [c.jpg]")
    colour: str | None = option(
        None, text=True, help="colours, alone or beside the query: red, c03020, or c03020:0.7,white:0.3"
    )
    colour_weight: float = option(
        COLOUR_WEIGHT, help="how much colours count beside what else is asked for, between 0 and 1"
    )
    each: bool = option(False, help="of a folder or several pictures, each is a query of its own")

    def asked(self, repeats: Path | None = None) -> Query:
        """The query that these options make, with pictures from elsewhere fetched.

        Args:
            repeats: the folder of the run that this one repeats, with what it has kept of these.

        Raises:
            UsageError: an option cannot be understood or has no effect, or a picture cannot be fetched.
        """
        if self.query is None and self.text is None and self.colour is None:
            raise UsageError("recommend needs query=, a picture, text= or colour=")
        if self.unlike is None and self.unlike_text is None and self.unlike_weight != UNLIKE_WEIGHT:
            raise UsageError(
                "unlike_weight= has no effect without unlike= or unlike_text=, what to keep away from"
            )
        if self.each and self.combine != "mean":
            raise UsageError("combine= has no effect with each=true, where each picture is a query of its own")
        if self.colour is not None:
            colours.parsed(self.colour)
        query = Query.of(
            () if self.query is None else self.query,
            _words(self.text),
            combine=self.combine,
            include_self=self.include_self,
            unlike=[() if self.unlike is None else self.unlike, _words(self.unlike_text)],
            unlike_weight=self.unlike_weight,
            variants=self.variants,
            colours=self.colour,
        )
        brought = [each for each in (*query.items, *query.unlike) if elsewhere.is_elsewhere(each)]
        if brought.count(STDIN) > 1:
            raise UsageError("standard input holds one picture: name - once")
        if self.each and any(each in brought for each in query.items):
            raise UsageError(f"each=true asks with files and folders, and {brought[0]!r} is neither")
        return replace(
            query,
            items=tuple(self.pictures(query.items, "query", repeats)),
            unlike=tuple(self.pictures(query.unlike, "unlike", repeats)),
        )

    @property
    def weight_of_colours(self) -> float | None:
        """Of colours beside what else is asked for, as `opened` takes it; 1 of colours alone, None without.

        Raises:
            UsageError: it is out of its range, or has no effect.
        """
        is_beside = self.colour is not None and (self.query is not None or self.text is not None)
        if self.colour_weight != COLOUR_WEIGHT and not is_beside:
            raise UsageError("colour_weight= has no effect without colour= beside query= or text=")
        if not 0 < self.colour_weight < 1:
            raise UsageError(f"colour_weight is above 0 and below 1, not {self.colour_weight}")
        return None if self.colour is None else self.colour_weight if is_beside else 1


def as_told(query: Query, *, each: bool = False) -> Mapping[str, Any]:
    """For results: the pictures that are asked for, a path or a list of several, and the options that count."""
    pictures, texts = _told(query.items)
    unlike, unlike_texts = _told(query.unlike)
    return {
        "query": _one_or_several(pictures),
        **({"text": _one_or_several(texts)} if texts else {}),
        **({"each": True} if each else {"combine": query.combine} if len(query.items) > 1 else {}),
        **({"unlike": unlike} if unlike else {}),
        **({"unlike_text": _one_or_several(unlike_texts)} if unlike_texts else {}),
        **({"unlike_weight": query.unlike_weight} if query.unlike else {}),
        **({"variants": query.variants} if query.variants else {}),
        **({"colours": colours.named(colours.parsed(query.colours))} if query.colours else {}),
    }


def _told(items: Sequence[Item]) -> tuple[list[str], list[str]]:
    """Pictures by their absolute paths, or what they are called elsewhere; and texts."""
    pictures = [
        each.name if isinstance(each, PictureBytes) else images.absolute(each)
        for each in items
        if isinstance(each, str | PictureBytes)
    ]
    return pictures, [each.text for each in items if isinstance(each, Text)]


def _one_or_several(values: Sequence[str]) -> str | Sequence[str] | None:
    return values if len(values) > 1 else next(iter(values), None)


def _words(text: str | None) -> list[Text]:
    return [] if text is None else [Text(text)]
