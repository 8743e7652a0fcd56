"""A pod is composed from its profile, carries no secret, and its exit code decides about retries."""

from __future__ import annotations

import pytest
from airflow.sdk import RetryAction

from evergreen.errors import ConfigurationError
from evergreen.orchestration.pods import PodRetries, pod_step
from evergreen.orchestration.profiles import profile_names, read_profile
from evergreen.pipeline import Pipeline


@pytest.mark.parametrize(
    ("message", "action"),
    [
        ("Pod x returned a failure.\nexit 64 (bad configuration: fail at once): ...", RetryAction.FAIL),
        ("Pod x returned a failure.\nexit 65 (bad data: fail at once): ...", RetryAction.FAIL),
        ("Pod x returned a failure.\nexit 75 (temporary: retry): ...", RetryAction.RETRY),
        ("Pod x returned a failure.\nexit 137 (out of memory: ...): ...", RetryAction.RETRY),
        ("Pod took longer than 600 seconds to be scheduled", RetryAction.DEFAULT),
    ],
)
def test_exit_code_decides_about_the_retry(message: str, action: RetryAction) -> None:
    assert PodRetries().evaluate(RuntimeError(message), 1, 3).action == action


def test_gpu_profile_asks_for_a_gpu(fraud: Pipeline) -> None:
    operator = pod_step(fraud, "train", inputs=["receipt"], profile="gpu-small")
    assert operator.container_resources.limits["nvidia.com/gpu"] == "1"
    assert operator.schedule_timeout_seconds >= 1800


def test_pod_names_credentials_by_reference_only(fraud: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    operator = pod_step(fraud, "train", inputs=["receipt"])
    assert "hunter2" not in str(operator.env_vars) + str(operator.arguments)
    assert [source.secret_ref.name for source in operator.env_from] == ["evergreen-lake"]


def test_unknown_profile_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="cpu-small"):
        read_profile("tpu-huge")
    assert "cpu-small" in profile_names()
