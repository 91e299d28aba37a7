"""Evaluation of searches: queries, labels and figures."""

from __future__ import annotations

from imgrec.evaluation.evaluate import answers, evaluate
from imgrec.evaluation.figures import FIGURES, Quality, by_class, evaluate_rankings, summary, worst
from imgrec.evaluation.labels import labels_of
from imgrec.evaluation.queries import Queries, asked_of

__all__ = [
    "FIGURES",
    "Quality",
    "Queries",
    "answers",
    "asked_of",
    "by_class",
    "evaluate",
    "evaluate_rankings",
    "labels_of",
    "summary",
    "worst",
]
