"""How good a search is: labels, and what rankings are worth by them."""

from __future__ import annotations

from imgrec.evaluation.figures import FIGURES, Quality, by_class, evaluate_rankings, summary, worst
from imgrec.evaluation.labels import labels_of
from imgrec.evaluation.queries import Queries, hits, known, relevant

__all__ = [
    "FIGURES",
    "Quality",
    "Queries",
    "by_class",
    "evaluate_rankings",
    "hits",
    "known",
    "labels_of",
    "relevant",
    "summary",
    "worst",
]
