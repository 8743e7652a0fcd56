"""Logits into probabilities that are right on average, fitted to the validation days (Platt 1999)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FLATTEST = 0.05
"""Smallest slope: calibration may not turn the order of scores around."""
SLOPE_WEIGHT = 1.0
"""Pull of the slope towards 1, as a normal prior of this precision; a few hundred positives outweigh it."""
STEPS = 50

Logits = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """probability = sigmoid(slope * logit + intercept)."""

    slope: float
    intercept: float

    def probability(self, logits: Logits) -> Logits:
        """float64 [B] in (0, 1)."""
        return _sigmoid(self.slope * logits + self.intercept)


def fit_calibration(logits: Logits, labels: npt.NDArray[np.float32]) -> Calibration:
    """The most likely slope and intercept; with them the mean probability is the rate of positives.

    Logits must be finite and labels hold both classes.
    """
    slope, intercept = _newton(logits, labels, slope=1.0, free=True)
    if slope < FLATTEST:
        slope, intercept = _newton(logits, labels, slope=FLATTEST, free=False)
    return Calibration(slope=slope, intercept=intercept)


def _newton(logits: Logits, labels: npt.NDArray[np.float32], *, slope: float, free: bool) -> tuple[float, float]:
    """Newton's method; sums are written out, since a BLAS splits them by the machine's number of cores."""
    rate = float(labels.mean(dtype=np.float64))
    intercept = float(np.log(rate / (1 - rate)) - slope * logits.mean())
    loss = _loss(slope, intercept, logits, labels)
    for _ in range(STEPS):
        chance = _sigmoid(slope * logits + intercept)
        excess, weight = chance - labels, chance * (1 - chance)
        by_slope = float(np.sum(excess * logits)) + SLOPE_WEIGHT * (slope - 1)
        by_intercept = float(np.sum(excess))
        a, b = float(np.sum(weight * logits**2)) + SLOPE_WEIGHT, float(np.sum(weight * logits))
        c = float(np.sum(weight)) + 1e-12
        down = (c * by_slope - b * by_intercept) / (a * c - b * b) if free else 0.0
        across = (by_intercept - b * down) / c
        for halving in range(30):
            nearer = slope - down * 0.5**halving, intercept - across * 0.5**halving
            lower = _loss(*nearer, logits, labels)
            if lower < loss:
                break
        else:
            break
        (slope, intercept), loss = nearer, lower
    return slope, intercept


def _loss(slope: float, intercept: float, logits: Logits, labels: npt.NDArray[np.float32]) -> float:
    scaled = slope * logits + intercept
    return float(np.sum(np.logaddexp(0, scaled) - labels * scaled)) + SLOPE_WEIGHT / 2 * (slope - 1) ** 2


def _sigmoid(logits: Logits) -> Logits:
    return 0.5 * (1 + np.tanh(0.5 * logits))
