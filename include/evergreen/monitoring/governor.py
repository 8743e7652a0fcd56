"""Whether drift is worth a retrain: signals against brakes, decided once, recorded always, with the reason."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Protocol

from evergreen.artifacts import DriftReport, Model, RetrainDecision
from evergreen.lake.lake import Lake
from evergreen.monitoring.brakes import (
    Brake,
    Signal,
    already_trained,
    cooldown,
    drift_signals,
    gpu_budget,
    known_by,
    learning_lag,
    too_early,
    too_few_new_labels,
)
from evergreen.monitoring.episode import Episode, find_episode
from evergreen.monitoring.evidence import new_positives, training_hours
from evergreen.pipeline import Pipeline

logger = logging.getLogger(__name__)


class Registered(Protocol):
    """A version in the ledger."""

    @property
    def model(self) -> Model: ...


class Decisions(Protocol):
    """What the governor asks of the ledger."""

    def decisions(self, pipeline_name: str) -> list[tuple[datetime, RetrainDecision]]: ...

    def record_decision(self, decision: RetrainDecision, *, at: datetime | None = None) -> None: ...

    def versions(self, pipeline_name: str) -> Sequence[Registered]: ...


def govern(
    pipeline: Pipeline,
    day: date,
    report: DriftReport,
    model: Model,
    ledger: Decisions,
    lake: Lake,
    *,
    now: datetime,
) -> RetrainDecision:
    """The decision for `day` on what `report` found against champion `model`, now in the ledger.

    Labels count as they were known at the day's end, and the day's own decision is no brake on itself,
    so deciding again on the same evidence gives the same and records nothing more.
    """
    signals = drift_signals(report)
    brakes = _brakes(pipeline, day, report, model, ledger, lake, now=now)
    retrain, reason = decide_retrain(signals, brakes)
    decision = RetrainDecision(
        pipeline=pipeline.pipeline,
        day=day,
        retrain=retrain,
        reason=reason,
        signals={signal.name: signal.raised for signal in signals},
        brakes={brake.name: brake.holds for brake in brakes},
    )
    ledger.record_decision(decision, at=now)
    logger.info("Decided for %s on %s: %s", pipeline.pipeline, day, reason)
    return decision


def decide_retrain(signals: Sequence[Signal], brakes: Sequence[Brake]) -> tuple[bool, str]:
    """Whether to retrain, and one sentence why: any signal asks, any brake forbids.

    The sentence also says what would have been decided without each brake that holds.
    """
    raised = [signal.why for signal in signals if signal.raised]
    holding = [brake for brake in brakes if brake.holds]
    if not raised:
        return False, "No retrain: neither features nor scores drifted, so no brake was needed."
    asked = " and ".join(raised)
    if not holding:
        return True, f"Retrain: {asked}, and no brake holds."
    found = "; ".join(brake.why for brake in holding)
    return False, f"No retrain although {asked}: {found}; {_without(holding)}."


def _without(holding: Sequence[Brake]) -> str:
    names = [brake.name.replace("_", " ") for brake in holding]
    if len(names) == 1:
        return f"without the brake '{names[0]}' it would retrain"
    listed = ", ".join(f"'{name}'" for name in names)
    return f"without any one of the brakes {listed} the others would still hold, without all of them it would retrain"


def _brakes(
    pipeline: Pipeline, day: date, report: DriftReport, model: Model, ledger: Decisions, lake: Lake, *, now: datetime
) -> list[Brake]:
    name = pipeline.pipeline
    episode = find_episode(pipeline, model, report, lake)
    versions = [registered.model for registered in ledger.versions(name)]
    spent, longest = training_hours(pipeline, day, lake)
    return [
        cooldown(pipeline, day, [decision for _, decision in ledger.decisions(name)]),
        already_trained(
            day, versions, learned_day=episode.learned_day, began=episode.began, comparable=episode.comparable
        ),
        too_early(pipeline, day, began=episode.began),
        too_few_new_labels(pipeline, _learnable_positives(pipeline, day, episode, lake, now=now)),
        gpu_budget(pipeline, spent_hours=spent, next_hours=longest),
    ]


def _learnable_positives(pipeline: Pipeline, day: date, episode: Episode, lake: Lake, *, now: datetime) -> int:
    """Positive labels a training as of `day` would learn from that are new: of drifted days, if there are any."""
    new = episode.began or episode.learned_day + timedelta(days=1)
    last = day - learning_lag(pipeline)
    return new_positives(pipeline, new, last, known_by=known_by(day, now), lake=lake)
