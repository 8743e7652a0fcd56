"""What the ledger keeps and how it answers, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from evergreen.artifacts import RetrainDecision
from evergreen.errors import ConfigurationError, IntegrityError, NotFound
from evergreen.ledger.ledger import Ledger

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def _decision(reason: str, day: int = 3, *, retrain: bool = False) -> RetrainDecision:
    return RetrainDecision(
        pipeline="fraud",
        day=date(2026, 11, day),
        retrain=retrain,
        reason=reason,
        signals={"drift": retrain},
        brakes={"cooldown": False},
    )


def test_registered_version_is_given_back_whole(ledger: Ledger, judged: Callable[..., Any]) -> None:
    one = judged("one", precision=1e22)  # a float that loses its type where JSON is rewritten
    one.register(ledger)
    found = ledger.version("fraud", "one")
    assert (found.model, found.evaluation, found.verdict) == (one.model, one.evaluation, one.verdict)
    assert abs(found.registered_at - datetime.now(UTC)) < HOUR
    assert found.registered_at.tzinfo is UTC


def test_unknown_version_or_pipeline_is_none(ledger: Ledger, judged: Callable[..., Any]) -> None:
    judged("one").register(ledger)
    assert ledger.version("fraud", "two") is None
    assert ledger.version("churn", "one") is None


def test_registering_twice_adds_nothing(ledger: Ledger, judged: Callable[..., Any]) -> None:
    judged("one").register(ledger)
    before = ledger.heads()
    judged("one").register(ledger)
    assert ledger.heads() == before


def test_version_judged_anew_shows_its_latest_verdict(ledger: Ledger, judged: Callable[..., Any]) -> None:
    judged("one").register(ledger)
    judged("two").register(ledger)
    judged("one", approved=False).register(ledger)
    assert [(v.model.version, v.verdict.approved) for v in ledger.versions("fraud")] == [("one", False), ("two", True)]
    assert ledger.version("fraud", "one").verdict.approved is False
    assert ledger.heads().heads["model_versions"].sequence == 3


def test_version_with_other_bytes_is_refused(ledger: Ledger, judged: Callable[..., Any]) -> None:
    one = judged("one")
    model = one.register(ledger)
    forged = model.model_copy(update={"digest": "f" * 64})
    with pytest.raises(IntegrityError, match="fraud one"):
        ledger.register(forged, one.evaluation, one.verdict)
    with pytest.raises(IntegrityError, match="fraud one"):
        ledger.deploy(forged, actor="a", reason="r")
    assert ledger.current("fraud") is None


def test_verdict_of_another_version_is_refused(ledger: Ledger, judged: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="verdict is of fraud two"):
        ledger.register(judged("one").model, judged("one").evaluation, judged("two").verdict)


def test_unregistered_model_is_not_deployed(ledger: Ledger, judged: Callable[..., Any]) -> None:
    with pytest.raises(NotFound, match="one of fraud"):
        ledger.deploy(judged("one").model, actor="a", reason="r")


def test_deployments_name_what_served_before_who_and_why(ledger: Ledger, judged: Callable[..., Any]) -> None:
    one, two = judged("one").register(ledger), judged("two").register(ledger)
    first = ledger.deploy(one, actor="airflow", reason="approved", at=NOON)
    second = ledger.deploy(two, actor="ann", reason="better", at=NOON + HOUR)
    assert (first.from_version, first.to_version, first.sequence) == (None, "one", 1)
    assert (second.from_version, second.to_version, second.sequence) == ("one", "two", 2)
    assert (second.actor, second.reason, second.at) == ("ann", "better", NOON + HOUR)
    assert (second.model_uri, second.model_digest) == (two.uri, two.digest)
    assert ledger.history("fraud") == [first, second]
    assert ledger.current("fraud") == second


def test_deployment_carries_the_hash_of_the_registration_it_rests_on(
    ledger: Ledger, database: Any, judged: Callable[..., Any]
) -> None:
    judged("one", approved=False).register(ledger)
    ledger.deploy(judged("one").register(ledger), actor="a", reason="r")
    latest = database.run("SELECT hash FROM evergreen.model_versions ORDER BY sequence DESC LIMIT 1")
    assert database.run("SELECT evidence FROM evergreen.deployments") == latest


def test_deploying_what_serves_is_the_same_deployment(ledger: Ledger, judged: Callable[..., Any]) -> None:
    one = judged("one").register(ledger)
    first = ledger.deploy(one, actor="a", reason="r")
    assert ledger.deploy(one, actor="b", reason="again") == first
    assert ledger.history("fraud") == [first]


def test_a_version_serves_from_its_instant_up_to_the_next_ones(ledger: Ledger, judged: Callable[..., Any]) -> None:
    ledger.deploy(judged("one").register(ledger), actor="a", reason="r", at=NOON)
    ledger.deploy(judged("two").register(ledger), actor="a", reason="r", at=NOON + HOUR)
    tick = timedelta(microseconds=1)
    served = [ledger.serving_at("fraud", t) for t in (NOON - tick, NOON, NOON + HOUR - tick, NOON + HOUR)]
    assert [d.to_version if d else None for d in served] == [None, "one", "one", "two"]


def test_times_of_any_zone_are_the_same_instant(ledger: Ledger, judged: Callable[..., Any]) -> None:
    tokyo = timezone(9 * HOUR)
    deployment = ledger.deploy(judged("one").register(ledger), actor="a", reason="r", at=NOON.astimezone(tokyo))
    assert deployment.at.utcoffset() == timedelta(0)
    assert ledger.serving_at("fraud", NOON.astimezone(tokyo)) == deployment


@pytest.mark.parametrize(
    ("at", "why"),
    [(NOON - HOUR, "before the latest deployment"), (NOON.replace(tzinfo=None), "no time zone")],
    ids=["earlier", "naive"],
)
def test_impossible_time_of_a_deployment_is_refused(
    at: datetime, why: str, ledger: Ledger, judged: Callable[..., Any]
) -> None:
    ledger.deploy(judged("one").register(ledger), actor="a", reason="r", at=NOON)
    with pytest.raises(ValueError, match=why):
        ledger.deploy(judged("two").register(ledger), actor="a", reason="r", at=at)


def test_naive_times_are_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        ledger.serving_at("fraud", NOON.replace(tzinfo=None))
    with pytest.raises(ValueError, match="no time zone"):
        ledger.record_decision(_decision("quiet"), at=NOON.replace(tzinfo=None))


def test_clock_set_back_keeps_the_order_of_deployments(ledger: Ledger, judged: Callable[..., Any]) -> None:
    future = datetime.now(UTC) + 24 * HOUR
    ledger.deploy(judged("one").register(ledger), actor="a", reason="r", at=future)
    second = ledger.deploy(judged("two").register(ledger), actor="a", reason="r")
    assert second.at == future
    assert ledger.serving_at("fraud", future) == second


def test_pipelines_do_not_see_each_other(ledger: Ledger, judged: Callable[..., Any]) -> None:
    fraud, churn = judged("one").register(ledger), judged("one", pipeline="churn").register(ledger)
    ledger.deploy(fraud, actor="a", reason="r")
    assert ledger.current("churn") is None
    deployment = ledger.deploy(churn, actor="a", reason="r")
    assert deployment.from_version is None
    assert [d.pipeline for d in ledger.history("churn")] == ["churn"]


def test_previous_is_the_last_deployment_of_the_rollback_target(ledger: Ledger, judged: Callable[..., Any]) -> None:
    one, two, three = (judged(name).register(ledger) for name in ("one", "two", "three"))
    assert ledger.previous("fraud") is None
    first = ledger.deploy(one, actor="a", reason="r")
    assert ledger.previous("fraud") is None
    second = ledger.deploy(two, actor="a", reason="r")
    assert ledger.previous("fraud") == first
    ledger.deploy(three, actor="a", reason="r")
    assert ledger.previous("fraud") == second
    ledger.deploy(two, actor="a", reason="rollback")
    assert ledger.previous("fraud") == first


def test_decisions_are_kept_in_order_with_their_time(ledger: Ledger) -> None:
    quiet, alarm = _decision("quiet"), _decision("drifted", 4, retrain=True)
    ledger.record_decision(quiet, at=NOON)
    ledger.record_decision(alarm, at=NOON + HOUR)
    assert ledger.decisions("fraud") == [(NOON, quiet), (NOON + HOUR, alarm)]
    assert ledger.decisions("churn") == []


def test_same_decision_of_a_day_is_there_once(ledger: Ledger) -> None:
    for decision in (_decision("quiet"), _decision("loud"), _decision("quiet"), _decision("quiet", 4)):
        ledger.record_decision(decision)
    said = [(d.day.day, d.reason) for _, d in ledger.decisions("fraud")]
    assert said == [(3, "quiet"), (3, "loud"), (4, "quiet")]


def test_writers_at_once_make_one_chain(ledger: Ledger, judged: Callable[..., Any]) -> None:
    names = [f"v{n}" for n in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: judged(name).register(ledger), names))
        list(pool.map(lambda name: ledger.deploy(judged(name).model, actor="a", reason="r"), names))
        list(pool.map(lambda name: ledger.record_decision(_decision("same")), names))
    assert sorted(v.model.version for v in ledger.versions("fraud")) == sorted(names)
    history = ledger.history("fraud")
    assert [d.from_version for d in history] == [None, *(d.to_version for d in history[:-1])]
    assert len(ledger.decisions("fraud")) == 1
    assert ledger.verify(None) == []


def test_ledger_that_was_never_migrated_says_so(database: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"no tables of the ledger.*evergreen prepare"):
        Ledger(database.url).current("fraud")
