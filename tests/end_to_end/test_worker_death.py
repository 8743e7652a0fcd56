"""A worker that dies in the middle of training: the next try goes on with the very pod, and no second one trains."""

from __future__ import annotations

import os
import signal

import psutil
import pytest
from kubernetes import client, config

from end_to_end.installation import Installation, day, wait_until
from evergreen.artifacts import Receipt
from evergreen.lake.receipts import read_receipts

pytestmark = pytest.mark.airflow
RUN = "worker-death"


def _processes(*words: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if all(word in line for word in words):
            found.append(process)
    return found


def _receipts(installation: Installation) -> list[Receipt]:
    receipts = read_receipts(installation.lake, "fraud", f"fraud.train_model.{RUN}")
    return [receipt for receipt in receipts if receipt.task == "train"]


def _train(installation: Installation) -> dict[str, object]:
    tasks = installation.airflow.tasks("fraud.train_model", RUN)
    return next((task for task in tasks if task["task_id"] == "train"), {})


def test_killed_worker_leaves_its_pod_to_the_next_try(serving: Installation) -> None:
    serving.airflow.trigger("fraud.train_model", run_id=RUN, conf={"day": day(9).isoformat(), "seed": 4711})
    wait_until(lambda: bool(_processes("evergreen.step", "train", f".{RUN}")), "a training pod's process")
    [training] = _processes("evergreen.step", "train", f".{RUN}")
    training.suspend()  # so that training is not over before the next try
    try:
        config.load_kube_config(str(serving.settings.kubeconfig))
        pods = client.CoreV1Api().list_namespaced_pod("default", label_selector="evergreen/step=train").items
        [pod] = [pod for pod in pods if pod.metadata.annotations["evergreen/run-id"] == RUN]
        [runner] = _processes(f"airflow worker -- {_train(serving)['id']}")
        worker = runner.parent()
        assert worker is not None
        for process in (worker, runner):
            os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: (_train(serving).get("try_number"), _train(serving).get("state")) == (2, "running"), "try 2")
    finally:
        training.resume()
    serving.airflow.wait("fraud.train_model", RUN, lambda run: None, 300)
    assert [receipt.attempt for receipt in _receipts(serving)] == [1]
    assert _train(serving)["try_number"] == 2
    log = serving.airflow.http.get(f"/dags/fraud.train_model/dagRuns/{RUN}/taskInstances/train/logs/2").text
    assert pod.metadata.name in log
    assert "Reusing existing pod" in log
