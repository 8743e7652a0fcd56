"""Runs the unmodified KubernetesPodOperator while the local cluster breaks its log stream, and prints the outcome.

Started by test_operator.py in a process of its own, since Airflow reads its settings when it is imported.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from airflow.utils.db import initdb

with DAG("cut", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
    KubernetesPodOperator(
        task_id="sync-cut",
        name="sync-cut",
        image="python:3.11-slim",
        cmds=["python", "-u", "-c"],
        arguments=["import time\nfor i in range(30): print('cut', i); time.sleep(0.5)"],
        in_cluster=False,
        startup_check_interval_seconds=0.2,
        base_container_status_polling_interval=0.2,
    )


if __name__ == "__main__":
    logging.getLogger("airflow").setLevel(logging.INFO)
    initdb()
    (instance,) = dag.test().get_task_instances()
    sys.stdout.write(f"\nSTATE {instance.state}\n")
