"""What happens to training when a process of Airflow dies in its middle, wherever its pod runs.

The pod's process is halted meanwhile, so that training is not over before Airflow has recovered; that of a pod on a
real cluster is found in the same way, as the tests' cluster has its node on this machine.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
from kubernetes.client import CoreV1Api
from kubernetes.config import new_client_from_config

from end_to_end.installation import TASK_TITLE, Installation, day, wait_until
from evergreen.lake.receipts import read_receipts
from evergreen.standalone.home import find_process

DAG = "fraud.train_model"


def kill_worker_in_training(installation: Installation, profile: str) -> None:
    """The worker that waits for the pod gets SIGKILL: the next try goes on with the very pod."""
    with _halted_training(installation, "worker-death", profile) as (run, pod):
        [runner] = _processes(f"{TASK_TITLE}{_train(installation, run)['id']}")
        worker = runner.parent()
        assert worker is not None
        for process in (worker, runner):
            os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: _tries_again(installation, run), "another try")
        assert _pods(installation, run) == [pod]
    assert _attempts_of_the_end(installation, run) == [1]
    attempt, state = _try_and_state(installation, run)
    assert attempt >= 2
    assert state == "success"
    log = installation.airflow.http.get(f"/dags/{DAG}/dagRuns/{run}/taskInstances/train/logs/{attempt}").text
    assert pod in log
    assert "Reusing existing pod" in log


def stop_worker_in_training(installation: Installation, profile: str) -> None:
    """The task gets SIGTERM, as of a node that is drained: its pod goes along, and the next try resumes."""
    with _halted_training(installation, "worker-stop", profile) as (run, pod):
        stopped = _train(installation, run)
        [runner] = _processes(f"{TASK_TITLE}{stopped['id']}")
        runner.terminate()
        wait_until(lambda: pod not in _pods(installation, run, deleted=False), "a deleted pod")
    [attempt] = _attempts_of_the_end(installation, run)
    assert attempt > stopped["try_number"]
    assert _try_and_state(installation, run)[1] == "success"
    logs = f"/dags/{DAG}/dagRuns/{run}/taskInstances/train/logs"
    log = installation.airflow.http.get(f"{logs}/{stopped['try_number']}").text
    assert "was asked to stop" in log
    assert "Resuming; no retry is spent" in log


def kill_triggerer_in_training(installation: Installation, profile: str) -> None:
    """The triggerer that waits for the pod gets SIGKILL: the next one waits for the very pod, in the same try."""
    with _halted_training(installation, "triggerer-death", profile) as (run, pod):
        wait_until(lambda: _triggerer(installation, run) is not None, "a triggerer that waits for the pod")
        before, process = _triggerer(installation, run), _part(installation, "triggerer")
        family = [process, *process.children(recursive=True)]
        for each in family:
            os.kill(each.pid, signal.SIGKILL)
        wait_until(lambda: _triggerer(installation, run) not in (None, before), "another triggerer that waits")
        assert not any(each.is_running() for each in family)
        assert _pods(installation, run) == [pod]
    assert _attempts_of_the_end(installation, run) == [1]
    assert _try_and_state(installation, run) == (1, "success")


@contextmanager
def _halted_training(installation: Installation, name: str, profile: str) -> Iterator[tuple[str, str]]:
    """A run and the name of its pod that trains, its process halted within the block."""
    run, training = _caught_training(installation, name, profile)
    try:
        [pod] = _pods(installation, run)
        yield run, pod
    finally:
        with suppress(psutil.NoSuchProcess):
            training.resume()


def _caught_training(installation: Installation, name: str, profile: str) -> tuple[str, psutil.Process]:
    """A run and its training's halted process; a training that was over before it was seen is followed by another."""
    for number in range(3):
        run = f"{name}-{number}"
        conf = {"day": day(9).isoformat(), "seed": 4711 + 10 * len(name) + number, "profile": profile}
        installation.airflow.trigger(DAG, run_id=run, conf=conf)
        halted: list[psutil.Process] = []

        def over(run: str = run, halted: list[psutil.Process] = halted) -> bool:
            halted += _halted("evergreen.step", "train", f"{DAG}.{run}")
            return bool(halted) or _try_and_state(installation, run)[1] == "success"

        wait_until(over, "a training pod's process")
        if halted:
            return run, halted[0]
    raise AssertionError(f"no training of {name} was seen")


def _halted(*words: str) -> list[psutil.Process]:
    """The oldest of these processes, halted; none when there is none or it ended meanwhile."""
    with suppress(psutil.NoSuchProcess):
        for process in sorted(_processes(*words), key=lambda process: process.create_time()):
            process.suspend()
            return [process]
    return []


def _attempts_of_the_end(installation: Installation, run: str) -> list[int]:
    """The tries that trained, once the run has succeeded."""
    installation.airflow.wait(DAG, run, lambda _: None, 900)
    receipts = read_receipts(installation.lake, "fraud", f"{DAG}.{run}")
    return [receipt.attempt for receipt in receipts if receipt.task == "train"]


def _pods(installation: Installation, run: str, *, deleted: bool = True) -> list[str]:
    """Names of the pods that train for `run`, deleted ones, if asked for, until they are gone."""
    api = CoreV1Api(new_client_from_config(str(installation.settings.kubeconfig)))
    pods = api.list_namespaced_pod(installation.settings.namespace, label_selector="evergreen/step=train").items
    ours = [pod.metadata for pod in pods if pod.metadata.annotations["evergreen/run-id"] == run]
    return [pod.name for pod in ours if deleted or not pod.deletion_timestamp]


def _train(installation: Installation, run: str) -> dict[str, Any]:
    tasks = installation.airflow.tasks(DAG, run)
    return next((task for task in tasks if task["task_id"] == "train"), {})


def _try_and_state(installation: Installation, run: str) -> tuple[int, str | None]:
    task = _train(installation, run)
    return task.get("try_number", 0), task.get("state")


def _tries_again(installation: Installation, run: str) -> bool:
    attempt, state = _try_and_state(installation, run)
    return attempt >= 2 and state == "running"


def _triggerer(installation: Installation, run: str) -> int | None:
    """Id of the job of the triggerer that waits for the pod."""
    task = _train(installation, run)
    job = task.get("triggerer_job")
    return int(job["id"]) if task.get("state") == "deferred" and job else None


def _part(installation: Installation, name: str) -> psutil.Process:
    process = find_process(installation.home.state()["parts"][name])  # type: ignore[index]
    assert process is not None
    return process


def _processes(*words: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if all(word in line for word in words):
            found.append(process)
    return found
