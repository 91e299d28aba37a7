"""Evaluation of searches: queries, labels and figures."""

from __future__ import annotations

from imgrec.evaluation.evaluate import answers, evaluate, hits
from imgrec.evaluation.figures import FIGURES, Behind, Quality, behind, by_class, evaluate_rankings, summary, worst
from imgrec.evaluation.folds import HeldOut, held_out
from imgrec.evaluation.labels import labels_of
from imgrec.evaluation.queries import Queries, asked_of, relevant

__all__ = [
    "FIGURES",
    "Behind",
    "HeldOut",
    "Quality",
    "Queries",
    "answers",
    "asked_of",
    "behind",
    "by_class",
    "evaluate",
    "evaluate_rankings",
    "held_out",
    "hits",
    "labels_of",
    "relevant",
    "summary",
    "worst",
]
