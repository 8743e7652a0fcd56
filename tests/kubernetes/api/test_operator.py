"""The unmodified KubernetesPodOperator, deferrable and not, on every cluster."""

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

from kube_pods import ClusterUnderTest, api_of

pytestmark = pytest.mark.airflow

PROGRAM = Path(__file__).with_name("operator_dag.py")


@pytest.fixture(scope="module")
def airflow_run(cluster: ClusterUnderTest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What Airflow printed while it ran the four tasks of operator_dag.py."""
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    dags.mkdir()
    program = shutil.copy(PROGRAM, dags)
    place = {"kube_config_path": str(cluster.kubeconfig), "namespace": cluster.namespace}
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps({"conn_type": "kubernetes", "extra": place}),
    }
    done = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert "STATES" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_the_unmodified_operator_succeeds_and_fails_with_its_pod(airflow_run: str) -> None:
    states: dict[str, Any] = json.loads(airflow_run.partition("STATES ")[2].splitlines()[0])
    assert states == {
        "sync-good": "success",
        "deferred-good": "success",
        "sync-bad": "failed",
        "deferred-bad": "failed",
    }


def test_every_line_of_the_pod_is_in_the_task_log_and_in_order(airflow_run: str) -> None:
    steps = [int(number) for number in re.findall(r"\[base\] (?:logs: )?step (\d+)", airflow_run)]
    # Where a poll falls into the second of the last line, the operator asks for that second again.
    assert [step for i, step in enumerate(steps) if step not in steps[max(0, i - 15) : i]] == 2 * list(range(30))
    assert len(re.findall(r"\[base\] (?:logs: )?about to fail", airflow_run)) >= 2


def test_succeeded_pods_are_deleted_and_failed_ones_kept_as_asked(airflow_run: str, cluster: ClusterUnderTest) -> None:
    pods = api_of(cluster.kubeconfig).list_namespaced_pod(cluster.namespace, label_selector="dag_id=pods").items
    assert {pod.metadata.labels["task_id"] for pod in pods} == {"sync-bad", "deferred-bad"}
    assert all(pod.metadata.labels["already_checked"] == "True" for pod in pods)
