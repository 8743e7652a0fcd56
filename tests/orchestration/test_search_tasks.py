"""The words that the tasks of a search give to the pods of its trials."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from evergreen.artifacts import Model, Receipt, Trial
from evergreen.lake.lake import Lake
from evergreen.lake.receipts import write_receipt
from evergreen.orchestration import proof
from evergreen.orchestration.search_tasks import choose_configuration, draw_trials, keep_best
from evergreen.pipeline import Pipeline, Search

SEARCH = Search.model_validate(
    {"configurations": 3, "keep_one_in": 2, "budget_epochs": 7, "space": {"patience": {"choices": [2, 3, 4]}}}
)


@pytest.fixture
def searched(fraud: Pipeline, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """The fraud pipeline with a search, in an installation with a temporary lake."""
    pipeline = fraud.model_copy(update={"search": SEARCH})
    monkeypatch.setenv("EVERGREEN_LAKE_URL", lake.url)
    monkeypatch.setattr(proof, "pipeline_named", lambda name: pipeline)
    return pipeline


@pytest.fixture
def in_task(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes this process one that runs a task of fraud.train_model."""

    def begin(task: str, *, fresh: bool, receipts: list[str] | None = None) -> None:
        instance = SimpleNamespace(
            dag_id="fraud.train_model",
            run_id="manual__1",
            task_id=task,
            try_number=1,
            map_index=-1,
            xcom_push=lambda key, value: None,
            xcom_pull=lambda task_ids, key: receipts,
        )
        context: dict[str, Any] = {"ti": instance, "params": {"fresh": fresh}}
        monkeypatch.setattr(proof, "get_current_context", lambda: context)

    return begin


def _tried(lake: Lake, pipeline: Pipeline, model: Model) -> list[str]:
    """Paths of the receipts of the first round."""
    return [
        write_receipt(
            lake,
            Receipt(
                pipeline=pipeline.pipeline,
                run="fraud.train_model.manual__1",
                task=f"try_round_1.{number}",
                attempt=1,
                inputs={},
                result={"Trial": _trial(number, model).model_dump(mode="json")},
                spec_digest=pipeline.digest,
                code_version="0",
                started_at=datetime(2026, 11, 1, tzinfo=UTC),
                seconds=1,
                peak_memory_bytes=1,
            ),
        )
        for number in range(3)
    ]


def _trial(number: int, model: Model) -> Trial:
    return Trial(configuration={"patience": 2 + number}, epochs=1, average_precision=0.1 * number, model=model)


def _options(words: list[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))


@pytest.mark.parametrize("fresh", [False, True], ids=["as it was", "train again"])
def test_every_trial_is_told_whether_to_train_again(
    searched: Pipeline,
    lake: Lake,
    in_task: Callable[..., None],
    make_model: Callable[..., Model],
    fresh: bool,
) -> None:
    in_task("draw_trials", fresh=fresh)
    first = draw_trials.function("fraud", 1)
    in_task("keep_best_1", fresh=fresh, receipts=_tried(lake, searched, make_model(lake, searched)))
    second = keep_best.function("fraud", "try_round_1", 2)
    assert [_options(words)["--fresh"] for words in [*first, *second]] == [str(fresh)] * 5
    assert [_options(words)["--configuration"] for words in second] == ['{"patience": 4}', '{"patience": 3}']
    assert {_options(words)["--epochs"] for words in second} == {"2"}


def test_a_trial_that_failed_is_no_candidate_and_stops_no_search(
    searched: Pipeline, lake: Lake, in_task: Callable[..., None], make_model: Callable[..., Model]
) -> None:
    in_task("keep_best_1", fresh=False, receipts=_tried(lake, searched, make_model(lake, searched))[:2])
    kept = keep_best.function("fraud", "try_round_1", 2)
    assert [_options(words)["--configuration"] for words in kept] == ['{"patience": 3}']
    rules = [task.kwargs["trigger_rule"] for task in (keep_best, choose_configuration)]
    assert rules == ["all_done_min_one_success"] * 2
