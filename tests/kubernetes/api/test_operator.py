from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evergreen.localcluster.server_process import LocalCluster

pytestmark = pytest.mark.airflow

PROGRAM = Path(__file__).with_name("operator_dag.py")


@pytest.fixture(scope="module")
def airflow_run(shared_cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What Airflow printed while it ran the four tasks of operator_dag.py."""
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    dags.mkdir()
    program = shutil.copy(PROGRAM, dags)
    connection = {
        "conn_type": "kubernetes",
        "extra": {"kube_config_path": str(shared_cluster.kubeconfig), "namespace": "default"},
    }
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
    }
    shared_cluster.faults.log_cut("task_id=sync-cut", after_seconds=1)
    done = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    shared_cluster.faults.clear()
    assert "STATES" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_the_unmodified_operator_succeeds_and_fails_with_its_pod(airflow_run: str) -> None:
    states: dict[str, Any] = json.loads(airflow_run.partition("STATES ")[2].splitlines()[0])
    assert states == {
        "sync-good": "success",
        "deferred-good": "success",
        "sync-cut": "success",
        "sync-bad": "failed",
        "deferred-bad": "failed",
    }


def test_every_line_of_the_pod_is_in_the_task_log_once_and_in_order(airflow_run: str) -> None:
    steps = [int(number) for number in re.findall(r"\[base\] (?:logs: )?step (\d+)", airflow_run)]
    assert steps == 2 * list(range(30))
    assert len(re.findall(r"\[base\] (?:logs: )?about to fail", airflow_run)) == 2


def test_broken_log_stream_loses_no_line(airflow_run: str) -> None:
    # The operator asks again for the last second or two, so lines may come twice: its own doing, and it says so.
    assert "log read interrupted but container base still running" in airflow_run
    lines = [int(number) for number in re.findall(r"\[base\] cut (\d+)", airflow_run)]
    assert sorted(set(lines)) == list(range(30))
    assert len(lines) > 30


def test_succeeded_pods_are_deleted_and_failed_ones_kept_as_asked(
    airflow_run: str, shared_cluster: LocalCluster
) -> None:
    labels = [pod["metadata"]["labels"] for pod in shared_cluster.pods()]
    assert {item["task_id"] for item in labels if "task_id" in item} == {"sync-bad", "deferred-bad"}
    assert all(item["already_checked"] == "True" for item in labels if "task_id" in item)
