"""No task is green without the receipt of its own try, every output verified."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from evergreen.artifacts import Model, Receipt
from evergreen.errors import ConfigurationError, NotFound
from evergreen.lake.lake import Lake
from evergreen.lake.outputs import objects_of
from evergreen.lake.receipts import write_receipt
from evergreen.orchestration.proof import pod_result, require_pod_receipt
from evergreen.pipeline import Pipeline


@pytest.fixture
def context(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The context of try 2 of fraud.train_model's `train`, on a temporary lake."""
    monkeypatch.setenv("EVERGREEN_LAKE_URL", lake.url)
    pushed: dict[str, Any] = {}
    instance = SimpleNamespace(
        dag_id="fraud.train_model",
        run_id="manual__1",
        task_id="train",
        try_number=2,
        map_index=-1,
        xcom_push=lambda key, value: pushed.update({key: value}),
        xcom_pull=lambda task_ids, key: pushed.get(key),
    )
    pod = SimpleNamespace(metadata=SimpleNamespace(labels={"try_number": "2"}))
    return {"ti": instance, "task": SimpleNamespace(pod=pod, _killed=False)}


@pytest.fixture
def model(lake: Lake, fraud: Pipeline, make_model: Callable[..., Model]) -> Model:
    """A model in the lake."""
    return make_model(lake, fraud)


def _prove(lake: Lake, model: Model, *, attempt: int = 2) -> None:
    receipt = Receipt(
        pipeline="fraud",
        run="fraud.train_model.manual__1",
        task="train",
        attempt=attempt,
        inputs={},
        objects=tuple(objects_of(model, lake)),
        result={"Model": model.model_dump(mode="json")},
        spec_digest="0",
        code_version="0",
        started_at=datetime(2026, 11, 1, tzinfo=UTC),
        seconds=1,
        peak_memory_bytes=1,
    )
    write_receipt(lake, receipt)


def test_pod_with_its_receipt_is_accepted_and_its_result_read(
    lake: Lake, model: Model, context: dict[str, Any]
) -> None:
    _prove(lake, model)
    require_pod_receipt(context)
    assert pod_result("train", context)["result"]["Model"]["version"] == model.version


def test_task_marked_as_success_by_hand_is_named_as_such(context: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"marked as success by hand.*Clear that task"):
        pod_result("train", context)


def test_pod_that_left_no_receipt_fails_at_once(lake: Lake, context: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match="proof that the task finished its work"):
        require_pod_receipt(context)


def test_pod_that_a_stopped_worker_took_along_may_be_tried_again(lake: Lake, context: dict[str, Any]) -> None:
    context["task"]._killed = True
    with pytest.raises(NotFound):
        require_pod_receipt(context)


def test_receipt_of_another_try_does_not_count(lake: Lake, model: Model, context: dict[str, Any]) -> None:
    _prove(lake, model, attempt=1)
    with pytest.raises(AirflowFailException, match="try 2"):
        require_pod_receipt(context)


def test_pod_taken_over_from_a_dead_worker_proves_itself_under_its_own_try(
    lake: Lake, model: Model, context: dict[str, Any]
) -> None:
    context["task"].pod.metadata.labels["try_number"] = "1"
    _prove(lake, model, attempt=1)
    require_pod_receipt(context)
    assert pod_result("train", context)["result"]["Model"]["version"] == model.version


def test_receipt_of_the_present_try_does_not_count_for_a_pod_of_another(
    lake: Lake, model: Model, context: dict[str, Any]
) -> None:
    context["task"].pod.metadata.labels["try_number"] = "1"
    _prove(lake, model, attempt=2)
    with pytest.raises(AirflowFailException, match="try 1"):
        require_pod_receipt(context)


@pytest.mark.parametrize("name", ["model.onnx", "signature.json", "manifest.json"])
def test_output_altered_before_the_check_fails_the_task(
    lake: Lake, model: Model, context: dict[str, Any], name: str
) -> None:
    _prove(lake, model)
    path = f"{model.uri}/{name}"
    lake.objects.put(path, lake.objects.get(path) + b" ")
    with pytest.raises(AirflowFailException, match=name.replace(".", r"\.")):
        require_pod_receipt(context)


def test_output_altered_after_the_check_fails_the_next_task(lake: Lake, model: Model, context: dict[str, Any]) -> None:
    from evergreen.errors import IntegrityError

    _prove(lake, model)
    require_pod_receipt(context)
    lake.objects.put(f"{model.uri}/model.onnx", b"other")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        pod_result("train", context)
