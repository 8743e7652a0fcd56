"""The governor asks once a cause, says why not, and never spends beyond its budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from evergreen.artifacts import DriftReport, Model, ObjectRef, Receipt, RetrainDecision
from evergreen.lake.lake import Lake, end_of
from evergreen.lake.receipts import write_receipt
from evergreen.lake.tables import days_between
from evergreen.ledger.ledger import Ledger
from evergreen.monitoring.brakes import Brake, Signal
from evergreen.monitoring.check import as_report, find_drift
from evergreen.monitoring.governor import Decisions, decide_retrain, govern

AS_OF = date(2026, 10, 26)
SHIFT = date(2026, 10, 28)
ONE_DAY = timedelta(days=1)
NOW = datetime(2027, 6, 1, tzinfo=UTC)
PAGE = ObjectRef(path="page", digest="0" * 64, size_bytes=0)


@dataclass
class Version:
    model: Model


@dataclass
class MemoryLedger:
    """The ledger's decisions and versions, in memory."""

    recorded: list[RetrainDecision] = field(default_factory=list)
    registered: list[Version] = field(default_factory=list)

    def decisions(self, pipeline_name: str) -> list[tuple[datetime, RetrainDecision]]:
        return [(NOW, decision) for decision in self.recorded]

    def record_decision(self, decision: RetrainDecision, *, at: datetime | None = None) -> None:
        if decision not in self.recorded:
            self.recorded.append(decision)

    def versions(self, pipeline_name: str) -> Sequence[Version]:
        return self.registered


def _checked(world: Any, model: Model, day: date) -> DriftReport:
    return as_report(find_drift(world.pipeline, model, day, day, world.lake), PAGE)


def _decided(world: Any, model: Model, day: date, ledger: Decisions) -> RetrainDecision:
    world.write(AS_OF, day)
    report = _checked(world, model, day)
    return govern(world.pipeline, day, report, model, ledger, world.lake, now=NOW)


def _paid(lake: Lake, day: date, hours: float, task: str = "train") -> None:
    write_receipt(
        lake,
        Receipt(
            pipeline="fraud",
            run=f"scheduled__{day}",
            task=task,
            attempt=1,
            inputs={},
            spec_digest="0" * 64,
            code_version="1",
            started_at=end_of(day),
            seconds=hours * 3600,
            peak_memory_bytes=0,
        ),
    )


def _brakes(*held: str) -> list[Brake]:
    names = ("cooldown", "already_trained", "gpu_budget")
    return [Brake(name=name, holds=name in held, why=f"{name} was found") for name in names]


DRIFT = Signal(name="feature_drift", raised=True, why="3 features moved")


def test_drift_without_brakes_retrains() -> None:
    assert decide_retrain([DRIFT], _brakes()) == (True, "Retrain: 3 features moved, and no brake holds.")


def test_one_brake_is_named_with_what_it_prevented() -> None:
    retrain, reason = decide_retrain([DRIFT], _brakes("cooldown"))
    assert not retrain
    assert reason == (
        "No retrain although 3 features moved: cooldown was found; without the brake 'cooldown' it would retrain."
    )


def test_two_brakes_each_hold_without_the_other() -> None:
    retrain, reason = decide_retrain([DRIFT], _brakes("cooldown", "gpu_budget"))
    assert not retrain
    assert "without any one of the brakes 'cooldown', 'gpu budget' the others would still hold" in reason


def test_no_signal_needs_no_brake() -> None:
    calm = Signal(name="feature_drift", raised=False, why="features did not drift")
    retrain, reason = decide_retrain([calm], _brakes("cooldown"))
    assert not retrain
    assert reason.startswith("No retrain: neither features nor scores drifted")


@pytest.mark.parametrize("closed", [None, 6], ids=["open all week", "closed on Sundays"])
def test_each_cause_is_retrained_for_exactly_once_in_sixty_days(world: Any, closed: int | None) -> None:
    world.shifts, world.closed = (SHIFT, SHIFT + timedelta(days=30)), closed
    champion, ledger = world.champion(AS_OF), MemoryLedger()
    days = [d for d in days_between(AS_OF + ONE_DAY, AS_OF + timedelta(days=60)) if d.weekday() != closed]
    for day in days:
        if _decided(world, champion, day, ledger).retrain:
            champion = world.champion(day)
            ledger.registered.append(Version(champion))
    asked = [decision.day for decision in ledger.recorded if decision.retrain]
    assert asked == [shift + timedelta(days=7) for shift in world.shifts]
    assert len(ledger.recorded) == len(days)


def test_drift_too_young_to_learn_from_waits_and_says_until_when(world: Any) -> None:
    world.shifts = (SHIFT,)
    model = world.champion(AS_OF)
    decision = _decided(world, model, SHIFT + ONE_DAY, MemoryLedger())
    assert not decision.retrain
    assert decision.signals == {"feature_drift": True, "score_drift": True}
    assert decision.brakes["too_early"]
    assert decision.brakes["too_few_new_labels"]
    assert "first seen on 2026-10-28, and reach it on 2026-11-04" in decision.reason


def test_quiet_day_is_recorded_too(world: Any) -> None:
    model, ledger = world.champion(AS_OF), MemoryLedger()
    decision = _decided(world, model, SHIFT, ledger)
    assert ledger.recorded == [decision]
    assert decision.signals == {"feature_drift": False, "score_drift": False}
    assert set(decision.brakes) == {"cooldown", "already_trained", "too_early", "too_few_new_labels", "gpu_budget"}


def test_deciding_again_gives_and_records_the_same(world: Any) -> None:
    world.shifts = (SHIFT,)
    model, ledger = world.champion(AS_OF), MemoryLedger()
    day = SHIFT + timedelta(days=7)
    first = _decided(world, model, day, ledger)
    assert first.retrain
    assert _decided(world, model, day, ledger) == first
    assert ledger.recorded == [first]


def test_real_ledger_keeps_each_decision_once(world: Any, ledger: Ledger) -> None:
    world.shifts = (SHIFT,)
    model = world.champion(AS_OF)
    days = days_between(SHIFT + timedelta(days=6), SHIFT + timedelta(days=8))
    decided = [_decided(world, model, day, ledger) for day in days]
    again = [_decided(world, model, day, ledger) for day in days]
    assert [decision.retrain for decision in decided] == [False, True, False]
    assert again == decided
    assert [decision for _, decision in ledger.decisions("fraud")] == decided
    assert _held(decided[-1]) == {"cooldown"}


@pytest.fixture
def ready(world: Any) -> tuple[Any, Model, date]:
    """A world whose drift is old enough, labelled enough and unpaid for: nothing but a brake prevents a retrain."""
    world.shifts = (SHIFT,)
    return world, world.champion(AS_OF), SHIFT + timedelta(days=7)


def test_cooldown_holds_after_an_earlier_retrain(ready: tuple[Any, Model, date]) -> None:
    world, model, day = ready
    ledger = MemoryLedger()
    earlier = RetrainDecision(
        pipeline="fraud", day=day - timedelta(days=3), retrain=True, reason="", signals={}, brakes={}
    )
    ledger.record_decision(earlier)
    assert _held(_decided(world, model, day, ledger)) == {"cooldown"}
    assert _decided(world, model, day + ONE_DAY, ledger).retrain


def test_version_of_a_later_day_makes_a_retrain_needless(ready: tuple[Any, Model, date]) -> None:
    world, model, day = ready
    later = model.model_copy(update={"as_of": end_of(day + ONE_DAY), "version": "later"})
    decision = _decided(world, model, day, MemoryLedger(registered=[Version(later)]))
    assert _held(decision) == {"already_trained"}
    assert "version later was already trained as of a later day" in decision.reason


def test_too_few_positive_labels_hold(ready: tuple[Any, Model, date]) -> None:
    world, model, day = ready
    world.positives_a_day = 239
    decision = _decided(world, model, day, MemoryLedger())
    assert _held(decision) == {"too_few_new_labels"}
    assert "it would learn from 239 positive labels of such days, of 240 wanted" in decision.reason


def test_days_that_no_training_learns_from_yet_do_not_count_as_labels(ready: tuple[Any, Model, date]) -> None:
    world, model, day = ready
    world.positives_a_day = 100
    days = days_between(day, day + timedelta(days=2))
    assert [_decided(world, model, today, MemoryLedger()).retrain for today in days] == [False, False, True]


def _decided_over(world: Any, model: Model, first: date, last: date, ledger: Decisions) -> RetrainDecision:
    """The decision on a report about all of first..last."""
    world.write(AS_OF, last)
    report = as_report(find_drift(world.pipeline, model, first, last, world.lake), PAGE)
    return govern(world.pipeline, last, report, model, ledger, world.lake, now=NOW)


def test_window_longer_than_the_learning_lag_asks_for_a_retrain_too(ready: tuple[Any, Model, date]) -> None:
    world, model, day = ready
    ledger = MemoryLedger()
    for last in days_between(day, day + timedelta(days=3)):
        _decided_over(world, model, last - timedelta(days=19), last, ledger)
    assert not any(decision.brakes["already_trained"] for decision in ledger.recorded)
    assert [decision.retrain for decision in ledger.recorded].count(True) == 1


def test_too_few_rows_after_the_days_learned_from_are_said_as_such(ready: tuple[Any, Model, date]) -> None:
    world, model, _ = ready
    spec = world.pipeline
    world.pipeline = spec.model_copy(update={"monitoring": spec.monitoring.model_copy(update={"min_rows": 25_000})})
    last = SHIFT + timedelta(days=3)
    decision = _decided_over(world, model, last - timedelta(days=13), last, MemoryLedger())
    assert decision.signals["feature_drift"]
    assert decision.brakes["already_trained"]
    assert "the days after 2026-10-19 hold too little to tell whether the champion knows such days" in decision.reason


def test_served_scores_that_drift_are_not_called_known_when_a_feature_was_renamed(
    ready: tuple[Any, Model, date],
) -> None:
    world, model, day = ready
    world.shifts, features = (), world.pipeline.features
    renamed = features.model_copy(update={"numeric": ("euros", *features.numeric[1:])})
    world.pipeline = world.pipeline.model_copy(update={"features": renamed})
    world.write(AS_OF, day)
    served = (
        world.written[day]
        .select("event_time", "known_at")
        .with_columns(version=pl.lit(model.version), score=pl.lit(0.875, pl.Float32))
    )
    world.lake.table("predictions", "fraud").replace_day(day, served.to_arrow())
    decision = _decided(world, model, day, MemoryLedger())
    assert decision.signals == {"feature_drift": False, "score_drift": True}
    assert decision.brakes["already_trained"]
    assert "hold too little to tell whether the champion knows such days" in decision.reason


def test_labels_reported_after_the_day_do_not_count(ready: tuple[Any, Model, date]) -> None:
    world, model, day = ready
    world.write(AS_OF, day)
    report = _checked(world, model, day)
    early = end_of(SHIFT)
    decision = govern(world.pipeline, day, report, model, MemoryLedger(), world.lake, now=early)
    assert _held(decision) == {"too_few_new_labels"}


def test_spent_budget_holds_and_other_months_and_tasks_do_not_count(ready: tuple[Any, Model, date]) -> None:
    world, model, day = ready
    _paid(world.lake, date(2026, 10, 12), 5.0)
    _paid(world.lake, date(2026, 11, 1), 30.0, task="build_training_set")
    _paid(world.lake, date(2026, 11, 2), 9.0)
    assert _decided(world, model, day, MemoryLedger()).retrain
    _paid(world.lake, date(2026, 11, 3), 3.0)
    decision = _decided(world, model, day, MemoryLedger())
    assert _held(decision) == {"gpu_budget"}
    assert "took 12.00 of 20 hours and the next may take 9.00" in decision.reason


def test_trials_of_a_search_spend_the_budget_and_count_towards_the_next_run(ready: tuple[Any, Model, date]) -> None:
    world, model, day = ready
    for trial in range(3):
        _paid(world.lake, date(2026, 10, 12), 3.0, task=f"try_round_1.{trial}")
    _paid(world.lake, date(2026, 10, 12), 2.0)
    _paid(world.lake, date(2026, 11, 2), 8.0, task="try_round_2.0")
    assert _decided(world, model, day, MemoryLedger()).retrain
    _paid(world.lake, date(2026, 11, 2), 2.0)
    decision = _decided(world, model, day, MemoryLedger())
    assert _held(decision) == {"gpu_budget"}
    assert "took 10.00 of 20 hours and the next may take 11.00" in decision.reason


def test_budget_is_never_exceeded(ready: tuple[Any, Model, date]) -> None:
    world, model, day = ready
    spec = world.pipeline
    world.pipeline = spec.model_copy(update={"retraining": spec.retraining.model_copy(update={"cooldown_days": 0})})
    ledger, spent = MemoryLedger(), 0.0
    for today in days_between(day, day + timedelta(days=6)):
        if _decided(world, model, today, ledger).retrain:
            _paid(world.lake, today, 6.0)
            spent += 6.0
        assert spent <= spec.retraining.gpu_hours_per_month
    assert spent == 18.0


def _held(decision: RetrainDecision) -> set[str]:
    return {name for name, holds in decision.brakes.items() if holds}
