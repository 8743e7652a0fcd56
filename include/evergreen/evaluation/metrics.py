"""Metrics of scores against 0/1 labels, each for any weights of the rows.

Rows are sorted by score once; a metric of a resample is then one pass over the rows, without sorting
again. Rows with equal scores count as one threshold. A metric that is undefined (no positive or no
negative row has weight) is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Statistic: TypeAlias = Callable[[Floats], float]
"""From the weight of every row (float64 [B]; ones for the sample itself) to a number."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Rows by falling score, ready for weights.

    A segment is a group of equal scores with a positive in it, or all the rows between two such groups:
    no metric here can tell those apart, and positives are few. The average precision of 400 resamples of
    40,000 rows with 200 positives takes 0.05 s that way, and 0.7 s with cumulative sums over every row.
    """

    rows: Integers
    """int64 [K]: index into the weights of the K rows ranked, highest score first."""
    segments: Integers
    """int64 [S]: position of the first row of each segment."""
    positives: Integers
    """int64 [P]: index into the weights of the positive rows."""
    segment_of_positive: Integers
    """int64 [P]: the segment each of them is in."""

    @classmethod
    def of(
        cls, labels: npt.NDArray[np.generic], scores: npt.NDArray[np.generic], among: Integers | None = None
    ) -> Ranking:
        """The ranking of the rows at the indices `among`, of all rows when none are given."""
        chosen = np.arange(len(scores)) if among is None else among
        rows = chosen[np.argsort(-scores[chosen].astype(np.float64), kind="stable")]
        found = np.flatnonzero(labels[rows])
        segments = _segments(scores[rows], found)
        return cls(rows, segments, rows[found], np.searchsorted(segments, found, side="right") - 1)

    def counts(self, weights: Floats) -> tuple[Floats, Floats]:
        """Weight of the positives and of all rows down to the end of each segment, float64 [S] each."""
        found = np.bincount(self.segment_of_positive, weights[self.positives], minlength=len(self.segments))
        flagged = np.add.reduceat(weights[self.rows], self.segments) if len(self.rows) else np.zeros(0)
        return np.cumsum(found), np.cumsum(flagged)

    def average_precision(self, weights: Floats) -> float:
        """Sum of precision times gain in recall over the thresholds; as in scikit-learn, not interpolated."""
        found, flagged = self.counts(weights)
        if not len(found) or found[-1] == 0:
            return float("nan")
        precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
        return float(np.sum(np.diff(found, prepend=0.0) * precision) / found[-1])

    def roc_auc(self, weights: Floats) -> float:
        """Chance that a positive scores above a negative, an equal score counting half."""
        found, flagged = self.counts(weights)
        negatives = flagged - found
        if not len(found) or found[-1] == 0 or negatives[-1] == 0:
            return float("nan")
        gained = np.diff(found, prepend=0.0)
        below = negatives[-1] - negatives
        tied = np.diff(negatives, prepend=0.0)
        return float(np.sum(gained * (below + tied / 2)) / (found[-1] * negatives[-1]))

    def recall_at(self, share: float, weights: Floats) -> float:
        """Share of the positives among the `share` of rows with the highest scores.

        Where the budget ends inside a group of equal scores, the part of it that fits is taken at random:
        this is the expectation.
        """
        found, flagged = self.counts(weights)
        if not len(found) or found[-1] == 0:
            return float("nan")
        return float(np.interp(share * flagged[-1], np.append(0.0, flagged), np.append(0.0, found)) / found[-1])


@dataclass(frozen=True, eq=False)
class Calibration:
    """Rows in bins of scores, ready for weights."""

    labels: Floats
    scores: Floats
    bins: Integers
    """int64 [B]: bin of every row, rising with the score."""

    @classmethod
    def of(cls, labels: npt.NDArray[np.generic], scores: npt.NDArray[np.generic], *, num_bins: int = 20) -> Calibration:
        """Bins that hold equally many rows; equal scores are never parted."""
        values = scores.astype(np.float64)
        return cls(labels.astype(np.float64), values, equal_mass_bins(values, np.ones_like(values), num_bins))

    def expected_error(self, weights: Floats) -> float:
        """Mean over the rows of their bin's |mean score - share of positives| (expected calibration error)."""
        total = np.sum(weights)
        if total == 0:
            return float("nan")
        surplus = np.bincount(self.bins, weights * (self.scores - self.labels))
        return float(np.sum(np.abs(surplus)) / total)

    def brier(self, weights: Floats) -> float:
        """Mean squared difference of score and label."""
        total = np.sum(weights)
        return float(np.sum(weights * (self.scores - self.labels) ** 2) / total) if total > 0 else float("nan")


def _segments(falling: npt.NDArray[np.generic], found: Integers) -> Integers:
    """Position of the first row of each segment, given the scores in order and the positions of positives."""
    starts = np.append(np.ones(min(len(falling), 1), bool), falling[1:] != falling[:-1])
    group = np.cumsum(starts) - 1
    holds = np.zeros(group[-1] + 1 if len(group) else 0, bool)
    holds[group[found]] = True
    begins = np.append(True, holds[1:] | holds[:-1]) if len(holds) else holds
    return np.flatnonzero(starts)[begins]


def equal_mass_bins(scores: Floats, mass: Floats, num_bins: int) -> Integers:
    """int64 [B]: bin of every row, such that each bin has about the same mass and equal scores share one."""
    if not len(scores):
        return np.zeros(0, np.int64)
    order = np.argsort(scores, kind="stable")
    rising, heaped = scores[order], np.cumsum(mass[order])
    starts = np.append(True, np.diff(rising) != 0)
    before = (heaped - mass[order])[starts][np.cumsum(starts) - 1]
    bins = np.empty(len(scores), np.int64)
    bins[order] = np.clip((before / heaped[-1] * num_bins).astype(np.int64), 0, num_bins - 1) if heaped[-1] > 0 else 0
    return bins
