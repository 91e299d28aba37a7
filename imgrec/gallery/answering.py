"""Answers to a query, and what results tell of them: the same for the command line and for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from imgrec.gallery.asking import as_told
from imgrec.gallery.gallery import Gallery
from imgrec.gallery.narrowing import Narrowing
from imgrec.gallery.query import Query, Resolved
from imgrec.gallery.results import Matches
from imgrec.gallery.selection import AUTO, Selection
from imgrec.kinds import Reranker
from imgrec.options import option


@dataclass(kw_only=True)
class Answering(Narrowing, Selection):
    """The options of an answer. A stage that takes them inherits from it."""

    k: int = option(5, minimum=1, help="how many")
    copies: bool = option(False, help="let files of the same content take a rank each")

    def search(
        self, gallery: Gallery, queries: Sequence[Resolved], rerank: Reranker | None = None
    ) -> list[Matches]:
        """What is found for some queries; see `Gallery.search`."""
        how: Any = {"copies": self.copies, "rerank": rerank, **self.selection}
        return gallery.search(queries, self.k, self.where, **how)

    def results(self, gallery: Gallery, query: Query, matches: Matches) -> dict[str, Any]:
        """What is written and served of an answer; JSON data."""
        return {
            **as_told(query),
            "space": gallery.key,
            "metric": gallery.similarity.metric,
            "k": self.k,
            **self.about,
            **gallery.about(),
            **self.about_selection(gallery),
            "matches": [match.to_json() for match in matches],
        }

    def about_selection(self, gallery: Gallery) -> dict[str, Any]:
        """For results: what was asked for of thresholds, near-duplicates and variety."""
        about: dict[str, Any] = {}
        if self.threshold is not None:
            about["threshold"] = self.threshold
        if self.threshold == AUTO:
            about["alpha"] = self.alpha
        if self.collapse is not None:
            distance, reason = gallery.nearness if self.collapse == AUTO else (self.collapse, "as asked for")
            about["collapse"] = {"distance": distance, "reason": reason}
        if self.diversity:
            about["diversity"] = self.diversity
        return about
