"""Two sketches of a column cut into the same few bins, so that they can be compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from evergreen.monitoring.sketch import (
    CategoricalSketch,
    ColumnSketch,
    Integers,
    NumericSketch,
    lower_edges,
)

NUMERIC_BINS = 10
CATEGORICAL_BINS = 20
MISSING = "missing"
OTHER = "other"


@dataclass(frozen=True, kw_only=True, eq=False)
class Bins:
    """Counts of two samples in the same bins; no bin is empty on both sides."""

    labels: tuple[str, ...]
    reference: Integers
    """int64 [K]"""
    current: Integers
    """int64 [K]"""


def bins_of(reference: ColumnSketch, current: ColumnSketch) -> Bins:
    """Both columns in the same bins; ValueError when one is numeric and the other is not."""
    if isinstance(reference, NumericSketch) and isinstance(current, NumericSketch):
        return numeric_bins(reference, current)
    if isinstance(reference, CategoricalSketch) and isinstance(current, CategoricalSketch):
        return categorical_bins(reference, current)
    raise ValueError("a numeric and a categorical column cannot be compared")


def numeric_bins(reference: NumericSketch, current: NumericSketch) -> Bins:
    """About ten bins cut at the reference's deciles, one for missing, and one for each heavy value.

    A cell that holds a tenth of the rows (mean of both sides' shares) stays alone, so a constant
    column, a count that is mostly 0 and a new default value are all seen for what they are.
    """
    cells = np.union1d(reference.cells, current.cells)
    counts = np.stack([_on(cells, reference), _on(cells, current)])
    starts = _bin_starts(counts)
    binned = np.add.reduceat(counts, starts, axis=1) if len(cells) else counts
    absent = [side.missing + side.not_a_number for side in (reference, current)]
    return _present([*_ranges(cells, starts), MISSING], np.column_stack([binned, absent]))


def categorical_bins(reference: CategoricalSketch, current: CategoricalSketch) -> Bins:
    """The twenty values with the largest mean share, one bin for all others, one for missing.

    Both sides choose, so that a category nobody saw before gets its bin.
    """
    sides = [pl.DataFrame({"value": s.values, side: s.counts}) for side, s in (("r", reference), ("c", current))]
    both = sides[0].join(sides[1], on="value", how="full", coalesce=True).fill_null(0).sort("value")
    counts = np.stack([both["r"].to_numpy(), both["c"].to_numpy()])
    order = np.argsort(-_shares(counts).mean(axis=0), kind="stable")
    named, others = order[:CATEGORICAL_BINS], order[CATEGORICAL_BINS:]
    rest = counts[:, others].sum(axis=1) + np.array([reference.rest, current.rest])
    absent = [reference.missing, current.missing]
    labels = [*both["value"].gather(named).to_list(), OTHER, MISSING]
    return _present(labels, np.column_stack([counts[:, named], rest, absent]))


def _on(cells: Integers, sketch: NumericSketch) -> Integers:
    """int64 [K]: the sketch's counts on a superset of its cells."""
    counts = np.zeros(len(cells), np.int64)
    counts[np.searchsorted(cells, sketch.cells)] = sketch.counts
    return counts


def _bin_starts(counts: Integers) -> npt.NDArray[np.intp]:
    """Indices of the cells [2, K] at which a bin begins."""
    if not counts.shape[1]:
        return np.zeros(0, np.intp)
    shares = _shares(counts)
    heavy = shares.mean(axis=0) >= 1 / NUMERIC_BINS
    by = shares[0] if counts[0].any() else shares[1]
    decile = np.minimum((np.cumsum(by) - by / 2) * NUMERIC_BINS, NUMERIC_BINS - 1).astype(np.int64)
    begins = np.ones(counts.shape[1], bool)
    begins[1:] = (np.diff(decile) > 0) | heavy[1:] | heavy[:-1]
    return np.flatnonzero(begins)


def _shares(counts: Integers) -> npt.NDArray[np.float64]:
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), np.float64)


def _ranges(cells: Integers, starts: npt.NDArray[np.intp]) -> list[str]:
    """A label for the bin from each start to the next: a value when it holds one cell, else its ends."""
    lows = lower_edges(cells[starts])
    highs = lower_edges(cells[np.append(starts[1:], len(cells))[: len(starts)] - 1])
    return [
        _number(low) if low == high else f"{_number(low)} to {_number(high)}"
        for low, high in zip(lows, highs, strict=True)
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.3g}"


def _present(labels: list[str], counts: Integers) -> Bins:
    held = np.flatnonzero(counts.sum(axis=0))
    return Bins(labels=tuple(labels[index] for index in held), reference=counts[0, held], current=counts[1, held])
