"""Asking every replica, by way of an API server made for the test; the real one is asked in tests/kubernetes."""

from __future__ import annotations

import itertools
import json
import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from evergreen.artifacts import Deployment, Model
from evergreen.deployment import serving_cluster
from evergreen.deployment.http_serving import HttpServing
from evergreen.deployment.kubernetes_serving import KubernetesServing
from evergreen.deployment.rollout import roll_back, roll_out
from evergreen.deployment.serving_target import serving_target
from evergreen.errors import ConfigurationError, DataError, TemporaryError
from evergreen.lake.deployments import published_deployment
from evergreen.lake.lake import Lake
from evergreen.ledger.ledger import Ledger
from evergreen.settings import Settings

DEPLOYMENT = Deployment(
    pipeline="fraud",
    sequence=2,
    at=datetime(2026, 11, 2, tzinfo=UTC),
    from_version="v6",
    to_version="v7",
    model_uri="models/fraud/v7",
    model_digest="0" * 64,
    actor="tester",
    reason="a test",
)
PROXY = re.compile(r"/api/v1/namespaces/serving/pods/([^:/]+):(\d+)/proxy/v1/fraud(/probe)?$")
Body = dict[str, Any]


@dataclass
class FakePod:
    """A pod and what its service says."""

    name: str
    phase: str = "Running"
    version: str = "v7"
    published: str = "v7"
    scores: tuple[float, ...] = (0.25,)
    refusal: str | None = None
    failure: str | None = None
    """Why the API server cannot reach it."""
    waiting: Body | None = None
    leaving: bool = False
    unready: str | None = None
    """Why its kubelet says that it is not ready; empty: the node controller says so."""
    asked: int = 0

    def manifest(self) -> Body:
        metadata: Body = {"name": self.name, "namespace": "serving", "uid": f"uid-{self.name}"}
        if self.leaving:
            metadata["deletionTimestamp"] = "2026-11-02T00:00:00Z"
        state: Body = {"waiting": self.waiting} if self.waiting else {"running": {}}
        status = {"name": "serving", "image": "", "imageID": "", "ready": True, "restartCount": 0, "state": state}
        ports = [{"name": "metrics", "containerPort": 9000}, {"name": "http", "containerPort": 8000}]
        return {
            "metadata": metadata,
            "spec": {"containers": [{"name": "serving", "ports": ports}], "nodeName": "node-7"},
            "status": {"phase": self.phase, "containerStatuses": [status], "conditions": self._conditions()},
        }

    def _conditions(self) -> list[Body]:
        """As a kubelet sets them, and as the node controller leaves them: `Ready` alone is False, without a reason."""
        ready = "True" if self.unready is None else "False"
        containers = "False" if self.unready == "ContainersNotReady" else "True"
        return [
            {"type": "Ready", "status": ready, "reason": self.unready or None},
            {"type": "ContainersReady", "status": containers},
        ]

    def answer(self, *, probe: bool) -> Body:
        self.asked += 1
        if probe:
            return {"version": self.version, "predictions": [{"score": score} for score in self.scores]}
        return {
            "version": self.version,
            "ready": self.version == self.published,
            "published": self.published,
            "refusal": self.refusal,
            "errors": [],
        }


@dataclass
class FakeApi:
    """An API server with one namespace, `serving`."""

    pods: list[FakePod] = field(default_factory=list)
    deployments: list[Body] = field(default_factory=list)
    refuse: dict[str, int] = field(default_factory=dict)
    """Status by part of the path."""
    on_list: Callable[[], None] = lambda: None
    """Runs before each list of pods."""
    forbidden: tuple[str, ...] = ()
    """Verbs on pods/proxy that a review of rights denies."""

    def respond(self, method: str, path: str, body: Body) -> tuple[int, Body]:
        for part, status in self.refuse.items():
            if part in path:
                return status, {"kind": "Status", "message": f"no {part} for you"}
        found = PROXY.match(path)
        if found:
            return self._proxied(method, found)
        if path.endswith("/selfsubjectaccessreviews"):
            attributes = body["spec"]["resourceAttributes"]
            assert (attributes["namespace"], attributes["subresource"]) == ("serving", "proxy")
            return 201, {"spec": body["spec"], "status": {"allowed": attributes["verb"] not in self.forbidden}}
        if path.endswith("/deployments"):
            return 200, {"kind": "DeploymentList", "items": self.deployments}
        self.on_list()
        return 200, {"kind": "PodList", "items": [pod.manifest() for pod in self.pods]}

    def _proxied(self, method: str, found: re.Match[str]) -> tuple[int, Body]:
        (pod,) = [pod for pod in self.pods if pod.name == found[1]]
        assert (method, found[2]) == ("POST" if found[3] else "GET", "8000")
        if pod.failure:
            return 503, {"kind": "Status", "message": pod.failure}
        return 200, pod.answer(probe=bool(found[3]))


@pytest.fixture
def api(tmp_path: Path) -> Iterator[FakeApi]:
    """The API server, its kubeconfig at tmp_path/kubeconfig."""
    fake = FakeApi()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or "{}")
            path = self.path.split("?")[0].replace("%3A", ":").replace("%2F", "/")
            status, body = fake.respond(self.command, path, sent)
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _do  # noqa: N815 - the names http.server calls

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: pytest's output is not a web server's log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    write_kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{server.server_port}")
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()


def write_kubeconfig(path: Path, server: str) -> None:
    path.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server shares this process, so its answers may be late."""
    monkeypatch.setattr(serving_cluster, "TIMEOUT", (240.0, 240.0))


@pytest.fixture
def serving(tmp_path: Path) -> KubernetesServing:
    """Serving as the API server shows it."""
    return KubernetesServing(namespace="serving", kubeconfig=tmp_path / "kubeconfig")


@pytest.fixture
def confirm(serving: KubernetesServing) -> Callable[[float], None]:
    """Confirms v7 on the API server, within some seconds."""
    return lambda seconds: serving.confirm(DEPLOYMENT, seconds)


Confirm = Callable[[float], None]


def test_every_replica_is_asked_and_scores(api: FakeApi, confirm: Confirm, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    api.pods = [FakePod(name) for name in "abc"]
    confirm(600)
    assert [pod.asked for pod in api.pods] == [2, 2, 2]
    assert "3 of 3 replicas answer with v7" in caplog.text


def test_one_replica_with_the_old_version_is_waited_for(
    api: FakeApi, confirm: Confirm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    slow = FakePod("c", version="v6")
    api.pods = [FakePod("a"), FakePod("b"), slow]
    versions = itertools.chain(["v6"], itertools.repeat("v7"))
    api.on_list = lambda: setattr(slow, "version", next(versions))
    confirm(600)
    assert "2 of 3 replicas answer with v7" in caplog.text


def test_a_replica_that_keeps_the_old_version_is_named(api: FakeApi, confirm: Confirm) -> None:
    api.pods = [FakePod("a"), FakePod("b", version="v6")]
    with pytest.raises(TemporaryError, match="1 of 2 replicas answer with v7; b: version v6"):
        confirm(0.5)


def test_a_replica_that_comes_meanwhile_is_asked_too(api: FakeApi, confirm: Confirm) -> None:
    late, lists = FakePod("b", version="v6"), []

    def scale_up() -> None:
        lists.append(1)
        api.pods = [FakePod("a"), late] if len(lists) > 1 else [FakePod("a")]
        late.version = "v7" if len(lists) > 3 else "v6"

    api.on_list = scale_up
    confirm(600)
    assert late.asked > 2


def test_a_replica_on_its_way_out_is_not_asked(api: FakeApi, confirm: Confirm) -> None:
    leaving = FakePod("a", version="v6", leaving=True)
    evicted = FakePod("b", version="v6", phase="Failed")
    api.pods = [leaving, evicted, FakePod("c")]
    confirm(600)
    assert leaving.asked == evicted.asked == 0


def test_a_replica_without_a_node_takes_no_requests_and_is_not_waited_for(
    api: FakeApi, confirm: Confirm, caplog: pytest.LogCaptureFixture
) -> None:
    unpulled = FakePod("b", phase="Pending", waiting={"reason": "ImagePullBackOff", "message": "no such image x:9"})
    api.pods = [FakePod("a"), unpulled]
    confirm(600)
    assert "b takes no requests (ImagePullBackOff: no such image x:9)" in caplog.text


def test_a_replica_on_a_lost_node_is_not_waited_for(
    api: FakeApi, confirm: Confirm, caplog: pytest.LogCaptureFixture
) -> None:
    lost = FakePod("b", version="v6", failure="dial tcp 10.0.0.9:8000: i/o timeout")
    api.pods = [FakePod("a"), lost]
    threading.Timer(1, lambda: setattr(lost, "unready", "")).start()  # until then the cluster does not know
    confirm(600)
    assert "b takes no requests (NodeLost: node node-7 no longer reports)" in caplog.text


@pytest.mark.parametrize("why", ["ContainersNotReady", "ReadinessGatesNotReady"])
def test_a_replica_that_is_not_ready_yet_is_waited_for(api: FakeApi, confirm: Confirm, why: str) -> None:
    api.pods = [FakePod("a"), FakePod("b", version="v6", unready=why)]
    with pytest.raises(TemporaryError, match="b: version v6"):
        confirm(0.5)


def test_the_replica_that_was_waited_for_is_named_before_a_lost_one(api: FakeApi, confirm: Confirm) -> None:
    api.pods = [FakePod("a", unready=""), FakePod("b", version="v6")]
    with pytest.raises(TemporaryError, match=r"0 of 2 .*; b: version v6"):
        confirm(0.5)


def test_lost_replicas_alone_do_not_confirm(api: FakeApi, confirm: Confirm) -> None:
    api.pods = [FakePod("b", unready="")]
    with pytest.raises(TemporaryError, match=r"0 of 1 .*b: NodeLost: .*Mend or delete its node"):
        confirm(0.5)


def test_pending_replicas_alone_do_not_confirm(api: FakeApi, confirm: Confirm) -> None:
    api.pods = [FakePod("b", phase="Pending", waiting={"reason": "ErrImagePull", "message": "no such image x:9"})]
    with pytest.raises(TemporaryError, match=r"0 of 1 .*no such image x:9.*Push that image"):
        confirm(0.5)


def test_a_crashed_replica_is_named_before_one_that_is_only_late(api: FakeApi, confirm: Confirm) -> None:
    crashed = FakePod("b", failure="connection refused", waiting={"reason": "CrashLoopBackOff", "message": "back-off"})
    api.pods = [FakePod("a", version="v6"), crashed]
    with pytest.raises(TemporaryError, match=r"b: CrashLoopBackOff.*kubectl -n serving logs b --previous"):
        confirm(0.5)


def test_a_replica_that_cannot_be_reached_is_temporary(api: FakeApi, confirm: Confirm) -> None:
    api.pods = [FakePod("a", failure="dial tcp 10.0.0.9:8000: connection refused")]
    with pytest.raises(TemporaryError, match=r"a: no answer \(dial tcp"):
        confirm(0.5)


@pytest.mark.parametrize(
    "bad", [FakePod("b", version="v6", refusal="digest differs"), FakePod("b", scores=(1.5,))], ids=["refused", "score"]
)
def test_one_replica_that_refuses_ends_the_wait(api: FakeApi, confirm: Confirm, bad: FakePod) -> None:
    api.pods = [FakePod("a"), bad]
    started = time.monotonic()
    with pytest.raises(DataError, match=r"http://b: .*Train the model again"):
        confirm(600)
    assert time.monotonic() - started < 300


def test_no_deployment_is_not_waited_for(api: FakeApi, confirm: Confirm) -> None:
    with pytest.raises(ConfigurationError, match=r"no Deployment labelled .*EVERGREEN_SERVING_NAMESPACE"):
        confirm(60)


def test_a_deployment_scaled_to_nothing_is_not_waited_for(api: FakeApi, confirm: Confirm) -> None:
    api.deployments = [serving_deployment(replicas=0)]
    with pytest.raises(ConfigurationError, match="scaled to 0"):
        confirm(60)


def test_pods_that_quota_forbids_are_explained(api: FakeApi, confirm: Confirm) -> None:
    api.deployments = [serving_deployment(replicas=2, failure="exceeded quota: small")]
    with pytest.raises(TemporaryError, match="FailedCreate: exceeded quota: small"):
        confirm(0.5)


@pytest.mark.parametrize(
    ("path", "status", "error", "words"),
    [
        ("pods", 403, ConfigurationError, "to list pods in serving.*Role evergreen-rollout"),
        ("proxy", 403, ConfigurationError, "to get pods/proxy in serving.*Role evergreen-rollout"),
        ("probe", 403, ConfigurationError, "to create pods/proxy in serving.*Role evergreen-rollout"),
        ("pods", 401, ConfigurationError, "Renew the credentials"),
        ("pods", 500, TemporaryError, "status 500"),
    ],
)
def test_what_the_api_server_refuses_is_said_with_its_remedy(
    api: FakeApi, confirm: Confirm, path: str, status: int, error: type[Exception], words: str
) -> None:
    api.pods, api.refuse = [FakePod("a")], {path: status}
    with pytest.raises(error, match=words):
        confirm(0.5)


def test_an_api_server_that_comes_back_in_time_is_enough(api: FakeApi, confirm: Confirm) -> None:
    api.pods, api.refuse = [FakePod("a")], {"pods": 503}
    threading.Timer(0.7, api.refuse.clear).start()
    confirm(600)


def test_an_unreachable_api_server_is_temporary(tmp_path: Path, confirm: Confirm) -> None:
    write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")
    with pytest.raises(TemporaryError, match=r"http://127.0.0.1:1: found no answer .*refused"):
        confirm(0.5)


@pytest.mark.parametrize("content", [None, "", "{]", "clusters: []", "just words"])
def test_a_kubeconfig_that_will_not_do_is_named(tmp_path: Path, confirm: Confirm, content: str | None) -> None:
    if content is not None:
        (tmp_path / "kubeconfig").write_text(content)
    with pytest.raises(ConfigurationError, match=r"kubeconfig.*EVERGREEN_KUBECONFIG"):
        confirm(60)


def test_outside_a_pod_in_cluster_credentials_are_missed() -> None:
    with pytest.raises(ConfigurationError, match="of this pod"):
        KubernetesServing(namespace="serving", kubeconfig=None).confirm(DEPLOYMENT, 60)


def test_a_look_changes_nothing_and_asks_no_replica(api: FakeApi, serving: KubernetesServing) -> None:
    api.pods = [FakePod("a", failure="connection refused"), FakePod("b", version="v6", refusal="digest differs")]
    serving.look()
    assert [pod.asked for pod in api.pods] == [0, 0]


def test_a_look_passes_replicas_that_are_still_to_come(api: FakeApi, serving: KubernetesServing) -> None:
    api.deployments = [serving_deployment(replicas=2, failure="exceeded quota: small")]
    serving.look()


@pytest.mark.parametrize("verb", ["get", "create"])
def test_a_look_sees_that_replicas_may_not_be_asked(api: FakeApi, serving: KubernetesServing, verb: str) -> None:
    api.pods, api.forbidden = [FakePod("a")], (verb,)
    with pytest.raises(ConfigurationError, match=f"to {verb} pods/proxy in serving.*Role evergreen-rollout"):
        serving.look()


@pytest.mark.parametrize(
    ("refuse", "error", "words"),
    [
        ({"pods": 403}, ConfigurationError, "to list pods in serving.*Role evergreen-rollout"),
        ({"pods": 401}, ConfigurationError, "Renew the credentials"),
        ({"pods": 500}, TemporaryError, "status 500"),
        ({}, ConfigurationError, "no Deployment labelled"),
    ],
    ids=["forbidden", "expired", "broken", "absent"],
)
def test_a_look_says_what_is_in_the_way(
    api: FakeApi, serving: KubernetesServing, refuse: dict[str, int], error: type[Exception], words: str
) -> None:
    api.refuse = refuse
    with pytest.raises(error, match=words):
        serving.look()


def test_a_rollback_without_rights_changes_nothing_and_one_to_a_silent_replica_stays(
    api: FakeApi, serving: KubernetesServing, registered: Callable[[int], Model], ledger: Ledger, lake: Lake
) -> None:
    good, bad = registered(2), registered(3)
    who: dict[str, Any] = {"actor": "tester", "reason": "a test", "timeout_seconds": 600}
    for model in (good, bad):
        api.pods = [FakePod("a", version=model.version, published=model.version)]
        roll_out(model, serving, ledger, lake, **who)
    api.refuse = {"pods": 403}
    with pytest.raises(ConfigurationError, match="Role evergreen-rollout"):
        roll_back("fraud", serving, ledger, lake, **who)
    assert [d.to_version for d in ledger.history("fraud")] == [good.version, bad.version]
    api.refuse, api.pods[0].failure = {}, "dial tcp 10.0.0.9:8000: i/o timeout"
    with pytest.raises(TemporaryError, match=r"a: no answer .*The rollback stays"):
        roll_back("fraud", serving, ledger, lake, **who | {"timeout_seconds": 0.5})
    published = published_deployment(lake, "fraud")
    assert published == ledger.current("fraud")
    assert published is not None
    assert published.to_version == good.version


def test_a_rollout_that_a_replica_refuses_is_undone(
    api: FakeApi, serving: KubernetesServing, registered: Callable[[int], Model], ledger: Ledger, lake: Lake
) -> None:
    good, bad = registered(2), registered(3)
    api.pods = [FakePod(name, version=good.version, published=good.version) for name in "ab"]
    who: dict[str, Any] = {"actor": "tester", "reason": "a test", "timeout_seconds": 120}
    roll_out(good, serving, ledger, lake, **who)
    api.pods[1].published, api.pods[1].refusal = bad.version, "digest differs"
    with pytest.raises(DataError, match=f"http://b: .*{good.version} is published again"):
        roll_out(bad, serving, ledger, lake, **who)
    published = published_deployment(lake, "fraud")
    assert published is not None
    assert published.to_version == good.version


def test_the_settings_choose_the_target(tmp_path: Path) -> None:
    assert serving_target(Settings.from_environment({})) == HttpServing("http://127.0.0.1:8000")
    chosen = {"EVERGREEN_SERVING_NAMESPACE": "serving", "EVERGREEN_KUBECONFIG": str(tmp_path / "k")}
    assert serving_target(Settings.from_environment(chosen)) == KubernetesServing(
        namespace="serving", kubeconfig=tmp_path / "k"
    )
    inside = chosen | {"EVERGREEN_KUBECONFIG": "in-cluster"}
    assert serving_target(Settings.from_environment(inside)) == KubernetesServing(namespace="serving", kubeconfig=None)


def test_one_process_is_served_without_the_kubernetes_client() -> None:
    look = (
        "import sys; from evergreen.deployment.serving_target import serving_target;"
        "from evergreen.settings import Settings; serving_target(Settings.from_environment({}));"
        "assert 'kubernetes' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", look], check=True)


def serving_deployment(*, replicas: int, failure: str | None = None) -> Body:
    conditions = [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": failure}]
    return {
        "metadata": {"name": "evergreen-serving"},
        "spec": {
            "replicas": replicas,
            "selector": {},
            "template": {"metadata": {}, "spec": {"containers": [{"name": "serving"}]}},
        },
        "status": {"conditions": conditions if failure else []},
    }
