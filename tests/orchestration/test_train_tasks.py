"""When a night's training runs at all."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from evergreen.lake.lake import Lake
from evergreen.orchestration import proof
from evergreen.pipeline import Pipeline


@pytest.mark.filterwarnings("ignore:The `airflow.utils.operator_helpers")  # of Airflow's own sensor
@pytest.mark.parametrize(
    ("run_type", "nightly", "ended"),
    [
        ("scheduled", False, AirflowSkipException),
        ("scheduled", True, None),
        ("manual", False, AirflowFailException),
    ],
)
def test_pipeline_that_is_not_trained_nightly_skips_its_nights_and_no_other_run(
    fraud: Pipeline,
    lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
    run_type: str,
    nightly: bool,
    ended: type[Exception] | None,
) -> None:
    from evergreen.orchestration.train_tasks import wait_for_features

    spec = fraud.model_copy(update={"retraining": fraud.retraining.model_copy(update={"nightly": nightly})})
    monkeypatch.setenv("EVERGREEN_LAKE_URL", lake.url)
    monkeypatch.setattr(proof, "pipeline_named", lambda name: spec)
    run = SimpleNamespace(run_type=run_type, partition_key="2026-11-01")
    monkeypatch.setattr(proof, "get_current_context", lambda: {"dag_run": run, "params": {}})
    if ended is None:
        assert wait_for_features.function("fraud").is_done is False
    else:
        with pytest.raises(ended):
            wait_for_features.function("fraud")
