"""What a table's columns look like, small enough to keep and exact to add up: one histogram a column.

Numbers are counted in cells of bounded relative width, cut from the bits of the float itself: the
exponent and the first six bits of the fraction, after the HDR histogram (Tene, hdrhistogram.org) and
DDSketch (Masson, Rim and Lee, VLDB 2019). No logarithm is taken, so every machine agrees to the bit,
and every integer up to 127 has a cell of its own. The cells are the same for every column and day,
so merging is adding counts: associative and commutative.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

FRACTION_BITS = 6
SHIFT = 52 - FRACTION_BITS
MAGNITUDE = np.int64(0x7FFF_FFFF_FFFF_FFFF)
MOST_VALUES = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class NumericSketch:
    """How many values of a numeric column lie in each cell; only cells that hold any are kept."""

    cells: Integers
    """int64 [K], ascending, as `cells_of` numbers them; numeric order is cell order."""
    counts: Integers
    """int64 [K], each at least 1."""
    missing: int = 0
    """Nulls."""
    not_a_number: int = 0

    @property
    def rows(self) -> int:
        """All values, missing ones included."""
        return int(self.counts.sum()) + self.missing + self.not_a_number


@dataclass(frozen=True, kw_only=True, eq=False)
class CategoricalSketch:
    """How often each value of a categorical column occurs."""

    values: pl.Series
    """String [K], ascending, distinct."""
    counts: Integers
    """int64 [K], each at least 1."""
    rest: int = 0
    """Values too rare to be listed, all together."""
    missing: int = 0

    @property
    def rows(self) -> int:
        """All values, missing and unlisted ones included."""
        return int(self.counts.sum()) + self.rest + self.missing


ColumnSketch: TypeAlias = NumericSketch | CategoricalSketch
Sketch: TypeAlias = Mapping[str, ColumnSketch]
"""Column name -> its sketch; columns may have seen different numbers of rows."""


def sketch_frames(frames: Iterable[pl.DataFrame], *, numeric: Sequence[str], categorical: Sequence[str]) -> Sketch:
    """The named columns over all `frames`; memory is one frame and the sketch.

    Of a categorical column the 1000 commonest values are listed, ties in the values' order.
    """
    parts = [sketch_frame(frame, numeric=numeric, categorical=categorical) for frame in frames]
    nothing = sketch_frame(pl.DataFrame(schema=_schema(numeric, categorical)), numeric=numeric, categorical=categorical)
    merged = merge([nothing, *parts])
    return {name: _commonest(part, MOST_VALUES) for name, part in merged.items()}


def sketch_frame(frame: pl.DataFrame, *, numeric: Sequence[str], categorical: Sequence[str]) -> Sketch:
    """The named columns of one frame, every categorical value listed."""
    numbers: dict[str, ColumnSketch] = {name: sketch_numbers(frame[name]) for name in numeric}
    return numbers | {name: sketch_values(frame[name]) for name in categorical}


def sketch_numbers(column: pl.Series) -> NumericSketch:
    """The sketch of a numeric or boolean column."""
    present = column.cast(pl.Float64).drop_nulls().to_numpy()
    absent = np.isnan(present)
    not_a_number = int(np.count_nonzero(absent))
    cells = cells_of(present[~absent] if not_a_number else present)
    kept, counts = _add_up(cells)
    return NumericSketch(cells=kept, counts=counts, missing=column.null_count(), not_a_number=not_a_number)


def sketch_values(column: pl.Series) -> CategoricalSketch:
    """The sketch of a categorical column, every value listed."""
    counted = column.cast(pl.String).drop_nulls().alias("value").value_counts(name="count").sort("value")
    return CategoricalSketch(
        values=counted["value"], counts=counted["count"].cast(pl.Int64).to_numpy(), missing=column.null_count()
    )


def cells_of(numbers: Floats) -> Integers:
    """int64 [B]: the cell of each number (no NaN among them); 0 is cell 0, negatives mirror positives.

    A cell of non-zero numbers is at most 1/64 of its lower edge wide.
    """
    bits = np.ascontiguousarray(numbers, np.float64).view(np.int64)
    cells = (bits & MAGNITUDE) >> SHIFT
    np.negative(cells, out=cells, where=bits < 0)
    return cells


def lower_edges(cells: Integers) -> Floats:
    """float64 [K]: the number nearest to zero in each cell, which for small integers is the integer."""
    edges = (np.abs(cells) << SHIFT).view(np.float64)
    return np.where(cells < 0, -edges, edges)


def merge(sketches: Sequence[Sketch]) -> Sketch:
    """The sketch of all rows that any of `sketches` saw; order and grouping do not matter."""
    names = dict.fromkeys(name for sketch in sketches for name in sketch)
    return {name: merge_columns([sketch[name] for sketch in sketches if name in sketch]) for name in names}


def merge_columns(parts: Sequence[ColumnSketch]) -> ColumnSketch:
    """One column's sketch over the rows of all `parts`, at least one, all of one kind."""
    numbers = [part for part in parts if isinstance(part, NumericSketch)]
    values = [part for part in parts if isinstance(part, CategoricalSketch)]
    if numbers and values:
        raise ValueError("a numeric and a categorical sketch have nothing to merge")
    return merge_values(values) if values else merge_numbers(numbers)


def merge_numbers(parts: Sequence[NumericSketch]) -> NumericSketch:
    """One numeric column over the rows of all `parts`."""
    cells, counts = _add_up(
        np.concatenate([part.cells for part in parts]), np.concatenate([part.counts for part in parts])
    )
    return NumericSketch(
        cells=cells,
        counts=counts,
        missing=sum(part.missing for part in parts),
        not_a_number=sum(part.not_a_number for part in parts),
    )


def merge_values(parts: Sequence[CategoricalSketch]) -> CategoricalSketch:
    """One categorical column over the rows of all `parts`; nothing more is unlisted than already was."""
    listed = pl.concat([pl.DataFrame({"value": part.values, "count": part.counts}) for part in parts])
    summed = listed.group_by("value").agg(pl.col("count").sum()).sort("value")
    return CategoricalSketch(
        values=summed["value"],
        counts=summed["count"].to_numpy(),
        rest=sum(part.rest for part in parts),
        missing=sum(part.missing for part in parts),
    )


def _add_up(cells: Integers, weights: Integers | None = None) -> tuple[Integers, Integers]:
    """Distinct cells ascending and their total weights; without weights each counts once.

    Counting by index is linear where sorting is not; sums stay exact below 2**53 rows.
    """
    if not len(cells):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    lowest = cells.min()
    totals = np.bincount(cells - lowest, weights=weights)
    held = np.flatnonzero(totals)
    return held + lowest, totals[held].astype(np.int64)


def _commonest(part: ColumnSketch, most: int) -> ColumnSketch:
    if isinstance(part, NumericSketch) or len(part.values) <= most:
        return part
    kept = np.sort(np.argsort(-part.counts, kind="stable")[:most])
    return CategoricalSketch(
        values=part.values.gather(kept),
        counts=part.counts[kept],
        rest=part.rest + int(part.counts.sum() - part.counts[kept].sum()),
        missing=part.missing,
    )


def _schema(numeric: Sequence[str], categorical: Sequence[str]) -> dict[str, pl.DataType]:
    return {name: pl.Float64() for name in numeric} | {name: pl.String() for name in categorical}
