"""What the operator makes of a fault that only the local cluster can be told to have."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evergreen.localcluster.server_process import LocalCluster

pytestmark = pytest.mark.airflow

PROGRAM = Path(__file__).with_name("cut_log_dag.py")


def test_broken_log_stream_loses_no_line(cluster: LocalCluster, tmp_path: Path) -> None:
    program = shutil.copy(PROGRAM, tmp_path)
    place = {"kube_config_path": str(cluster.kubeconfig), "namespace": "default"}
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps({"conn_type": "kubernetes", "extra": place}),
    }
    cluster.faults.log_cut("task_id=sync-cut", after_seconds=1)
    done = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    said = done.stdout + done.stderr
    assert "STATE success" in done.stdout, said[-3000:]
    # The operator asks again for the last second or two, so lines may come twice: its own doing, and it says so.
    assert "log read interrupted but container base still running" in said
    lines = [int(number) for number in re.findall(r"\[base\] cut (\d+)", said)]
    assert sorted(set(lines)) == list(range(30))
    assert len(lines) > 30
