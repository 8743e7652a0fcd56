"""A pod step's identity, budgets and limits follow from the spec and its profile."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest

from evergreen.orchestration.pod_care import INSTALLATION, TASK_ANNOTATIONS, PodCare, delete_pods
from evergreen.orchestration.pod_diagnosis import Action
from evergreen.orchestration.pod_retries import HALVINGS, ORDINARY, RESUMES, RETRIES
from evergreen.orchestration.pods import pod_step, use_chosen_profile
from evergreen.orchestration.profiles import read_profile
from evergreen.pipeline import Pipeline


def test_airflow_counts_more_retries_than_all_budgets_together(fraud: Pipeline) -> None:
    operator = pod_step(fraud, "train", inputs=[])
    assert operator.retries == RETRIES > RESUMES + ORDINARY + HALVINGS


def test_only_training_has_a_micro_batch_to_halve(fraud: Pipeline) -> None:
    few = fraud.model_copy(update={"training": fraud.training.model_copy(update={"micro_batch_rows": 64})})
    budgets = [pod_step(p, s, inputs=[]).retry_policy.budgets for p, s in ((fraud, "train"), (few, "train"))]
    assert [budget[Action.HALVE] for budget in budgets] == [3, 1]
    assert pod_step(fraud, "evaluate", inputs=[]).retry_policy.budgets[Action.HALVE] == 0


def test_task_waits_longer_than_its_pod_may_take(fraud: Pipeline) -> None:
    large = fraud.model_copy(update={"training": fraud.training.model_copy(update={"profile": "gpu-small"})})
    operator = pod_step(large, "train", inputs=[])
    profile = read_profile("gpu-small")
    assert operator.execution_timeout > timedelta(seconds=profile.deadline_seconds + profile.schedule_timeout_seconds)


def test_chosen_profile_keeps_what_says_whose_pod_it_is(fraud: Pipeline) -> None:
    operator = pod_step(fraud, "train", inputs=[])
    before, limit = operator.labels[INSTALLATION], operator.execution_timeout
    use_chosen_profile({"params": {"profile": "gpu-small"}, "task": operator})
    assert operator.labels[INSTALLATION] == before
    assert operator.execution_timeout > limit


def test_pod_is_cared_for_until_its_task_has_failed(fraud: Pipeline) -> None:
    operator = pod_step(fraud, "train", inputs=[])
    assert operator.durable
    assert operator.callbacks == [PodCare]
    assert operator.annotations == TASK_ANNOTATIONS
    assert operator.on_failure_callback in (delete_pods, [delete_pods])


@pytest.mark.parametrize(("step", "own"), [("train", True), ("try", True), ("evaluate", False)])
def test_another_framework_trains_and_tries_but_does_not_evaluate(fraud: Pipeline, step: str, own: bool) -> None:
    command, image = ("python", "-m", "own"), "example.com/own:1"
    training = fraud.training.model_copy(update={"command": command, "image": image})
    operator = pod_step(fraud.model_copy(update={"training": training}), step, inputs=[])
    assert (operator.cmds == [*command, step], operator.image == image) == (own, own)


def test_missing_kubeconfig_spoils_no_failure_callback(
    fraud: Pipeline, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERGREEN_KUBECONFIG", "/nowhere/kubeconfig")
    operator = pod_step(fraud, "train", inputs=[])
    delete_pods({"task": operator, "ti": SimpleNamespace(dag_id="d", task_id="train", run_id="r", map_index=-1)})
    assert "cannot be looked for" in caplog.text
