"""The container's door: receipts in, receipt out, and an exit code that says what happened."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from evergreen.artifacts import Model, Receipt, Trial
from evergreen.lake.lake import Lake
from evergreen.lake.receipts import write_receipt
from evergreen.pipeline import Pipeline
from evergreen.settings import VERSION
from evergreen.step import _trained_on


def _evaluate(lake: Lake, *inputs: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "evergreen.step", "evaluate", "--pipeline", "specs/fraud.json"]
    command += ["--run", "r", "--task", "evaluate", "--attempt", "1"]
    command += [word for path in inputs for word in ("--inputs", path)]
    environment = {"EVERGREEN_LAKE_URL": lake.url, "PATH": "/usr/bin:/bin"} | variables
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def _upstream(lake: Lake, pipeline: Pipeline, **result: object) -> str:
    """Path of a receipt that proves `result`."""
    receipt = Receipt(
        pipeline="fraud",
        run="r",
        task="t",
        attempt=1,
        inputs={},
        result=result,
        spec_digest=pipeline.digest,
        code_version="0",
        started_at=datetime(2026, 11, 1, tzinfo=UTC),
        seconds=0,
        peak_memory_bytes=0,
    )
    return write_receipt(lake, receipt)


def test_missing_artifact_is_a_configuration_error(lake: Lake, fraud: Pipeline) -> None:
    lake.objects.put("specs/fraud.json", fraud.model_dump_json().encode())
    ended = _evaluate(lake, _upstream(lake, fraud))
    assert ended.returncode == 64
    assert "exit 64 (bad configuration: fail at once)" in ended.stdout.splitlines()[-1]
    assert "wanted Model" in ended.stdout


@pytest.mark.parametrize(
    ("variable", "found"),
    [
        ("EVERGREEN_SERVING_PORT", "found 'wrong'"),
        ("EVERGREEN_RENDEZVOUS", "found index ''"),
        ("EVERGREEN_WATTS", "wanted a number from 0 on"),
    ],
)
def test_wrong_setting_is_a_configuration_error(lake: Lake, fraud: Pipeline, variable: str, found: str) -> None:
    ended = _evaluate(lake, **{variable: "wrong"})
    assert ended.returncode == 64, ended.stderr
    assert "exit 64 (bad configuration: fail at once)" in ended.stdout.splitlines()[-1]
    assert found in ended.stdout


def test_spec_of_another_version_is_a_configuration_error_that_names_both(lake: Lake, fraud: Pipeline) -> None:
    spec = fraud.model_dump(mode="json")
    spec["training"] |= {"colour": "red"}
    lake.objects.put("specs/fraud.json", json.dumps(spec).encode())
    ended = _evaluate(lake, _upstream(lake, fraud), EVERGREEN_CODE_VERSION="9.9.9")
    assert ended.returncode == 64, ended.stderr
    last = ended.stdout.splitlines()[-1]
    assert last.startswith("exit 64 (bad configuration: fail at once): Pipeline that this step was given")
    assert "found training.colour: Extra inputs are not permitted" in last
    assert f"Evergreen {VERSION}, the image's" in last
    assert "Evergreen 9.9.9 wrote it" in last


def test_artifact_of_another_version_is_a_configuration_error(lake: Lake, fraud: Pipeline) -> None:
    lake.objects.put("specs/fraud.json", fraud.model_dump_json().encode())
    ended = _evaluate(lake, _upstream(lake, fraud, Model={"pipeline": "fraud"}))
    assert ended.returncode == 64, ended.stderr
    assert "Model that this step was given: found version: Field required" in ended.stdout.splitlines()[-1]


def test_missing_input_is_bad_data_and_leaves_no_receipt(lake: Lake, fraud: Pipeline) -> None:
    lake.objects.put("specs/fraud.json", fraud.model_dump_json().encode())
    ended = _evaluate(lake, "receipts/none.json")
    assert ended.returncode == 65
    assert "receipts/none.json" in ended.stdout
    assert not lake.objects.list("receipts")


def test_trial_was_trained_on_the_device_of_its_model(
    lake: Lake, fraud: Pipeline, make_model: Callable[..., Model]
) -> None:
    model = make_model(lake, fraud)
    trial = Trial(configuration={}, epochs=1, average_precision=0.5, model=model)
    assert _trained_on([trial], lake) == "cpu"
    lake.objects.put(f"{model.uri}/config.json", b'{"device": "xla"}')
    assert _trained_on([trial], lake) == _trained_on([model], lake) == "xla"
    assert _trained_on([], lake) == "cpu"
