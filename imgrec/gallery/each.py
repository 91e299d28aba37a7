"""Many pictures, each a query of its own: read and extracted ahead, asked in batches, answered in order."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from imgrec import images
from imgrec.batches import chunks
from imgrec.errors import UsageError
from imgrec.gallery import colours
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.pictures import Pictures
from imgrec.gallery.query import Query
from imgrec.gallery.resolving import beside, resolved
from imgrec.gallery.results import Filter, Matches
from imgrec.kinds import ImageFile, Store

AT_ONCE = 1024
"""Queries that are searched together, and whose vectors and answers are in memory."""

FAILURES_TOLD = 100
"""How many of many queries that cannot be read are told of one by one; all are counted."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What was found for one picture."""

    query: str
    """The picture's path."""

    digest: str = ""
    """That of its content."""

    matches: Matches | None = None
    """None if the picture cannot be read."""

    reason: str | None = None
    """Why it cannot."""


def pictures_of(query: Query) -> list[ImageFile]:
    """The files of all pictures of a query whose items are pictures and folders.

    Raises:
        UsageError: an item is neither, or there are no pictures.
    """
    for each in query.items:
        if not isinstance(each, str):
            raise UsageError("each=true asks with files and folders, and this query has others than these")
        if not each:
            raise UsageError("query is empty: name a folder or pictures")
        if images.state(each) is None:
            raise UsageError(f"query {each!r} does not exist")
    if not (given := [each for each in query.items if isinstance(each, str)]):
        raise UsageError("each=true asks with pictures: query= is missing, a folder or pictures")
    files = list(images.find(images.roots(given)))
    if not files:
        raise UsageError(f"query {', '.join(given)} has no pictures")
    return files


def answers(
    gallery: Gallery,
    store: Store,
    query: Query,
    files: Iterable[ImageFile],
    k: int,
    among: Filter | Mapping[str, Any] | None = None,
    **how: Any,
) -> Generator[Answer, None, None]:
    """The answers to many pictures, in order, some at a time, which bounds the memory needed.

    Args:
        gallery: of the store.
        store: open.
        query: how each picture is asked for; its items do not count.
        files: of the pictures.
        k: how many images for each.
        among: the files that may be found; None for all.
        how: the other options of `Gallery.search`.

    Raises:
        UsageError: as `Gallery.search`.
    """
    similarity = gallery.similarity
    terms, _ = colours.terms_of(query, similarity)
    shared = beside(query, store, similarity)
    for some in chunks(Pictures(store, terms, query.variants).many(files), AT_ONCE):
        asked = [
            resolved(replace(query, items=(picture.path,)), [picture.known()], shared, similarity)
            for picture in some
            if picture.reason is None
        ]
        found = iter(gallery.search(asked, k, among, **how))
        for picture in some:
            matches = None if picture.reason is not None else next(found)
            yield Answer(picture.path, picture.digest, matches, picture.reason)


class Summary:
    """What is told of many answers: counts, the first failures, and digests of all."""

    def __init__(self) -> None:
        self.count = self.unreadable = self.matches = self.without = 0
        self.failures: list[dict[str, str | None]] = []
        self.queries, self.results = hashlib.sha256(), hashlib.sha256()

    def add(self, some: Sequence[Answer]) -> None:
        """Count some more answers."""
        self.count += len(some)
        for each in some:
            self.queries.update(each.digest.encode())
            matches = None if each.matches is None else [match.to_json() for match in each.matches]
            self.results.update(json.dumps([each.query, matches, each.reason]).encode())
            self.matches += len(matches or ())
            self.without += matches == []
            if each.reason is not None:
                self.unreadable += 1
                if len(self.failures) < FAILURES_TOLD:
                    log.warning("query %r cannot be read: %s", each.query, each.reason)
                    self.failures.append({"path": each.query, "reason": each.reason})
