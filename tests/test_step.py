"""The container's door: receipts in, receipt out, and an exit code that says what happened."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

from evergreen.artifacts import Receipt
from evergreen.lake.lake import Lake
from evergreen.lake.receipts import write_receipt
from evergreen.pipeline import Pipeline


def _evaluate(lake: Lake, *inputs: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "evergreen.step", "evaluate", "--pipeline", "specs/fraud.json"]
    command += ["--run", "r", "--task", "evaluate", "--attempt", "1"]
    command += [word for path in inputs for word in ("--inputs", path)]
    environment = {"EVERGREEN_LAKE_URL": lake.url, "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_missing_artifact_is_a_configuration_error(lake: Lake, fraud: Pipeline) -> None:
    lake.objects.put("specs/fraud.json", fraud.model_dump_json().encode())
    receipt = Receipt(
        pipeline="fraud",
        run="r",
        task="t",
        attempt=1,
        inputs={},
        spec_digest=fraud.digest,
        code_version="0",
        started_at=datetime(2026, 11, 1, tzinfo=UTC),
        seconds=0,
        peak_memory_bytes=0,
    )
    ended = _evaluate(lake, write_receipt(lake, receipt))
    assert ended.returncode == 64
    assert "exit 64 (bad configuration: fail at once)" in ended.stdout.splitlines()[-1]
    assert "wanted Model" in ended.stdout


def test_missing_input_is_bad_data_and_leaves_no_receipt(lake: Lake, fraud: Pipeline) -> None:
    lake.objects.put("specs/fraud.json", fraud.model_dump_json().encode())
    ended = _evaluate(lake, "receipts/none.json")
    assert ended.returncode == 65
    assert "receipts/none.json" in ended.stdout
    assert not lake.objects.list("receipts")
