"""A day is ingested by tasks that are pods of the Airflow image, with the KubernetesExecutor's settings that ship."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes.client import CoreV1Api, V1Pod
from kubernetes.config import new_client_from_config
from kubernetes.watch import Watch

from end_to_end.cluster_installation import lake_in_bucket
from end_to_end.installation import LAST, PROJECT, variables_of, wait_until
from evergreen.lake.lake import Lake, end_of
from evergreen.lake.receipts import read_receipts, verify_outputs
from evergreen.samples.config import SampleConfig
from evergreen.samples.database import write_days
from evergreen.settings import Settings
from evergreen.standalone.airflow_client import AirflowClient, admin_session
from evergreen.standalone.control import environment, start_detached, stop
from evergreen.standalone.home import Home
from forwarding import forwarding
from namespaces import namespace_for, wait_for_token
from real_parts import S3Server

pytestmark = [pytest.mark.airflow, pytest.mark.cluster, pytest.mark.s3]

EXECUTORS = PROJECT / "docker" / "airflow" / "executors"
INGEST = "fraud.ingest_data"
TASKS = {"extract_day", "validate_day", "build_features"}
WORKERS = "app.kubernetes.io/name=evergreen-airflow-worker"
API = "http://airflow-api-server.airflow:8080/execution/"
"""The api-server as the files that ship name it."""


@dataclass(frozen=True)
class OnPods:
    """An installation whose scheduler and api-server are here, and whose tasks are pods."""

    airflow: AirflowClient
    lake: Lake
    pods: CoreV1Api
    namespace: str

    def workers(self) -> list[V1Pod]:
        found: list[V1Pod] = self.pods.list_namespaced_pod(self.namespace, label_selector=WORKERS).items
        return found

    def deleted_workers(self, run_id: str, since: str) -> list[V1Pod]:
        """The pods of that run deleted after the version `since` of the cluster, once there is one of each task."""
        found: list[V1Pod] = []
        events = Watch().stream(
            self.pods.list_namespaced_pod,
            self.namespace,
            label_selector=WORKERS,
            resource_version=since,
            timeout_seconds=1200,
        )
        for event in events:
            pod = event["object"]
            if event["type"] == "DELETED" and pod.metadata.labels["run_id"] == run_id:
                found.append(pod)
            if {pod.metadata.labels["task_id"] for pod in found} == TASKS:
                break
        return found


@pytest.fixture(scope="module")
def installation(kubeconfig: Path, s3: S3Server, airflow_image: str) -> Iterator[OnPods]:
    """`evergreen up` with the KubernetesExecutor, the lake in a bucket and one day in the source."""
    root = Path(mkdtemp(prefix="evergreen-executor-"))  # not pytest's own: PostgreSQL runs as another user
    node = str(urlsplit(yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]).hostname)
    own = variables_of(root) | {"EVERGREEN_PIPELINES": str(PROJECT / "include" / "pipelines")}
    home = Home.at(root)
    with ExitStack() as stack:
        stack.callback(rmtree, root, ignore_errors=True)
        lake = stack.enter_context(lake_in_bucket(s3, node))
        port = stack.enter_context(forwarding(node, int(own["EVERGREEN_AIRFLOW_PORT"])))
        api, namespace = stack.enter_context(_namespace(kubeconfig))
        shipped = _executor(root, kubeconfig, namespace, airflow_image, lake["EVERGREEN_LAKE_URL"], node, port)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in (own | lake | shipped).items():
            patch.setenv(name, value)
        _make_log_volume(api, namespace, root / "task-logs")
        stack.callback(stop, home)
        start_detached(home, lambda phase: None)
        database = stack.enter_context(forwarding(node, home.postgres / ".s.PGSQL.5432"))
        _make_secrets(api, namespace, lake, f"{node}:{database}")
        ready = _ready(home, api, namespace)
        stack.callback(ready.airflow.close)
        yield ready


@contextmanager
def _namespace(kubeconfig: Path) -> Iterator[tuple[CoreV1Api, str]]:
    api = CoreV1Api(new_client_from_config(str(kubeconfig)))
    with namespace_for(api, "executor") as name:
        api.create_namespaced_service_account(name, {"metadata": {"name": "airflow-worker"}})
        wait_for_token(api, name, "airflow-worker")
        try:
            yield api, name
        finally:
            api.delete_persistent_volume(name)


def _executor(
    root: Path, kubeconfig: Path, namespace: str, image: str, lake_url: str, node: str, port: int
) -> Mapping[str, str]:
    """The variables of kubernetes.env and its template, with this cluster's names where the files have examples."""
    here = {
        "registry.example.com/evergreen-airflow:0.1.0": image,
        "s3://example-evergreen-lake": lake_url,
        API: f"http://{node}:{port}/execution/",
    }
    template = (EXECUTORS / "pod-template.yaml").read_text()
    for example, value in here.items():
        assert example in template
        template = template.replace(example, value)
    (root / "pod-template.yaml").write_text(template)
    lines = [line for line in (EXECUTORS / "kubernetes.env").read_text().splitlines() if line and line[0] != "#"]
    shipped = dict(line.split("=", 1) for line in lines)
    repository, _, tag = image.rpartition(":")
    options = {
        "NAMESPACE": namespace,
        "POD_TEMPLATE_FILE": str(root / "pod-template.yaml"),
        "WORKER_CONTAINER_REPOSITORY": repository,
        "WORKER_CONTAINER_TAG": tag,
        "IN_CLUSTER": "False",
        "CONFIG_FILE": str(kubeconfig),
    }
    return (
        shipped
        | {f"AIRFLOW__KUBERNETES_EXECUTOR__{name}": value for name, value in options.items()}
        | {"AIRFLOW__CORE__EXECUTION_API_SERVER_URL": here[API]}
        | {"AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(root / "task-logs")}
        | {"EVERGREEN_KUBECONFIG": str(kubeconfig), "EVERGREEN_NAMESPACE": namespace}
        | {"EVERGREEN_SERVING_NAMESPACE": namespace}
    )


def _make_log_volume(api: CoreV1Api, namespace: str, folder: Path) -> None:
    """The template's claim, on a folder that pods and the api-server here share."""
    folder.mkdir()
    folder.chmod(0o777)
    shared = {"accessModes": ["ReadWriteMany"], "storageClassName": namespace}
    volume = shared | {"capacity": {"storage": "1Gi"}, "hostPath": {"path": str(folder)}}
    claim = shared | {"resources": {"requests": {"storage": "1Gi"}}}
    api.create_persistent_volume({"metadata": {"name": namespace}, "spec": volume})
    api.create_namespaced_persistent_volume_claim(namespace, {"metadata": {"name": "airflow-logs"}, "spec": claim})


def _make_secrets(api: CoreV1Api, namespace: str, lake: Mapping[str, str], database: str) -> None:
    secrets = {
        "evergreen-lake": {name: value for name, value in lake.items() if name.startswith("AWS_")},
        "evergreen-ledger": {"url": f"postgresql+psycopg2://postgres@{database}/evergreen"},
        "evergreen-sources": {"fraud_source": f"postgresql://postgres@{database}/source"},
    }
    for name, values in secrets.items():
        api.create_namespaced_secret(namespace, {"metadata": {"name": name}, "stringData": values})


def _ready(home: Home, api: CoreV1Api, namespace: str) -> OnPods:
    variables = environment(home)
    settings = Settings.from_environment(variables)
    airflow = admin_session(settings, home)
    wait_until(lambda: airflow.ready([INGEST]), "DAGs")
    source = variables["AIRFLOW_CONN_FRAUD_SOURCE"]
    write_days(source, SampleConfig(rows_per_day=500), LAST, LAST, known_until=end_of(LAST))
    return OnPods(airflow, Lake(settings.lake_url, settings.lake_options), api, namespace)


def test_every_task_of_a_run_was_a_pod_of_its_own(installation: OnPods, airflow_image: str) -> None:
    before = installation.pods.list_namespaced_pod(installation.namespace).metadata.resource_version
    with ThreadPoolExecutor() as beside:
        deleted = beside.submit(installation.deleted_workers, "on-pods", before)
        installation.airflow.trigger(INGEST, run_id="on-pods", conf={"day": LAST.isoformat()})
        installation.airflow.wait(INGEST, "on-pods", lambda _: None, 900)
        ours = deleted.result()
    assert {pod.metadata.labels["task_id"] for pod in ours} == TASKS
    assert {pod.spec.containers[0].image for pod in ours} == {airflow_image}
    receipts = read_receipts(installation.lake, "fraud", f"{INGEST}.on-pods")
    assert {receipt.task for receipt in receipts} == TASKS
    for receipt in receipts:
        verify_outputs(installation.lake, receipt)
    wait_until(lambda: installation.workers() == [], "the end of the workers' pods")
    log = installation.airflow.http.get(f"/dags/{INGEST}/dagRuns/on-pods/taskInstances/extract_day/logs/1").text
    assert "Receipt receipts/fraud" in log, "the log outlives the pod"
