"""Each kind of retry has a budget of its own, counted from failures that the lake remembers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import RetryAction, RetryDecision

from evergreen.errors import ConfigurationError, EvergreenError, LakeUnavailable, NotFound
from evergreen.lake.lake import Lake
from evergreen.orchestration.pod_diagnosis import Action, Cause, Diagnosis
from evergreen.orchestration.pod_failures import failures_since
from evergreen.orchestration.pod_retries import HALVINGS, ORDINARY, RESUMES, RETRIES, PodRetries, spent_before

ENDS: dict[str, dict[str, Any]] = {
    "evicted": {"status": {"reason": "Evicted", "message": "drained"}},
    "memory": {"exitCode": 137, "reason": "OOMKilled"},
    "temporary": {"exitCode": 75},
    "crash": {"exitCode": 1},
}
Fail = Callable[..., RetryDecision]


@pytest.fixture
def fail(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Lets the task's next try fail in a given way; gives the decision."""
    monkeypatch.setenv("EVERGREEN_LAKE_URL", lake.url)
    tries = iter(range(1, 99))

    def once(end: str, *, policy: PodRetries | None = None, max_tries: int = RETRIES) -> RetryDecision:
        context = _context(next(tries), end, max_tries)
        error = RuntimeError("Pod p returned a failure.")
        return (policy or PodRetries(halvings=HALVINGS)).evaluate(error, context["ti"].try_number, max_tries, context)

    return once


def _context(try_number: int, end: str = "crash", max_tries: int = RETRIES) -> dict[str, Any]:
    told = dict(ENDS[end])
    status = told.pop("status", {})
    pod = {
        "metadata": {"name": "p"},
        "status": {**status, "containerStatuses": [{"name": "base", "state": {"terminated": told}}]},
    }
    client = SimpleNamespace(list_namespaced_event=lambda *a, **k: SimpleNamespace(items=[]))
    seen = _Seen(pod)
    operator = SimpleNamespace(
        remote_pod=seen, pod=seen, client=client, namespace="default", retries=RETRIES, _killed=False
    )
    instance = SimpleNamespace(
        dag_id="fraud.train_model",
        run_id="r",
        task_id="train",
        try_number=try_number,
        max_tries=max_tries,
        map_index=-1,
    )
    return {"task": operator, "ti": instance}


class _Seen(dict[str, Any]):
    """A pod as JSON that also has the one attribute the operator's pods are asked for."""

    @property
    def metadata(self) -> SimpleNamespace:
        return SimpleNamespace(name=self["metadata"]["name"])


def test_disruptions_spend_no_ordinary_retry_and_have_a_cap(fail: Fail) -> None:
    assert [fail("evicted").action for _ in range(RESUMES)] == [RetryAction.RETRY] * RESUMES
    assert [fail("crash").action for _ in range(ORDINARY)] == [RetryAction.RETRY] * ORDINARY
    last = fail("evicted")
    assert last.action is RetryAction.FAIL
    assert f"It was resumed {RESUMES} times already" in (last.reason or "")


def test_memory_halves_the_micro_batch_down_to_a_floor(fail: Fail) -> None:
    decisions = [fail("memory") for _ in range(HALVINGS + 1)]
    assert [decision.action for decision in decisions] == [*[RetryAction.RETRY] * HALVINGS, RetryAction.FAIL]
    assert f"halved {HALVINGS} times already" in (decisions[-1].reason or "")
    assert spent_before(_context(HALVINGS + 2))[Action.HALVE] == HALVINGS


def test_step_without_micro_batch_fails_at_once_when_memory_runs_out(fail: Fail) -> None:
    decision = fail("memory", policy=PodRetries())
    assert decision.action is RetryAction.FAIL
    assert "no micro-batch to halve" in (decision.reason or "")


def test_budgets_do_not_mix(fail: Fail) -> None:
    ends = ["crash", "evicted", "temporary", "memory", "crash"]
    assert [fail(end).action for end in ends] == [RetryAction.RETRY] * len(ends)
    assert fail("crash").action is RetryAction.FAIL


def test_cleared_task_has_fresh_budgets(fail: Fail) -> None:
    spent = [fail("crash").action for _ in range(ORDINARY + 1)]
    assert spent[-1] is RetryAction.FAIL
    tried = len(spent)
    assert fail("crash", max_tries=tried + RETRIES).action is RetryAction.RETRY


def test_failures_stay_as_evidence(fail: Fail, lake: Lake) -> None:
    fail("evicted")
    [failure] = failures_since(lake, _context(2), 1)
    assert (failure.cause, failure.action, failure.pod, failure.attempt) == (Cause.EVICTED, Action.RESUME, "p", 1)
    assert lake.objects.list("failures") == ["failures/fraud/fraud.train_model.r/train/1.json"]


def test_resuming_does_not_wait_long(fail: Fail) -> None:
    assert (fail("evicted").retry_delay or timedelta(hours=1)) <= timedelta(seconds=10)


@pytest.mark.parametrize("kind", [LakeUnavailable, ConfigurationError])
def test_lake_that_is_away_or_refuses_lets_every_earlier_try_count(
    fail: Fail, monkeypatch: pytest.MonkeyPatch, kind: type[EvergreenError]
) -> None:
    def away(*_: object) -> None:
        raise kind("Lake", found="no answer", wanted="its objects", remedy="Wait.")

    for name in ("failures_since", "record_failure"):
        monkeypatch.setattr(f"evergreen.orchestration.pod_retries.{name}", away)
    actions = [fail("crash").action for _ in range(ORDINARY + 1)]
    assert actions == [*[RetryAction.RETRY] * ORDINARY, RetryAction.FAIL]
    with pytest.raises(kind):  # rather than halve a micro-batch that nobody knows to be too large
        spent_before(_context(2))


def test_worker_that_is_asked_to_stop_costs_no_retry(fail: Fail, lake: Lake) -> None:
    context = _context(1)
    context["task"]._killed = True
    error = NotFound("Receipt", found="nothing", wanted="a receipt", remedy="Clear the task.")
    assert PodRetries().evaluate(error, 1, RETRIES, context).action is RetryAction.RETRY
    [failure] = failures_since(lake, _context(2), 1)
    assert (failure.cause, failure.action) == (Cause.DELETED, Action.RESUME)


def test_registry_that_is_away_is_given_time(fail: Fail, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Diagnosis(cause=Cause.REGISTRY, sentence="503.", remedy="Wait.")
    monkeypatch.setattr("evergreen.orchestration.pod_retries.diagnose", lambda _: told)
    assert fail("crash").retry_delay == timedelta(minutes=1)


def test_error_of_ours_speaks_for_itself(fail: Fail) -> None:
    error = NotFound("Receipt", found="nothing", wanted="a receipt", remedy="Clear the task.")
    decision = PodRetries().evaluate(error, 1, RETRIES, _context(1))
    assert decision.action is RetryAction.FAIL
    assert decision.reason == "Receipt: found nothing, wanted a receipt. Clear the task. Nothing is tried again."
