"""Runs the unmodified KubernetesPodOperator against the cluster its connection names, and prints the outcome as JSON.

Started by test_operator.py in a process of its own, since Airflow reads its settings when it is imported.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from airflow.utils.db import initdb

GOOD = "import time\nfor i in range(30): print('step', i); time.sleep(0.1)"
BAD = "print('about to fail'); raise SystemExit(1)"
FAST = {"startup_check_interval_seconds": 0.2, "base_container_status_polling_interval": 0.2, "poll_interval": 0.5}


def pod_task(task_id: str, program: str, *, deferrable: bool) -> KubernetesPodOperator:
    return KubernetesPodOperator(
        task_id=task_id,
        name=task_id,
        image="python:3.11-slim",
        cmds=["python", "-u", "-c"],
        arguments=[program],
        in_cluster=False,
        deferrable=deferrable,
        on_finish_action="delete_succeeded_pod",
        **FAST,
    )


with DAG("pods", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
    pod_task("sync-good", GOOD, deferrable=False)
    pod_task("deferred-good", GOOD, deferrable=True)
    pod_task("sync-bad", BAD, deferrable=False)
    pod_task("deferred-bad", BAD, deferrable=True)


if __name__ == "__main__":
    logging.getLogger("airflow").setLevel(logging.INFO)
    initdb()
    run = dag.test()
    states = {instance.task_id: str(instance.state) for instance in run.get_task_instances()}
    sys.stdout.write("\nSTATES " + json.dumps(states) + "\n")
