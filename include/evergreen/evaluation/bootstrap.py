"""Paired bootstrap: the same seeded resamples of the rows for every statistic.

Efron and Tibshirani, An Introduction to the Bootstrap (1993), percentile intervals (chapter 13).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from evergreen.artifacts import Estimate
from evergreen.evaluation.metrics import Floats, Statistic

RESAMPLES = 400
LEVEL = 0.95
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, eq=False)
class Sampled:
    """A statistic of the sample and of each of its R resamples."""

    value: float
    resampled: Floats
    """float64 [R]; NaN where the resample does not define it."""

    def __sub__(self, other: Sampled) -> Sampled:
        """The paired difference, resample by resample."""
        return Sampled(self.value - other.value, self.resampled - other.resampled)

    def estimate(self) -> Estimate | None:
        """The value with its 95 % percentile interval; None where the statistic is undefined.

        The interval is stretched to hold the value, which a biased statistic (calibration error) may lack.
        """
        defined = self.resampled[np.isfinite(self.resampled)]
        if not np.isfinite(self.value) or not len(defined):
            return None
        low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Estimate(value=self.value, low=min(float(low), self.value), high=max(float(high), self.value))


def bootstrap(
    statistics: Mapping[Key, Statistic], num_rows: int, *, seed: int, resamples: int = RESAMPLES
) -> dict[Key, Sampled]:
    """Every statistic of the sample and of its resamples, by name; the same seed gives the same bits."""
    values = {name: statistic(np.ones(num_rows)) for name, statistic in statistics.items()}
    drawn = {name: np.empty(resamples) for name in statistics}
    for number, weights in enumerate(_resamples(num_rows, resamples, seed)):
        for name, statistic in statistics.items():
            drawn[name][number] = statistic(weights)
    return {name: Sampled(values[name], drawn[name]) for name in statistics}


def _resamples(num_rows: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each row was drawn when `num_rows` are drawn with replacement, float64 [num_rows] a time."""
    generator = np.random.Generator(np.random.PCG64(seed))
    for _ in range(resamples):
        drawn = generator.integers(0, num_rows, num_rows) if num_rows else np.zeros(0, np.int64)
        yield np.bincount(drawn, minlength=num_rows).astype(np.float64)
