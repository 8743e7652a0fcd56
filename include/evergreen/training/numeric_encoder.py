"""Numbers as positions between quantiles: what piecewise-linear encoding is fitted to.

F columns, T bins. A value is clipped into its column's knots; bin t then says how far through it the value is,
from 0 to 1 (Gorishniy et al. 2022, "On Embeddings for Numerical Features in Tabular Deep Learning"). The weighted
sum of the bins is the value's normal quantile, so that one encoding gives both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

QUANTILES = np.unique([*np.linspace(0, 1, 33), 0.001, 0.003, 0.01, 0.99, 0.997, 0.999])
"""32 bins of equal mass, the outer ones cut finer: amounts have long tails, and there fraud is."""
LARGEST = 1e37
"""Knots stay within this, so that their differences and inverses are finite in float32."""
NARROWEST = 2.5e-7
"""Relative width below which two knots are one: two to four steps of float32."""


@dataclass(frozen=True, kw_only=True)
class NumericEncoder:
    """Knots of every column, padded to equal numbers of bins; a padded bin is always 0."""

    median: Floats
    """[F]: stands for a missing value."""
    first: Floats
    """[F]: smallest knot."""
    last: Floats
    """[F]: largest knot."""
    lower: Floats
    """[F, T]: where each bin begins."""
    inverse: Floats
    """[F, T]: one over the bin's width."""
    offset: Floats
    """[F]: normal quantile of the first knot."""
    steps: Floats
    """[F, T]: how much the normal quantile grows over the bin."""
    flagged: tuple[int, ...]
    """Columns that were missing in some rows of the train part, and not in all: these get a flag."""

    @property
    def constant(self) -> list[int]:
        """Columns with at most one value, which carry nothing."""
        return np.flatnonzero(self.first == self.last).tolist()

    def bounded(self, values: Floats) -> Floats:
        """`values` [B, F] within the smallest and largest seen; NaN stays in flagged columns, elsewhere the median."""
        absent = np.isnan(values)
        kept = np.clip(np.where(absent, self.median, values), self.first, self.last)
        missing = np.zeros(self.median.size, bool)
        missing[list(self.flagged)] = True
        return np.where(absent & missing, np.float32(np.nan), kept)


def fit_numeric(values: Floats) -> NumericEncoder:
    """Knots, medians and flags of the columns of `values` [B, F], where NaN is missing."""
    bounded, absent = np.clip(values, -LARGEST, LARGEST), np.isnan(values)
    columns = [_knots(column) for column in bounded.T]
    num_bins = max((knots.size - 1 for knots, _ in columns), default=0) or 1
    return NumericEncoder(
        median=_stack([_median(column) for column in bounded.T]),
        first=_stack([knots[0] for knots, _ in columns]),
        last=_stack([knots[-1] for knots, _ in columns]),
        lower=_padded([knots[:-1] for knots, _ in columns], num_bins),
        inverse=_padded([1 / np.diff(knots) for knots, _ in columns], num_bins),
        offset=_stack([normal[0] for _, normal in columns]),
        steps=_padded([np.diff(normal) for _, normal in columns], num_bins),
        flagged=tuple(np.flatnonzero(absent.any(axis=0) & ~absent.all(axis=0)).tolist()),
    )


def _knots(column: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The knots of one column and the normal quantile of each."""
    present = np.sort(column[~np.isnan(column)].astype(np.float64))
    if present.size == 0:
        return np.zeros(1), np.zeros(1)
    knots = np.unique(present)
    if knots.size > QUANTILES.size:
        knots = np.unique(np.quantile(present, QUANTILES, method="inverted_cdf"))
    knots = _apart(knots)
    rank = (np.searchsorted(present, knots, "left") + np.searchsorted(present, knots, "right")) / (2 * present.size)
    return knots, np.array([NormalDist().inv_cdf(share) for share in rank])


def _apart(knots: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of the ascending `knots` those that are far enough from the last one kept, so that none stands for a chain."""
    kept = knots[:1].tolist()
    for knot in knots[1:].tolist():
        if knot - kept[-1] > NARROWEST * max(abs(knot), 1e-30):
            kept.append(knot)
    return np.array(kept)


def _median(column: Floats) -> float:
    present = column[~np.isnan(column)]
    return float(np.quantile(present, 0.5, method="inverted_cdf")) if present.size else 0.0


def _stack(values: Sequence[float]) -> Floats:
    return np.array(values, np.float32)


def _padded(rows: Sequence[npt.NDArray[np.float64]], width: int) -> Floats:
    table = np.zeros((len(rows), width), np.float32)
    for row, values in zip(table, rows, strict=True):
        row[: values.size] = values
    return table
