"""Whether recent days look unlike the days the champion learned from."""

from __future__ import annotations

import logging
from collections.abc import Set
from dataclasses import dataclass
from datetime import date, timedelta

from evergreen.artifacts import ColumnDrift, DriftReport, Model, ObjectRef
from evergreen.lake.arrivals import take_in
from evergreen.lake.lake import Lake, start_of
from evergreen.lake.tables import days_between
from evergreen.monitoring.comparison import SCORE, Comparison, compare
from evergreen.monitoring.dependencies import calendar_features, unsettled_features
from evergreen.monitoring.kept_sketches import (
    built_days,
    day_scores,
    day_sketch,
    holdout_scores,
    served_scores,
    training_sketch,
)
from evergreen.monitoring.report import Findings, publish_report
from evergreen.monitoring.sketch import Sketch, merge
from evergreen.pipeline import Monitoring, Pipeline

logger = logging.getLogger(__name__)

MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class CurrentDays:
    """What the days under check look like."""

    sketch: Sketch
    """Their features, and the model's scores."""
    rows: int
    scores_from: str
    """Whose scores these are, in plain words."""


def check_drift(pipeline: Pipeline, model: Model, first_day: date, last_day: date, lake: Lake) -> DriftReport:
    """How far features and scores of first_day..last_day (inclusive) moved from what `model` learned from.

    The same lake gives the same report, to the byte. Raises NotFound when a day's features were never
    built or the model's training set is gone, and ValueError when the days are in the wrong order.
    """
    take_in(lake, "predictions", pipeline.pipeline)
    findings = find_drift(pipeline, model, first_day, last_day, lake)
    logger.info("Checked %s from %s to %s: %s", pipeline.pipeline, first_day, last_day, findings.reason)
    return as_report(findings, publish_report(findings, lake))


def find_drift(pipeline: Pipeline, model: Model, first_day: date, last_day: date, lake: Lake) -> Findings:
    """What `check_drift` reports, before it is drawn and published."""
    if last_day < first_day:
        raise ValueError(f"last_day {last_day} is before first_day {first_day}")
    reference = {**training_sketch(pipeline, model, lake), **holdout_scores(pipeline, model, lake)}
    current = look_at(pipeline, model, days_between(first_day, last_day), lake)
    unjudged = unjudged_features(pipeline, first_day, lake)
    comparison = compare(reference, current.sketch, pipeline.monitoring, unjudged=unjudged)
    return Findings(
        pipeline=pipeline,
        version=model.version,
        days=(first_day, last_day),
        rows=current.rows,
        scores_from=current.scores_from,
        reference=reference,
        current=current.sketch,
        comparison=comparison,
        reason=explain(comparison, current.rows, pipeline.monitoring),
    )


def as_report(findings: Findings, page: ObjectRef) -> DriftReport:
    """The artifact of `findings`, whose page for people is `page`."""
    return DriftReport(
        pipeline=findings.pipeline.pipeline,
        first_day=findings.days[0],
        last_day=findings.days[1],
        version=findings.version,
        rows=findings.rows,
        drifted=findings.comparison.drifted,
        reason=findings.reason,
        columns=findings.comparison.columns,
        report=page,
    )


def look_at(pipeline: Pipeline, model: Model, days: list[date], lake: Lake) -> CurrentDays:
    """The features of `days` and the scores `model` served on them, or would have when it served too few."""
    built = built_days(pipeline, days, lake)
    features = merge([day_sketch(pipeline, day, lake) for day in built])
    served = served_scores(pipeline, model, days, lake)
    if served[SCORE].rows >= pipeline.monitoring.min_rows:
        scores, scores_from = served, "scores as they were served"
    else:
        scores = merge([day_scores(pipeline, model, day, lake) for day in built])
        scores_from = "the model's scores on these days' features, as too few were served by the end of their day"
    rows = max((part.rows for part in features.values()), default=0)
    return CurrentDays(sketch={**features, **scores}, rows=rows, scores_from=scores_from)


def unjudged_features(pipeline: Pipeline, first_day: date, lake: Lake) -> dict[str, str]:
    """Features whose distribution says nothing about drift from `first_day` on, each with the reason."""
    zones = ("clean", "features")  # a day with features was clean once
    written = {day.day for zone in zones for day in lake.table(zone, pipeline.pipeline).days(date.min, first_day)}
    history_from = start_of(unbroken_from(written, first_day))
    unsettled = unsettled_features(pipeline.features, history_from=history_from, start=start_of(first_day))
    return {**unsettled, **calendar_features(pipeline.features)}


def unbroken_from(written: Set[date], day: date) -> date:
    """The first of the days that lead up to `day` without a gap: windows that reach further back lack rows."""
    while day - timedelta(days=1) in written:
        day -= timedelta(days=1)
    return day


def explain(comparison: Comparison, rows: int, monitoring: Monitoring) -> str:
    """One plain sentence: the verdict with its worst columns and their numbers."""
    if not comparison.judged:
        return f"No verdict: too few rows, {rows:,} where at least {monitoring.min_rows:,} are wanted."
    calm = f"{len(comparison.judged)} columns judged"
    if not comparison.moved:
        worst = comparison.judged[0]
        return (
            f"No drift: of {calm}, {worst.column} moved most, by a population stability of "
            f"{worst.population_stability:.3f} and a Jensen-Shannon divergence of {worst.jensen_shannon:.4f}; "
            f"the floors are {monitoring.population_stability_floor:g} and {monitoring.jensen_shannon_floor:g}."
        )
    named = ", ".join(_numbers(column) for column in comparison.moved[:MOST_NAMED])
    more = len(comparison.moved) - MOST_NAMED
    verdict = "Drift" if comparison.drifted else "No drift, as too few columns moved"
    return f"{verdict}: {len(comparison.moved)} of {calm} moved: {named}{f' and {more} more' if more > 0 else ''}."


def _numbers(column: ColumnDrift) -> str:
    stability, divergence = column.population_stability, column.jensen_shannon
    return f"{column.column} (population stability {stability:.2f}, Jensen-Shannon {divergence:.3f})"
