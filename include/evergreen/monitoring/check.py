"""Whether recent days look unlike the days the champion learned from."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date

from evergreen.artifacts import ColumnDrift, DriftReport, Model, ObjectRef, TableDay
from evergreen.lake.arrivals import take_in
from evergreen.lake.lake import Lake, start_of
from evergreen.lake.tables import days_between
from evergreen.monitoring.comparison import SCORE, Comparison, compare
from evergreen.monitoring.dependencies import calendar_features, unsettled_features
from evergreen.monitoring.history import unbroken_from
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
from evergreen.monitoring.training_folder import TrainingFolder
from evergreen.pipeline import Monitoring, Pipeline

logger = logging.getLogger(__name__)

MOST_NAMED = 3
NEVER_LEARNED = "the champion never learned from it"
REDEFINED = "redefined since the champion learned it"


@dataclass(frozen=True, kw_only=True)
class CurrentDays:
    """What the days under check look like."""

    sketch: Sketch
    """Their features, each over the days on which it is settled if any are, and the model's scores if there are any."""
    rows: int
    scores_from: str
    """Whose scores these are, or why there are none, in plain words."""
    unsettled: Mapping[str, str]
    """Features that are settled on none of the days, each with why."""
    without_rows: tuple[date, ...]


def check_drift(pipeline: Pipeline, model: Model, first_day: date, last_day: date, lake: Lake) -> DriftReport:
    """How far features and scores of first_day..last_day (inclusive) moved from what `model` learned from.

    The same lake gives the same report, to the byte. Raises NotFound when the last day was never clean
    or the model's training set is gone, and ValueError when the days are in the wrong order.
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
    redefined = TrainingFolder.of(model, lake).redefined(pipeline)
    calendar = calendar_features(pipeline.features)
    unjudged = {**current.unsettled, **calendar, **one_sided(reference, current, redefined)}
    comparison = compare(reference, current.sketch, pipeline.monitoring, unjudged=unjudged)
    return Findings(
        pipeline=pipeline,
        version=model.version,
        days=(first_day, last_day),
        without_rows=current.without_rows,
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
    with_rows = {day.day for day in built if day.rows}
    sketches = {day.day: day_sketch(pipeline, day, lake) for day in built}
    unsettled = unsettled_on(pipeline, list(sketches), lake)
    whole = merge(list(sketches.values()))
    settled = merge(
        [
            {name: part for name, part in sketch.items() if name not in unsettled[day]}
            for day, sketch in sketches.items()
        ]
    )
    scores, scores_from = scores_on(pipeline, model, built, lake)
    return CurrentDays(
        sketch={**whole, **settled, **scores},
        rows=max((part.rows for part in whole.values()), default=0),
        scores_from=scores_from,
        unsettled={name: why for name, why in unsettled[days[-1]].items() if name not in settled},
        without_rows=tuple(day for day in days if day not in with_rows),
    )


def scores_on(pipeline: Pipeline, model: Model, built: Sequence[TableDay], lake: Lake) -> tuple[Sketch, str]:
    """The scores of the days `built`, and whose they are in plain words.

    No scores, and why, where too few were served and the model takes features that the pipeline no longer has as it
    learned them: over missing or other inputs its scores would seem to have drifted.
    """
    served = served_scores(pipeline, model, [day.day for day in built], lake)
    if served[SCORE].rows >= pipeline.monitoring.min_rows:
        return served, "scores as they were served"
    lacking = TrainingFolder.of(model, lake).lacking(pipeline)
    if lacking:
        return {}, f"the champion takes {lacking[0]}, which the features no longer have as it learned it"
    scores = merge([day_scores(pipeline, model, day, lake) for day in built])
    return scores, "the model's scores on these days' features, as too few were served by the end of their day"


def one_sided(reference: Sketch, current: CurrentDays, redefined: Set[str]) -> dict[str, str]:
    """Columns that only one side has, each with the reason: features new to the champion, and scores it cannot give."""
    absent = [name for name in current.sketch if name not in reference]
    new = {name: REDEFINED if name in redefined else NEVER_LEARNED for name in absent}
    return new if SCORE in current.sketch else {**new, SCORE: current.scores_from}


def unsettled_on(pipeline: Pipeline, days: Sequence[date], lake: Lake) -> dict[date, Mapping[str, str]]:
    """Day -> features whose windows reach on it to before unbroken history, and so say nothing of drift, with why."""
    zones = ("clean", "features")  # a day with features was clean once
    found = [day for zone in zones for day in lake.table(zone, pipeline.pipeline).days(date.min, days[-1])]
    written = {day.day for day in found if day.rows}
    return {
        day: unsettled_features(
            pipeline.features, history_from=start_of(unbroken_from(written, day)), start=start_of(day)
        )
        for day in days
    }


def explain(comparison: Comparison, rows: int, monitoring: Monitoring) -> str:
    """One plain sentence: the verdict with its worst columns and their numbers."""
    if rows < monitoring.min_rows and not comparison.judged:
        return f"No verdict: too few rows, {rows:,} where at least {monitoring.min_rows:,} are wanted."
    if not comparison.judged:
        why, _ = Counter(comparison.unjudged.values()).most_common(1)[0]
        return f"No verdict: no column can be judged, most often: {why}."
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
