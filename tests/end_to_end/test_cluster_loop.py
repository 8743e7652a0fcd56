"""The same loop with the settings of a cluster: lake in a bucket, pods and serving on a real Kubernetes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from end_to_end.cluster_installation import (
    DEFERRED,
    PROFILES,
    TOKEN,
    WAITING,
    Cluster,
    cluster_parts,
    lake_in_bucket,
)
from end_to_end.deaths import kill_triggerer_in_training, kill_worker_in_training
from end_to_end.installation import (
    Installation,
    backfill,
    busy,
    day,
    ready_installation,
    variables_of,
    wait_until,
    write_specs,
)
from evergreen.lake.receipts import read_receipts
from evergreen.pipeline_file import read_pipeline
from evergreen.standalone.control import start_detached, stop
from evergreen.standalone.home import Home
from evergreen.standalone.screen import example_row
from real_parts import S3Server

pytestmark = [pytest.mark.airflow, pytest.mark.cluster, pytest.mark.s3]


@dataclass(frozen=True)
class OnCluster:
    """An installation of which only Airflow and its database are on this machine."""

    here: Installation
    cluster: Cluster

    def replicas(self) -> list[str]:
        """Base URLs of the replicas, once as many as wanted are ready."""
        ready: list[str] = []

        def complete() -> bool:
            ready[:] = self.cluster.replicas()
            return len(ready) == self.cluster.replicas_wanted()

        wait_until(complete, "replicas that are ready")
        return ready

    def wait_for_version(self, pipeline: str, version: str) -> None:
        """Returns when every replica answers with it; one that was not ready when it was deployed takes it up later."""

        def served() -> bool:
            answers = [httpx.get(f"{url}/v1/{pipeline}", timeout=240) for url in self.replicas()]
            return {answer.json()["version"] for answer in answers} == {version}

        wait_until(served, f"{pipeline} {version} from every replica")


@pytest.fixture(scope="module")
def installation(
    kubeconfig: Path, s3: S3Server, gpu: None, trainer_image: str, serving_image: str
) -> Iterator[OnCluster]:
    """Running, with ten days of fraud and twelve of visits ingested; nothing is served yet."""
    root = Path(mkdtemp(prefix="evergreen-cluster-"))  # not pytest's own: PostgreSQL runs as another user
    node = str(urlsplit(yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]).hostname)
    specs = root / "pipelines"
    write_specs(specs)
    _set_training(specs / "fraud.yaml", DEFERRED)
    _set_training(specs / "visits.yaml", WAITING)
    home = Home.at(root)
    with (
        pytest.MonkeyPatch.context() as patch,
        lake_in_bucket(s3, node) as lake,
        cluster_parts(kubeconfig, specs, root / "manifests", lake, serving_image) as cluster,
    ):
        variables = (
            variables_of(root)
            | lake
            | {
                "EVERGREEN_KUBECONFIG": str(cluster.worker),
                "EVERGREEN_NAMESPACE": cluster.training,
                "EVERGREEN_SERVICE_ACCOUNT": "evergreen-trainer",
                "EVERGREEN_SERVING_NAMESPACE": cluster.serving,
                "EVERGREEN_SERVING_TOKEN": TOKEN,
                "EVERGREEN_TRAINER_IMAGE": trainer_image,
                "EVERGREEN_PROFILES": str(PROFILES),
                "EVERGREEN_MADE_UP_DEVICES": "true",
            }
        )
        for name, value in variables.items():
            patch.setenv(name, value)
        try:
            start_detached(home, lambda phase: None)
            ready = ready_installation(home, variables)
            _for_both(lambda pipeline, last: backfill(ready, f"{pipeline}.ingest_data", day(0), day(last)))
            yield OnCluster(ready, cluster)
            ready.airflow.close()
        finally:
            stop(home)
            rmtree(root, ignore_errors=True)


def _set_training(spec: Path, profile: str) -> None:
    """Pods of `profile`, and only when a test asks: Airflow also runs the schedule's last day after a backfill."""
    body = yaml.safe_load(spec.read_text())
    body["training"]["profile"] = profile
    body["retraining"] = body.get("retraining", {}) | {"nightly": False}
    spec.write_text(yaml.safe_dump(body, sort_keys=False))


@pytest.fixture(scope="module")
def serving(installation: OnCluster) -> OnCluster:
    """The installation after the first model of each pipeline was trained, approved and rolled out."""

    def served(pipeline: str, last: int) -> None:
        installation.here.succeed("train_model", "first", {"day": day(last).isoformat()}, pipeline=pipeline)
        wait_until(lambda: installation.here.ledger.current(pipeline) is not None, "a first deployment")
        wait_until(lambda: not busy(installation.here, f"{pipeline}.deploy_model"), "the end of its run")

    _for_both(served)
    return installation


def _for_both(work: Callable[[str, int], object]) -> None:
    """Does `work` for each pipeline and its last day of interest, at the same time."""
    with ThreadPoolExecutor() as both:
        for done in [both.submit(work, *each) for each in (("fraud", 9), ("visits", 11))]:
            done.result()


def test_nothing_of_the_cluster_runs_here(installation: OnCluster) -> None:
    parts = installation.here.home.state()["parts"]
    assert isinstance(parts, dict)
    assert {"cluster", "serving"} & parts.keys() == set()
    assert not (installation.here.home.root / "lake").exists()


def test_days_are_ingested_into_the_bucket(installation: OnCluster) -> None:
    for zone in ("raw", "clean", "features"):
        assert len(installation.here.lake.table(zone, "fraud").days(day(0), day(9))) == 10, zone


@pytest.mark.parametrize("pipeline", ["fraud", "visits"], ids=["deferred", "waiting"])
def test_training_and_evaluation_were_pods_of_the_trainer_image(
    serving: OnCluster, trainer_image: str, pipeline: str
) -> None:
    receipts = read_receipts(serving.here.lake, pipeline, f"{pipeline}.train_model.first")
    images = {receipt.task: receipt.image for receipt in receipts if receipt.image}
    trials = {f"try_round_{n}.{i}" for n, count in ((1, 3), (2, 2)) for i in range(count)}
    assert images.keys() == {"train", "evaluate"} | (trials if pipeline == "visits" else set())
    assert set(images.values()) == {trainer_image}
    assert serving.cluster.pods(serving.cluster.training) == []


@pytest.mark.parametrize("pipeline", ["fraud", "visits"])
def test_every_replica_answers_with_what_the_ledger_says(serving: OnCluster, pipeline: str) -> None:
    current = serving.here.ledger.current(pipeline)
    assert current is not None
    serving.wait_for_version(pipeline, current.to_version)


def test_replicas_predict_alike_and_refuse_strangers(serving: OnCluster) -> None:
    row = example_row(read_pipeline(serving.here.settings.pipelines / "fraud.yaml"))
    urls = [f"{url}/v1/fraud/predict" for url in serving.replicas()]
    assert {httpx.post(url, json={"rows": [row]}, timeout=240).status_code for url in urls} == {401}
    bearer = {"authorization": f"Bearer {TOKEN}"}
    answers = [httpx.post(url, json={"rows": [row]}, headers=bearer, timeout=240).json() for url in urls]
    assert len({answer["predictions"][0]["score"] for answer in answers}) == 1


def test_rollback_reaches_every_replica(serving: OnCluster) -> None:
    backfill(serving.here, "fraud.train_model", day(8), day(8))
    first = serving.here.ledger.current("fraud")
    assert first is not None
    older = next(v.model.version for v in serving.here.ledger.versions("fraud") if v.model.backfill)
    serving.here.succeed("deploy_model", "older", {"version": older, "reason": "an experiment"})
    serving.wait_for_version("fraud", older)
    rolled = serving.here.evergreen("rollback", "fraud")
    assert rolled.returncode == 0, rolled.stderr
    serving.wait_for_version("fraud", first.to_version)


def test_drift_is_watched_over_the_bucket(serving: OnCluster) -> None:
    serving.here.succeed("monitor_drift", "watch", {"day": day(9).isoformat()})
    assert [decision.day for _, decision in serving.here.ledger.decisions("fraud")] == [day(9)]


def test_killed_worker_leaves_its_pod_to_the_next_try(serving: OnCluster) -> None:
    kill_worker_in_training(serving.here, WAITING)


def test_killed_triggerer_leaves_its_pod_to_the_next_one(serving: OnCluster) -> None:
    kill_triggerer_in_training(serving.here, DEFERRED)


def test_no_key_of_the_lake_is_in_a_rendered_template_or_a_log(serving: OnCluster) -> None:
    secret = serving.here.variables["AWS_SECRET_ACCESS_KEY"]
    run = serving.here.airflow.get("/dags/fraud.train_model/dagRuns/first/taskInstances")["task_instances"]
    assert [task["task_id"] for task in run if secret in str(task["rendered_fields"])] == []
    logs = list(serving.here.home.root.glob("logs/**/*.log"))
    assert logs
    assert [log.name for log in logs if secret in log.read_text(errors="replace")] == []
