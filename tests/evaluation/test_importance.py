"""The run report: what the model looks at, how it learned, what that took."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from evergreen.artifacts import Model, Receipt, TrainingSet
from evergreen.evaluation import importance
from evergreen.evaluation.evaluate import evaluate
from evergreen.evaluation.importance import permutation_importance
from evergreen.lake.lake import Lake
from evergreen.lake.outputs import objects_of
from evergreen.pipeline import Pipeline


def _receipt(**changes: object) -> Receipt:
    given = {"pipeline": "fraud", "run": "r", "task": "train", "attempt": 1, "inputs": {}, "spec_digest": "s"}
    given |= {"code_version": "0", "started_at": datetime(2026, 11, 20, tzinfo=UTC), "peak_memory_bytes": 1 << 30}
    return Receipt.model_validate(given | {"seconds": 1800} | changes)


def test_the_one_feature_a_model_uses_is_the_only_important_one(
    lake: Lake, fraud: Pipeline, store: Callable[..., TrainingSet], make_model: Callable[..., Model]
) -> None:
    model, training_set = make_model(lake, fraud), store(lake)  # its score is a function of the amount alone
    found = evaluate(fraud, model, training_set, lake).importance
    assert next(iter(found)) == "amount"
    assert found["amount"] > 0.1
    assert {value for name, value in found.items() if name != "amount"} == {0.0}


def test_sample_is_evenly_spaced_over_batches_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance, "SAMPLE_ROWS", 70)
    path = tmp_path / "holdout.parquet"
    pl.DataFrame({"row": range(1000), "label": 0, "other": 0}).write_parquet(path, row_group_size=111)
    sample = importance._sample(path, ["row"])
    assert sample.columns == ["row", "label"]
    assert sample["row"].to_list() == list(range(0, 1000, 15))


def test_holdout_without_positives_gives_no_importance(
    lake: Lake, fraud: Pipeline, rows: Callable[..., pl.DataFrame], make_model: Callable[..., Model], tmp_path: object
) -> None:
    path = lake.objects.root / "none.parquet"
    path.parent.mkdir(parents=True)
    rows(rows=50, share=0.0).write_parquet(path)
    assert permutation_importance(path, make_model(lake, fraud), lake, seed=1) == {}


@pytest.mark.parametrize(
    ("receipt", "said"),
    [
        (_receipt(cost=1.25, energy_watt_hours=150.0, hardware="a card"), ["1800.0 s", "a card", "1.2500", "150.0 Wh"]),
        (_receipt(), ["no price in the profile", "no watts in the profile"]),
        (_receipt(reused="receipts/earlier.json"), ["nothing had changed since receipts/earlier.json"]),
    ],
    ids=["priced", "without prices", "reused"],
)
def test_report_says_what_the_training_took(
    lake: Lake,
    fraud: Pipeline,
    store: Callable[..., TrainingSet],
    make_model: Callable[..., Model],
    receipt: Receipt,
    said: list[str],
) -> None:
    evaluation = evaluate(fraud, make_model(lake, fraud), store(lake), lake, trained=receipt)
    page = lake.objects.get(evaluation.report.path).decode()
    assert "What it looks at" in page
    assert '<td>Peak memory of the host</td><td class="number">1,024 MiB</td>' in page
    assert [text for text in said if text not in page] == []


def test_evaluating_again_leaves_what_earlier_receipts_name(
    lake: Lake, fraud: Pipeline, store: Callable[..., TrainingSet], make_model: Callable[..., Model]
) -> None:
    """Another run's training took longer; then the spec judges no slices."""
    model, training_set = make_model(lake, fraud), store(lake)
    sliceless = fraud.model_copy(update={"gate": fraud.gate.model_copy(update={"slices": ()})})
    named = [
        ref
        for spec, seconds in ((fraud, 60), (fraud, 90), (sliceless, 90))
        for ref in objects_of(evaluate(spec, model, training_set, lake, trained=_receipt(seconds=seconds)), lake)
    ]
    assert len({ref.path for ref in named}) == 6
    assert all(lake.objects.digest(ref.path) == ref.digest for ref in named)
