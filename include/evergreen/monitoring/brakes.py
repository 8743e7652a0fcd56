"""What speaks for a retrain and what against: plain values with a reason each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from evergreen.artifacts import DriftReport, Model, RetrainDecision
from evergreen.lake.lake import end_of
from evergreen.pipeline import Pipeline

MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Signal:
    """Something that asks for a retrain when raised."""

    name: str
    raised: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class Brake:
    """Something that forbids a retrain while it holds."""

    name: str
    holds: bool
    why: str
    """What was found, as a clause that fits after a colon."""


def drift_signals(report: DriftReport) -> tuple[Signal, Signal]:
    """Whether features drifted and whether scores did; neither when the report as a whole found no drift."""
    drifted = [column for column in report.columns if column.drifted and report.drifted]
    features = [c for c in drifted if c.kind != "score"]
    scores = [c for c in drifted if c.kind == "score"]
    named = ", ".join(f"{c.column} by {c.population_stability:.2f}" for c in features[:MOST_NAMED])
    more = f" and {len(features) - MOST_NAMED} more" if len(features) > MOST_NAMED else ""
    moved = f"{len(features)} features moved (population stability: {named}{more})"
    shifted = f"the scores moved (population stability {scores[0].population_stability:.2f})" if scores else ""
    return (
        Signal(name="feature_drift", raised=bool(features), why=moved if features else "features did not drift"),
        Signal(name="score_drift", raised=bool(scores), why=shifted or "scores did not drift"),
    )


def cooldown(pipeline: Pipeline, day: date, decisions: Iterable[RetrainDecision]) -> Brake:
    """Holds for `cooldown_days` days after a day whose decision was to retrain; the day itself does not count."""
    span = timedelta(days=pipeline.retraining.cooldown_days)
    asked = [d.day for d in decisions if d.retrain and timedelta() < day - d.day <= span]
    return Brake(
        name="cooldown",
        holds=bool(asked),
        why=f"a retrain was asked for on {max(asked)} and the cooldown is {span.days} days" if asked else "none runs",
    )


def already_trained(
    day: date, versions: Sequence[Model], *, learned_day: date, began: date | None, comparable: bool
) -> Brake:
    """Holds when a version trained later exists, or the champion's newest training day looks like these days.

    Also while the days after that one hold too little to tell, so that a new champion is not replaced unseen.
    """
    later = [model.version for model in versions if model.as_of > end_of(day)]
    if later:
        why = f"version {later[-1]} was already trained as of a later day"
    elif not comparable:
        why = f"the days after {learned_day} hold too little to tell whether the champion knows such days"
    elif began is None:
        why = f"the champion already learned from days like this, the last of them {learned_day}"
    else:
        why = f"nothing it learned up to {learned_day} looks like this"
    return Brake(name="already_trained", holds=bool(later) or began is None, why=why)


def too_early(pipeline: Pipeline, day: date, *, began: date | None) -> Brake:
    """Holds while a training set as of `day` would have no drifted day among those it learns from.

    Labels must mature, and the newest mature days are kept for validation and the holdout: a model
    trained sooner would only be another model of the world as it was.
    """
    if began is None:
        return Brake(name="too_early", holds=False, why="there is nothing new to wait for")
    lag = learning_lag(pipeline)
    return Brake(
        name="too_early",
        holds=day - lag < began,
        why=f"training days as of {day} end on {day - lag}, before the drift that was first seen on {began}, "
        f"and reach it on {began + lag}",
    )


def too_few_new_labels(pipeline: Pipeline, positives: int) -> Brake:
    """Holds while a training set would learn from fewer than `min_new_labels` positive labels of new, drifted days."""
    least = pipeline.retraining.min_new_labels
    return Brake(
        name="too_few_new_labels",
        holds=positives < least,
        why=f"it would learn from {positives:,} positive labels of such days, of {least:,} wanted",
    )


def gpu_budget(pipeline: Pipeline, *, spent_hours: float, next_hours: float) -> Brake:
    """Holds when this month's training and one more of `next_hours` would go beyond `gpu_hours_per_month`."""
    budget = pipeline.retraining.gpu_hours_per_month
    return Brake(
        name="gpu_budget",
        holds=spent_hours + next_hours > budget or spent_hours >= budget,
        why=f"this month's training took {spent_hours:.2f} of {budget:g} hours and the next may take {next_hours:.2f}",
    )


def learning_lag(pipeline: Pipeline) -> timedelta:
    """Days from an as-of day back to the last day that its training set learns from."""
    training = pipeline.training
    return timedelta(days=pipeline.label.matures_after_days + training.holdout_days + training.validation_days)


def known_by(day: date, now: datetime) -> datetime:
    """The instant up to which a decision for `day` may know things."""
    return min(end_of(day), now)
