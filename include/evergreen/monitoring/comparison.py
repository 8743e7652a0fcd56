"""Which columns drifted between two sketches: size of the effect first, then certainty. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evergreen.artifacts import ColumnDrift
from evergreen.monitoring.binning import bins_of
from evergreen.monitoring.sketch import ColumnSketch, NumericSketch, Sketch
from evergreen.monitoring.statistics import benjamini_hochberg, chi_squared_p, jensen_shannon, population_stability
from evergreen.pipeline import Monitoring

SCORE = "model score"
"""Column of a model's scores in a sketch; the blank keeps it apart from every feature's name."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Columns from most to least moved, the unjudged ones last, and why those were not judged."""

    columns: tuple[ColumnDrift, ...]
    unjudged: Mapping[str, str]
    """Column -> reason; also of columns that only one side has."""
    drifted: bool

    @property
    def judged(self) -> tuple[ColumnDrift, ...]:
        return tuple(column for column in self.columns if column.column not in self.unjudged)

    @property
    def moved(self) -> tuple[ColumnDrift, ...]:
        """The columns that drifted, worst first."""
        return tuple(column for column in self.columns if column.drifted)


def compare(
    reference: Sketch, current: Sketch, monitoring: Monitoring, *, unjudged: Mapping[str, str] | None = None
) -> Comparison:
    """How far each column of `current` moved from `reference`, and whether that is drift.

    A column drifts when population stability and Jensen-Shannon divergence both reach their floors and its
    p-value, adjusted for the number of columns judged, is at most the false discovery rate. With fewer than
    `min_rows` rows on either side a column is not judged.
    """
    names = [name for name in current if name in reference]
    reasons = dict(unjudged or {}) | _too_few(reference, current, names, monitoring.min_rows)
    measured = [_measure(name, reference[name], current[name]) for name in names]
    judged = [column for column in measured if column.column not in reasons]
    adjusted = benjamini_hochberg(np.array([column.p_value for column in judged]))
    verdicts = {c.column: _verdict(c, float(p), monitoring) for c, p in zip(judged, adjusted, strict=True)}
    columns = [verdicts.get(column.column, column) for column in measured]
    return Comparison(
        columns=tuple(sorted(columns, key=lambda c: (c.column in reasons, -c.population_stability, c.column))),
        unjudged=reasons,
        drifted=sum(c.drifted for c in columns) >= monitoring.min_drifted_columns,
    )


def _too_few(reference: Sketch, current: Sketch, names: list[str], least: int) -> dict[str, str]:
    rows = {name: min(reference[name].rows, current[name].rows) for name in names}
    return {name: f"too few rows: {found:,} of {least:,}" for name, found in rows.items() if found < least}


def _measure(name: str, reference: ColumnSketch, current: ColumnSketch) -> ColumnDrift:
    bins = bins_of(reference, current)
    return ColumnDrift(
        column=name,
        kind=_kind(name, reference),
        population_stability=population_stability(bins.reference, bins.current),
        jensen_shannon=jensen_shannon(bins.reference, bins.current),
        p_value=chi_squared_p(bins.reference, bins.current),
        drifted=False,
    )


def _kind(name: str, sketch: ColumnSketch) -> Literal["numeric", "categorical", "score"]:
    if name == SCORE:
        return "score"
    return "numeric" if isinstance(sketch, NumericSketch) else "categorical"


def _verdict(column: ColumnDrift, adjusted: float, monitoring: Monitoring) -> ColumnDrift:
    drifted = (
        column.population_stability >= monitoring.population_stability_floor
        and column.jensen_shannon >= monitoring.jensen_shannon_floor
        and adjusted <= monitoring.false_discovery_rate
    )
    return column.model_copy(update={"p_value": adjusted, "drifted": drifted})
