"""Clusters that answer, refuse, lack something or are not there; the local one has less, and that is no error."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client, config

from doctor.conftest import Make
from doctor.looking import by_name
from evergreen.doctor.cluster_checks import LAKE_SECRET, examine_cluster
from evergreen.doctor.image_checks import examine_image
from evergreen.localcluster.server_process import LocalCluster
from evergreen.orchestration.pod_spec import LAKE_SECRET as SECRET_OF_PODS
from evergreen.settings import VERSION
from namespaces import namespace_for, wait_for_token

SPEC = Path(__file__).resolve().parents[2] / "include" / "pipelines" / "fraud.yaml"
PROFILES = {
    "tiny": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
    "huge": {"requests": {"cpu": "4000", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
    "tpu": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi", "google.com/tpu": "8"}},
    "placed": {"requests": {}, "limits": {"memory": "1Gi"}, "node_selector": {"pool": "elsewhere"}},
    "ranked": {"requests": {}, "limits": {"memory": "1Gi"}, "priority_class": "evergreen-no-such-class"},
}
TIMES = {"schedule_timeout_seconds": 60, "deadline_seconds": 60}
Use = Callable[[str], dict[str, str]]


@pytest.fixture
def using(tmp_path: Path) -> Use:
    """Variables of an installation whose one spec trains as the profile of that name."""

    def use(profile: str) -> dict[str, str]:
        folder = tmp_path / "pipelines"
        folder.mkdir()
        spec = yaml.safe_load(SPEC.read_text())
        spec["training"]["profile"] = profile
        (folder / "fraud.yaml").write_text(yaml.safe_dump(spec))
        profiles = {name: profile | TIMES for name, profile in PROFILES.items()}
        (tmp_path / "profiles.yaml").write_text(yaml.safe_dump(profiles))
        return {"EVERGREEN_PIPELINES": str(folder), "EVERGREEN_PROFILES": str(tmp_path / "profiles.yaml")}

    return use


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Time for a busy server, except where a test is about one that never answers."""
    if "port" not in request.fixturenames:
        monkeypatch.setattr("evergreen.doctor.kubernetes_api.TIMEOUT", (60, 240))
        monkeypatch.setattr("evergreen.doctor.image_checks.PATIENCE_SECONDS", 600)


def test_secret_has_the_name_that_pods_use() -> None:
    assert LAKE_SECRET == SECRET_OF_PODS


def test_missing_kubeconfig_is_one_finding_with_its_variable(settings_of: Make, tmp_path: Path) -> None:
    checks = list(examine_cluster(settings_of(EVERGREEN_KUBECONFIG=str(tmp_path / "nowhere"))))
    assert [check.state for check in checks] == ["failed"]
    assert "EVERGREEN_KUBECONFIG" in checks[0].remedy


@pytest.mark.parametrize("port", ["closed_port", "silent_port"])
def test_cluster_that_does_not_answer_costs_less_than_a_minute(
    settings_of: Make, tmp_path: Path, port: str, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "kubeconfig"
    _write_kubeconfig(path, f"http://127.0.0.1:{request.getfixturevalue(port)}", "token")
    started = time.monotonic()
    checks = list(examine_cluster(settings_of(EVERGREEN_KUBECONFIG=str(path))))
    assert time.monotonic() - started < 60
    assert [check.state for check in checks] == ["failed"]
    assert "no answer" in checks[0].found
    assert [check.state for check in examine_image(settings_of(EVERGREEN_KUBECONFIG=str(path)))] == ["not applicable"]


def test_local_cluster_is_well_with_less(settings_of: Make, local_cluster: LocalCluster, using: Use) -> None:
    settings = settings_of(EVERGREEN_KUBECONFIG=str(local_cluster.kubeconfig), **using("tiny"))
    found = by_name(examine_cluster(settings))
    assert {check.state for check in found.values()} == {"ok", "not applicable"}
    assert found["room for tiny"].state == "ok"
    image = by_name(examine_image(settings))
    assert image["trainer image"].state == "not applicable"
    assert image["pod"].state == "ok", image["pod"].found
    assert "evergreen 0" in image["pod"].found
    deadline = time.monotonic() + 240
    while local_cluster.pods() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert local_cluster.pods() == []


@pytest.mark.parametrize(
    ("profile", "reason"), [("huge", "too little cpu"), ("tpu", "google.com/tpu"), ("placed", "node_selector")]
)
def test_profile_that_no_node_could_hold_is_a_warning(
    settings_of: Make, local_cluster: LocalCluster, using: Use, profile: str, reason: str
) -> None:
    settings = settings_of(EVERGREEN_KUBECONFIG=str(local_cluster.kubeconfig), **using(profile))
    found = by_name(examine_cluster(settings))[f"room for {profile}"]
    assert found.state == "warning"
    assert reason in found.found
    assert "autoscaler" in found.remedy


def test_token_the_cluster_does_not_know_is_told(
    settings_of: Make, local_cluster: LocalCluster, tmp_path: Path
) -> None:
    known = yaml.safe_load(local_cluster.kubeconfig.read_text())
    path = tmp_path / "stranger"
    _write_kubeconfig(path, known["clusters"][0]["cluster"]["server"], "a-strangers-token")
    checks = list(examine_cluster(settings_of(EVERGREEN_KUBECONFIG=str(path))))
    assert "failed" in [check.state for check in checks]
    assert "a-strangers-token" not in str(checks)


def test_namespace_that_is_not_there_is_named(settings_of: Make, local_cluster: LocalCluster) -> None:
    settings = settings_of(EVERGREEN_KUBECONFIG=str(local_cluster.kubeconfig), EVERGREEN_NAMESPACE="nowhere")
    found = by_name(examine_cluster(settings))["namespace"]
    assert found.state == "failed"
    assert "nowhere" in found.remedy


def _write_kubeconfig(path: Path, server: str, token: str, **cluster: str) -> None:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(content))


@pytest.fixture
def core(kubeconfig: Path) -> client.CoreV1Api:
    """The real cluster as its administrator."""
    return client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))


@pytest.fixture
def namespace(core: client.CoreV1Api) -> Iterator[str]:
    """A namespace of the real cluster for one test."""
    with namespace_for(core, "evergreen-doctor") as name:
        yield name


@pytest.mark.cluster
def test_real_cluster_is_well_for_its_administrator(
    settings_of: Make, kubeconfig: Path, namespace: str, using: Use
) -> None:
    settings = settings_of(EVERGREEN_KUBECONFIG=str(kubeconfig), EVERGREEN_NAMESPACE=namespace, **using("tiny"))
    found = by_name(examine_cluster(settings))
    wanted = ("connection", "namespace", "rights", "room for tiny", "quota for tiny")
    assert {name: found[name].state for name in wanted} == dict.fromkeys(wanted, "ok")
    assert found[f"secret {LAKE_SECRET}"].state == "warning", "its lake is a directory of this machine"


@pytest.mark.cluster
def test_account_without_rights_is_told_each_that_is_missing(
    settings_of: Make, core: client.CoreV1Api, kubeconfig: Path, namespace: str, tmp_path: Path, using: Use
) -> None:
    path = tmp_path / "limited"
    _account_kubeconfig(core, kubeconfig, namespace, path)
    settings = settings_of(EVERGREEN_KUBECONFIG=str(path), EVERGREEN_NAMESPACE=namespace, **using("tiny"))
    found = by_name(examine_cluster(settings))
    assert found["rights"].state == "failed"
    assert "create pods" in found["rights"].found
    assert "get pods/log" in found["rights"].found
    assert "evergreen-pods" in found["rights"].remedy
    assert found["room for tiny"].state == "warning"
    pod = by_name(examine_image(settings))["trainer image"]
    assert pod.state == "failed"
    assert "forbidden" in pod.found


def _account_kubeconfig(core: client.CoreV1Api, admin: Path, namespace: str, path: Path) -> None:
    """A kubeconfig of the namespace's default service account, which may do nothing."""
    secret = wait_for_token(core, namespace)[0].name
    data = core.read_namespaced_secret(secret, namespace).data
    cluster = yaml.safe_load(admin.read_text())["clusters"][0]["cluster"]
    token = base64.b64decode(data["token"]).decode()
    _write_kubeconfig(path, cluster["server"], token, **{"certificate-authority-data": data["ca.crt"]})


@pytest.mark.cluster
def test_quota_too_small_for_a_profile_fails_and_a_full_one_warns(
    settings_of: Make, core: client.CoreV1Api, kubeconfig: Path, namespace: str, using: Use
) -> None:
    quota = {"metadata": {"name": "small"}, "spec": {"hard": {"limits.memory": "64Mi", "pods": "5"}}}
    core.create_namespaced_resource_quota(namespace, quota)
    settings = settings_of(EVERGREEN_KUBECONFIG=str(kubeconfig), EVERGREEN_NAMESPACE=namespace, **using("tiny"))
    _await_quota(core, namespace, "64Mi")
    found = by_name(examine_cluster(settings))["quota for tiny"]
    assert found.state == "failed"
    assert "limits.memory" in found.found
    core.patch_namespaced_resource_quota("small", namespace, {"spec": {"hard": {"limits.memory": "1Gi", "pods": "0"}}})
    _await_quota(core, namespace, "1Gi")
    assert by_name(examine_cluster(settings))["quota for tiny"].state == "failed", "no pod at all may be made"


def _await_quota(core: client.CoreV1Api, namespace: str, memory: str) -> None:
    give_up_at = time.monotonic() + 240
    while (core.read_namespaced_resource_quota("small", namespace).status.hard or {}).get("limits.memory") != memory:
        assert time.monotonic() < give_up_at, "the quota never came into force"
        time.sleep(0.2)


@pytest.mark.cluster
def test_missing_priority_class_and_account_fail(
    settings_of: Make, kubeconfig: Path, namespace: str, using: Use
) -> None:
    settings = settings_of(
        EVERGREEN_KUBECONFIG=str(kubeconfig),
        EVERGREEN_NAMESPACE=namespace,
        EVERGREEN_SERVICE_ACCOUNT="nobody",
        EVERGREEN_LAKE_URL="s3://bucket/lake",
        **using("ranked"),
    )
    found = by_name(examine_cluster(settings))
    assert found["priority class evergreen-no-such-class"].state == "failed"
    assert found["service account"].state == "failed"
    assert found[f"secret {LAKE_SECRET}"].state == "warning"


@pytest.mark.cluster
def test_image_that_is_nowhere_is_told_and_leaves_no_pod(
    settings_of: Make, core: client.CoreV1Api, kubeconfig: Path, namespace: str
) -> None:
    settings = settings_of(
        EVERGREEN_KUBECONFIG=str(kubeconfig),
        EVERGREEN_NAMESPACE=namespace,
        EVERGREEN_TRAINER_IMAGE="evergreen-no-such-image:0",
    )
    found = by_name(examine_image(settings))["trainer image"]
    assert found.state == "failed"
    assert "ErrImagePull" in found.found or "ImagePullBackOff" in found.found
    assert "EVERGREEN_TRAINER_IMAGE" in found.remedy
    _await_no_pods(core, namespace)


def _await_no_pods(core: client.CoreV1Api, namespace: str) -> None:
    give_up_at = time.monotonic() + 240
    while core.list_namespaced_pod(namespace).items:
        assert time.monotonic() < give_up_at, "the pod stayed"
        time.sleep(0.3)


@pytest.mark.cluster
def test_image_of_this_release_runs_and_leaves_no_pod(
    settings_of: Make, core: client.CoreV1Api, kubeconfig: Path, namespace: str, trainer_image: str
) -> None:
    settings = settings_of(
        EVERGREEN_KUBECONFIG=str(kubeconfig), EVERGREEN_NAMESPACE=namespace, EVERGREEN_TRAINER_IMAGE=trainer_image
    )
    found = by_name(examine_image(settings))["trainer image"]
    assert found.state == "ok", found.found
    assert f"evergreen {VERSION}" in found.found
    _await_no_pods(core, namespace)
