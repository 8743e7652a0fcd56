"""Runs pod steps to their end, retries included, and prints how each task ended as JSON.

Started by test_faults.py in a process of its own, since Airflow reads its settings when it is imported. The scenarios
come as JSON in EVERGREEN_TEST_SCENARIOS; faults are done to the pods from outside, by their step's label.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from airflow.utils.db import initdb

from evergreen.orchestration import pod_care, pod_examination, pod_retries
from evergreen.orchestration.pod_diagnosis import Action
from evergreen.orchestration.pods import pod_step
from evergreen.pipeline_file import read_pipeline
from evergreen.settings import Settings

PROGRAM = """
import os, signal, sys, time
kind, attempt = sys.argv[1], int(sys.argv[2])
def stop(*_):
    print("exit 75 (temporary: retry): This step: found a request to stop", flush=True)
    os._exit(75)
signal.signal(signal.SIGTERM, stop)
print("try", attempt, sys.argv[3:], flush=True)
if kind == "wait" and attempt == 1:
    time.sleep(900)
if kind == "hog" and attempt == 1:
    hog = [bytearray(b"x") * (8 << 20) for _ in range(64)]
if kind == "hog" and sys.argv[3:] != ["--halvings", "1"]:
    sys.exit(3)
if kind.isdigit():
    print("exit " + kind + " (meaning): Spec: found a wrong seed, wanted a number", flush=True)
    sys.exit(int(kind))
time.sleep(4 if kind == "long" else 1)
"""


def fault_task(scenario: dict[str, Any]) -> KubernetesPodOperator:
    """A pod step as pipelines have it, with a small program in the trainer's place and no receipt."""
    pipeline = read_pipeline(Settings.from_environment().pipelines / "fraud.yaml")
    training = pipeline.training.model_copy(update={"profile": scenario.get("profile", "small")})
    task = pod_step(pipeline.model_copy(update={"training": training}), scenario["step"], inputs=[])
    task.cmds = ["python", "-u", "-c", PROGRAM]
    task.arguments = [scenario["program"], "{{ ti.try_number }}"]
    task.retry_policy = pod_retries.PodRetries(halvings=2)
    task._post_execute_hook = None
    task.pool = "default_pool"
    task.deferrable = scenario.get("deferrable", False)
    for name in ("image", "namespace", "config_file"):
        setattr(task, name, scenario.get(name, getattr(task, name)))
    return task


for action in (Action.RESUME, Action.HALVE, Action.RETRY):
    pod_retries.DELAYS[action] = timedelta(seconds=0.1)
pod_care.QUICK = pod_examination.QUICK = (60, 240)  # a busy server is no fault here
pod_retries.SLOW = dict.fromkeys(pod_retries.SLOW, timedelta(seconds=0.1))

with DAG("fraud.faults", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
    for each in json.loads(os.environ["EVERGREEN_TEST_SCENARIOS"]):
        fault_task(each)


if __name__ == "__main__":
    logging.getLogger("airflow").setLevel(logging.INFO)
    initdb()
    run = dag.test()
    ends = {instance.task_id: [str(instance.state), instance.try_number] for instance in run.get_task_instances()}
    sys.stdout.write("\nENDS " + json.dumps(ends) + "\n")
