# ruff: noqa: F811 - fixtures are imported by name
"""One training over the two pods of docker/kubernetes/training-job.yaml, on a real cluster, its lake on a real S3.

The Job's controller and the cluster's DNS are the test's: this cluster is too old for the one, and has not the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes.client import CoreV1Api, NetworkingV1Api
from kubernetes.config import new_client_from_config

from cluster_dns import cluster_dns
from end_to_end.cluster_installation import lake_in_bucket
from evergreen.artifacts import Model, TrainingSet
from evergreen.lake.lake import Lake
from evergreen.lake.receipts import read_receipts
from evergreen.pipeline import Parallel, Pipeline
from evergreen.training.train import train
from indexed_job import IndexedJob
from manifests import KUBERNETES, Manifest
from namespaces import namespace_for, wait_for_token
from real_parts import S3Server
from training.conftest import make_training_set, tiny  # noqa: F401
from upstream import write_upstream_receipt

pytestmark = [pytest.mark.cluster, pytest.mark.s3]

SPEC = "specs/fraud/pair.json"


@dataclass(frozen=True, kw_only=True)
class TrainingNamespace:
    """Where the pods of a training start, and the lake that they share with this machine."""

    core: CoreV1Api
    name: str
    node: str
    image: str
    variables: dict[str, str]

    @property
    def lake(self) -> Lake:
        keys = {name: value for name, value in self.variables.items() if name.startswith("AWS_")}
        return Lake(self.variables["EVERGREEN_LAKE_URL"], keys)

    def start(self, run: str, inputs: str) -> IndexedJob:
        """The manifest's Job of that run, on this cluster's only node, without a GPU."""
        job = _documents()["Job"]
        pod = job["spec"]["template"]["spec"]
        pod |= {"dnsPolicy": "None", "dnsConfig": self._dns()}
        container = pod["containers"][0]
        container |= {"image": self.image, "resources": {}}
        container["args"] = [f"--pipeline={SPEC}", f"--inputs={inputs}", f"--run={run}", "--task=train", "--attempt=1"]
        container["args"].append("--fresh=True")
        ours = {"EVERGREEN_LAKE_URL": self.variables["EVERGREEN_LAKE_URL"], "EVERGREEN_EXPECTED_DEVICE": "cpu"}
        container["env"] = [entry | {"value": ours[entry["name"]]} if entry["name"] in ours else entry
                            for entry in container["env"]]  # fmt: skip
        return IndexedJob(self.core, self.name, job)

    def _dns(self) -> Manifest:
        domain = "svc.cluster.local"
        options = [{"name": "ndots", "value": "5"}]
        return {"nameservers": [self.node], "searches": [f"{self.name}.{domain}", domain], "options": options}


def _documents() -> dict[str, Manifest]:
    text = (KUBERNETES / "training-job.yaml").read_text()
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


@pytest.fixture(scope="module")
def namespace(kubeconfig: Path, s3: S3Server, trainer_image: str) -> Iterator[TrainingNamespace]:
    """A namespace with what the manifest has beside the Job, and the keys of an empty lake."""
    api = new_client_from_config(str(kubeconfig))
    core, node = CoreV1Api(api), str(urlsplit(api.configuration.host).hostname)
    with lake_in_bucket(s3, node) as variables, namespace_for(core, "pods") as name, cluster_dns(core, name, node):
        made = TrainingNamespace(core=core, name=name, node=node, image=trainer_image, variables=variables)
        core.create_namespaced_service_account(name, {"metadata": {"name": "evergreen-trainer"}})
        wait_for_token(core, name, "evergreen-trainer")
        secret = {"metadata": {"name": "evergreen-lake"}, "stringData": made.lake.options}
        core.create_namespaced_secret(name, secret)
        core.create_namespaced_service(name, _documents()["Service"])
        NetworkingV1Api(api).create_namespaced_network_policy(name, _documents()["NetworkPolicy"])
        yield made


@pytest.fixture(scope="module")
def pair(tiny: Pipeline) -> Pipeline:
    """`tiny`, trained data-parallel by one process a pod, for long enough to be disturbed."""
    parallel = Parallel(strategy="data", processes=1)
    longer = {"parallel": parallel, "max_epochs": 24, "patience": 24, "batch_rows": 64}
    return tiny.model_copy(update={"training": tiny.training.model_copy(update=longer)})


@pytest.fixture(scope="module")
def inputs(namespace: TrainingNamespace, pair: Pipeline, make_training_set: Callable[..., TrainingSet]) -> str:
    """Path of the receipt of a small training set in the lake; the spec is there, too."""
    namespace.lake.objects.put(SPEC, pair.model_dump_json().encode())
    return write_upstream_receipt(namespace.lake, pair, make_training_set(namespace.lake, pair))


@pytest.fixture(scope="module")
def weights(
    pair: Pipeline, make_training_set: Callable[..., TrainingSet], tmp_path_factory: pytest.TempPathFactory
) -> bytes:
    """What two processes of this machine learn of the same."""
    lake, work = Lake(tmp_path_factory.mktemp("lake").as_uri()), tmp_path_factory.mktemp("work")
    together = pair.training.model_copy(update={"parallel": Parallel(strategy="data", processes=2)})
    pipeline = pair.model_copy(update={"training": together})
    return _weights(lake, train(pipeline, make_training_set(lake, pipeline), lake, work=work))


def test_two_pods_train_the_model_of_two_processes(namespace: TrainingNamespace, inputs: str, weights: bytes) -> None:
    job = namespace.start("whole", inputs)
    job.run(until=lambda: job.succeeded)
    assert {code for _, code in job.ended} <= {75}, job.report()  # a pod that waited too long for the other
    assert _weights(namespace.lake, _only_model(namespace.lake, "whole")) == weights


def test_a_training_that_loses_its_pods_ends_at_the_same_weights(
    namespace: TrainingNamespace, inputs: str, weights: bytes
) -> None:
    for run in ("lost", "lost-later", "lost-last"):
        job = namespace.start(run, inputs)
        resumed = _resumed_after_each_loss(job, namespace.lake)
        job.run(until=lambda job=job: job.succeeded)  # type: ignore[misc]
        assert {code for _, code in job.ended} <= {75}, job.report()
        assert _weights(namespace.lake, _only_model(namespace.lake, run)) == weights
        assert namespace.lake.objects.list("checkpoints") == []
        if resumed:
            return
    raise AssertionError(f"each training was over before its pods were lost\n{job.report()}")


def _resumed_after_each_loss(job: IndexedJob, lake: Lake) -> bool:
    """Whether the training went on from a checkpoint after it lost one pod, then the other."""
    job.run(until=lambda: _num_checkpoints(lake) >= 2 or job.succeeded)
    for lost, left in ((1, 0), (0, 1)):
        if job.succeeded:
            return False
        before = _num_resumed(job, left)
        job.lose(lost)
        job.run(until=lambda seen=before: _num_resumed(job, 0, 1) > seen or job.succeeded)  # type: ignore[misc]
        if _num_resumed(job, 0, 1) <= before:
            return False
    return True


def _only_model(lake: Lake, run: str) -> Model:
    """The one model of the lake, which the one receipt of the run names."""
    (receipt,) = read_receipts(lake, "fraud", run)
    model = Model.model_validate(receipt.result["Model"])
    assert [path for path in lake.objects.list("models") if path.endswith("manifest.json")] == [
        f"{model.uri}/manifest.json"
    ]
    return model


def _num_resumed(job: IndexedJob, *indexes: int) -> int:
    """How often the pods say that they went on from a checkpoint; that of the lowest address speaks for all."""
    return sum(job.log(index).count("resumed after epoch") for index in indexes)


def _num_checkpoints(lake: Lake) -> int:
    return sum(path.endswith("manifest.json") for path in lake.objects.list("checkpoints"))


def _weights(lake: Lake, model: Model) -> bytes:
    return lake.objects.get(f"{model.uri}/weights.safetensors")
