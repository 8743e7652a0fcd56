"""What happens after a pod failed: the cause decides, and each kind of retry has a budget of its own.

Airflow counts one number of retries; here it is high enough for all budgets together, and the tries that really
count are counted from the failures recorded in the lake. A task that a person cleared starts with fresh budgets.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import RetryAction, RetryDecision, RetryPolicy

from evergreen.errors import DataError, EvergreenError
from evergreen.orchestration.pod_diagnosis import Action, Cause, Diagnosis
from evergreen.orchestration.pod_doctor import RESUMES as GOES_ON
from evergreen.orchestration.pod_doctor import diagnose
from evergreen.orchestration.pod_examination import chain, examine
from evergreen.orchestration.pod_failures import Failure, failures_since, record_failure
from evergreen.orchestration.proof import identity, open_lake, pipeline_of, was_stopped

logger = logging.getLogger(__name__)

RESUMES = 10
ORDINARY = 3
HALVINGS = 5
"""A thirty-second part of the micro-batch: what does not fit then, does not fit for another reason."""
SPARE = 2
"""For workers that die, which nobody can record."""
RETRIES = RESUMES + ORDINARY + HALVINGS + SPARE
DELAYS = {Action.RESUME: timedelta(seconds=5), Action.HALVE: timedelta(seconds=5), Action.RETRY: timedelta(seconds=10)}
SLOW = {Cause.QUOTA: timedelta(minutes=1), Cause.REGISTRY: timedelta(minutes=1)}
"""What takes longer to pass."""


class PodRetries(RetryPolicy):
    """Resumes, halves, retries or fails, as the pod's doctor says and the budgets allow."""

    def __init__(self, *, halvings: int = 0) -> None:
        self.budgets = {Action.RESUME: RESUMES, Action.RETRY: ORDINARY, Action.HALVE: halvings, Action.FAIL: 0}

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        """The decision for a failed pod; its reason is the doctor's sentence, which the log ends with."""
        diagnosis = _stopped(context) or _own_error(exception) or diagnose(examine(context["task"], exception, context))
        first = max_tries - context["task"].retries + 1
        action, outcome = self.decide(diagnosis, _spent_or_all(context, first, try_number))
        reason = f"{diagnosis} {outcome}"
        _record(context, diagnosis, action)
        logger.error("%s", reason)
        if action is Action.FAIL:
            return RetryDecision.fail(reason=reason)
        return RetryDecision(action=RetryAction.RETRY, retry_delay=_delay(diagnosis, action), reason=reason)

    def decide(self, diagnosis: Diagnosis, spent: Mapping[Action, int]) -> tuple[Action, str]:
        """What to do, and the same in words, when `spent` tries went to each action before."""
        action = diagnosis.action
        budget, number = self.budgets[action], spent.get(action, 0) + 1
        if action is Action.FAIL:
            return Action.FAIL, "Nothing is tried again."
        if number > budget:
            return Action.FAIL, _used_up(action, budget)
        return action, f"{_NEXT[action]} ({number} of {budget})."


_NEXT = {
    Action.RESUME: "Resuming; no retry is spent",
    Action.HALVE: "Trying again with half the micro-batch and the same effective batch",
    Action.RETRY: "Trying again",
}


def spent_before(context: Mapping[str, Any]) -> Counter[Action]:
    """How many of the running task's tries went to each action since it was last cleared; else the lake's error."""
    return _spent(context, context["ti"].max_tries - context["task"].retries + 1)


def _spent(context: Mapping[str, Any], first: int) -> Counter[Action]:
    return Counter(failure.action for failure in failures_since(open_lake(), context, first))


def _spent_or_all(context: Mapping[str, Any], first: int, try_number: int) -> Counter[Action]:
    try:
        return _spent(context, first)
    except EvergreenError as error:
        logger.warning("Earlier failures cannot be read, so every try counts: %s", error)
        return Counter(dict.fromkeys(Action, try_number - first))


def _record(context: Mapping[str, Any], diagnosis: Diagnosis, action: Action) -> None:
    operator = context["task"]
    pod = operator.remote_pod or operator.pod
    failure = Failure(
        pipeline=pipeline_of(context),
        **identity(context),
        at=datetime.now(UTC),
        pod=pod.metadata.name if pod else None,
        cause=diagnosis.cause,
        action=action,
        sentence=diagnosis.sentence,
        remedy=diagnosis.remedy,
    )
    try:
        logger.info("Failure recorded at %s", record_failure(open_lake(), failure))
    except EvergreenError as error:
        logger.warning("This failure cannot be recorded: %s", error)


def _stopped(context: Mapping[str, Any]) -> Diagnosis | None:
    if not was_stopped(context):
        return None
    sentence = "The worker that waited for the pod was asked to stop, and took the pod along."
    return Diagnosis(cause=Cause.DELETED, sentence=sentence, remedy=GOES_ON)


def _own_error(exception: BaseException) -> Diagnosis | None:
    """The diagnosis of an error of ours, which says itself what is wrong."""
    for link in chain(exception):
        if isinstance(link, EvergreenError):
            cause = Cause.TEMPORARY if link.retryable else _LASTING[isinstance(link, DataError)]
            sentence = f"{link.thing}: found {link.found}, wanted {link.wanted}."
            return Diagnosis(cause=cause, sentence=sentence, remedy=link.remedy)
    return None


_LASTING = {True: Cause.DATA, False: Cause.CONFIGURATION}


def _delay(diagnosis: Diagnosis, action: Action) -> timedelta:
    return SLOW.get(diagnosis.cause, DELAYS[action])


def _used_up(action: Action, budget: int) -> str:
    match action:
        case Action.HALVE if budget == 0:
            return "This step has no micro-batch to halve: nothing is tried again."
        case Action.HALVE:
            return f"The micro-batch was halved {budget} times already: nothing is tried again."
        case Action.RESUME:
            return f"It was resumed {budget} times already: clear the task to go on from its checkpoint."
    return f"All {budget} retries are used up."
