"""Runs of pod steps in an Airflow of their own, on a local or a real cluster, to which harm is done meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import CoreV1Api, V1Pod
from kubernetes.config import new_client_from_config

from evergreen.lake.lake import Lake
from evergreen.localcluster.server_process import LocalCluster
from evergreen.orchestration.pod_failures import Failure
from namespaces import namespace_for

PROJECT = Path(__file__).resolve().parents[1]
PROGRAM = PROJECT / "tests" / "kubernetes" / "faults_dag.py"
SMALL: dict[str, Any] = {
    "requests": {"cpu": "10m", "memory": "32Mi"},
    "limits": {"memory": "96Mi"},
    "schedule_timeout_seconds": 240,
    "deadline_seconds": 300,
}
PROFILES = {
    "small": SMALL,
    "brief": SMALL | {"deadline_seconds": 8},
    "absent": SMALL | {"limits": {"memory": "96Mi", "evergreen.test/gpu": "1"}, "schedule_timeout_seconds": 15},
    "impatient": SMALL | {"schedule_timeout_seconds": 15},
}
PATIENCE_SECONDS = 400.0


@dataclass(frozen=True)
class Place:
    """A namespace of a cluster, and an account that may do anything there."""

    kind: str
    kubeconfig: Path
    namespace: str
    image: str
    local: LocalCluster | None = None

    @property
    def api(self) -> CoreV1Api:
        return CoreV1Api(new_client_from_config(str(self.kubeconfig)))

    def pods(self) -> list[V1Pod]:
        """Pods that nobody has deleted yet."""
        pods = self.api.list_namespaced_pod(self.namespace).items
        return [pod for pod in pods if pod.metadata.deletion_timestamp is None]

    def running(self, step: str) -> V1Pod:
        """The running pod of a step, once there is one."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up_at:
            found = self.api.list_namespaced_pod(self.namespace, label_selector=f"evergreen/step={step}").items
            if running := [pod for pod in found if pod.status.phase == "Running"]:
                return running[0]
            time.sleep(0.2)
        raise AssertionError(f"no pod of {step} runs")


@dataclass(frozen=True)
class Outcome:
    """How the tasks ended."""

    ends: dict[str, list[Any]]
    """Task id -> final state and number of tries."""
    failures: dict[str, list[Failure]]
    log: str

    def __or__(self, other: Outcome) -> Outcome:
        """Of the tasks of both."""
        return Outcome(self.ends | other.ends, self.failures | other.failures, self.log + other.log)


class Faulty:
    """A run of pod steps, started at once; its tasks take turns, those of another run go on beside them."""

    def __init__(self, folder: Path, place: Place, scenarios: Sequence[dict[str, Any]]) -> None:
        self.lake = Lake((folder / "lake").as_uri())
        dags = folder / "dags"
        dags.mkdir(parents=True)
        program = shutil.copy(PROGRAM, dags)
        profiles = folder / "profiles.yaml"
        profiles.write_text(yaml.safe_dump(PROFILES))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "EVERGREEN"))},
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps({"conn_type": "kubernetes"}),
            "EVERGREEN_HOME": str(folder),
            "EVERGREEN_LAKE_URL": self.lake.url,
            "EVERGREEN_KUBECONFIG": str(place.kubeconfig),
            "EVERGREEN_NAMESPACE": place.namespace,
            "EVERGREEN_PROFILES": str(profiles),
            "EVERGREEN_PIPELINES": str(PROJECT / "include" / "pipelines"),
            "EVERGREEN_TRAINER_IMAGE": place.image,
            "EVERGREEN_TEST_SCENARIOS": json.dumps(scenarios),
        }
        self._log = folder / "airflow.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([sys.executable, program], env=environment, stdout=log, stderr=log)

    def outcome(self, timeout: float = 1800) -> Outcome:
        """How the tasks ended, once all have."""
        try:
            self._process.wait(timeout)
        finally:
            self._process.kill()
            self._process.wait()
        log = self._log.read_text()
        assert "\nENDS " in log, log[-5000:]
        ends = json.loads(log.rpartition("\nENDS ")[2].splitlines()[0])
        return Outcome(ends=ends, failures={task: self._failures(task) for task in ends}, log=log)

    def _failures(self, task: str) -> list[Failure]:
        paths = [path for path in self.lake.objects.list("failures") if f"/{task}/" in path]
        found = [Failure.model_validate_json(self.lake.objects.get(path)) for path in paths]
        return sorted(found, key=lambda failure: failure.attempt)


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Faulty]:
    """Starts a run of scenarios against a place."""

    def start(place: Place, scenarios: Sequence[dict[str, Any]]) -> Faulty:
        return Faulty(tmp_path_factory.mktemp("faulty"), place, scenarios)

    return start


@pytest.fixture(scope="module")
def local_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A local cluster for harm."""
    cluster = LocalCluster(tmp_path_factory.mktemp("cluster"))
    cluster.start()
    yield Place("local", cluster.kubeconfig, "default", "trainer:1", cluster)
    cluster.stop()


@pytest.fixture(scope="module")
def real_place(kubeconfig: Path) -> Iterator[Place]:
    """A namespace of the real cluster for harm."""
    with namespace_for(CoreV1Api(new_client_from_config(str(kubeconfig))), "faults") as name:
        yield Place("real", kubeconfig, name, "python:3.11-slim")
