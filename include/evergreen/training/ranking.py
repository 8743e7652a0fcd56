"""How well scores rank and match 0/1 labels: average precision, area under the ROC curve, Brier score.

Arrays are [B] in the same row order. Tied scores count as one threshold.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def average_precision(labels: Floats, scores: Floats) -> float:
    """Sum over thresholds of precision times the recall gained there (as scikit-learn defines it)."""
    hits, rows = _cumulated(labels, scores)
    gained = np.diff(hits, prepend=0) / hits[-1]
    return float(np.sum(hits / rows * gained))


def roc_auc(labels: Floats, scores: Floats) -> float:
    """Probability that a positive outscores a negative, a tie counting half."""
    hits, rows = _cumulated(labels, scores)
    misses = rows - hits
    before = np.concatenate([[0], hits[:-1]])
    area = np.sum(np.diff(misses, prepend=0) * (before + hits) / 2)
    return float(area / (hits[-1] * misses[-1]))


def brier(labels: Floats, scores: Floats) -> float:
    """Mean squared distance of score and label."""
    return float(np.mean((scores.astype(np.float64) - labels) ** 2))


def _cumulated(labels: Floats, scores: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Positives and rows at or above each distinct score, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    return np.cumsum(labels[order], dtype=np.float64)[ends], ends.astype(np.float64) + 1
