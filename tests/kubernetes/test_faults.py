# ruff: noqa: F811 - fixtures are imported by name
"""Everything that can happen to a pod ends in one sentence of cause and remedy, and in the action that fits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from evergreen.orchestration.pod_care import INSTALLATION, TASK_ANNOTATIONS, delete_pods, installation
from evergreen.orchestration.pod_diagnosis import Action, Cause
from faulty_runs import Faulty, Outcome, Place, faulty, local_place, real_place  # noqa: F401 - fixtures

pytestmark = pytest.mark.airflow
LOCAL_OR_REAL = ["local", pytest.param("real", marks=pytest.mark.cluster)]

SWITCHES = {
    "evict": (Cause.EVICTED, Action.RESUME, "evicted from node local-0: The node was low on resource: memory"),
    "oom": (Cause.OUT_OF_MEMORY, Action.HALVE, "needed more memory than its limit of 96Mi"),
    "delete": (Cause.DELETED, Action.RESUME, "deleted from node local-0 by somebody else"),
    "node_lost": (Cause.NODE_LOST, Action.RESUME, "lost with node local-0"),
    "preempt_before_start": (Cause.PREEMPTED, Action.RESUME, "a pod of higher priority"),
    "never_scheduled": (Cause.NO_ROOM, Action.RETRY, "Insufficient nvidia.com/gpu"),
    "image_pull_fails": (Cause.IMAGE, Action.FAIL, "image trainer:1 cannot be pulled"),
}
"""Fault switch of the local cluster -> what the task makes of it."""


def _step(switch: str, deferrable: bool) -> str:
    return f"{switch.replace('_', '-')}{'-deferred' if deferrable else ''}"


@pytest.fixture(scope="module")
def switched(local_place: Place, faulty: Callable[..., Faulty]) -> Iterator[Any]:
    """How a task ended for every fault switch of the local cluster, deferrable or not."""
    faults = local_place.local.faults
    scenarios = []
    for deferrable in (False, True):
        for switch in (*SWITCHES, "log_cut"):
            step = _step(switch, deferrable)
            program = "long" if switch == "log_cut" else "wait"
            profile = "impatient" if switch in ("never_scheduled", "image_pull_fails") else "small"
            scenarios.append({"step": step, "program": program, "deferrable": deferrable, "profile": profile})
            getattr(faults, switch)(f"evergreen/step={step}")
    run = faulty(local_place, scenarios)
    yield run.outcome()
    faults.clear()


@pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])
@pytest.mark.parametrize("switch", SWITCHES)
def test_fault_switch_is_understood_and_acted_upon(
    switched: Outcome, local_place: Place, switch: str, deferrable: bool
) -> None:
    cause, action, words = SWITCHES[switch]
    step = _step(switch, deferrable)
    failures = switched.failures[step]
    assert [(failure.cause, failure.action) for failure in failures] == [(cause, action)], failures
    assert words in failures[0].sentence
    assert switched.ends[step] == (["failed", 1] if action is Action.FAIL else ["success", 2])
    assert f"{failures[0].sentence} {failures[0].remedy}" in switched.log
    assert step not in [pod.metadata.labels.get("evergreen/step") for pod in local_place.pods()]


@pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])
def test_broken_log_stream_harms_nothing(switched: Outcome, deferrable: bool) -> None:
    assert switched.ends[_step("log_cut", deferrable)] == ["success", 1]


ANYWHERE = {
    "absent": ("0", "absent", Cause.NOT_OFFERED, Action.FAIL, "no node offers evergreen.test/gpu (asked for 1; 1 node"),
    "hog": ("hog", "small", Cause.OUT_OF_MEMORY, Action.HALVE, "needed more memory than its limit of 96Mi"),
    "deleted": ("wait", "small", Cause.DELETED, Action.RESUME, "by somebody else, by hand or to drain its node"),
    "late": ("wait", "brief", Cause.DEADLINE, Action.FAIL, "ran longer than its deadline of 8 s"),
    "badly-set": ("64", "small", Cause.CONFIGURATION, Action.FAIL, "Spec: found a wrong seed, wanted a number"),
    "bad-data": ("65", "small", Cause.DATA, Action.FAIL, "met data it cannot use"),
    "crashing": ("3", "small", Cause.EXIT, Action.RETRY, "ended with exit code 3"),
}
"""Step -> its program and profile, and what the task makes of its end, whatever the cluster."""
NOT_SHOWN = {("real", "late"): "Kubernetes 1.20 may go on showing the container of a pod past its deadline as running"}
"""What a cluster cannot be asked: the operator reads such a pod's log until the task's own time limit."""


@pytest.fixture(scope="module", params=LOCAL_OR_REAL)
def place(request: pytest.FixtureRequest) -> Any:
    """A cluster to do harm to."""
    return request.getfixturevalue(f"{request.param}_place")


@pytest.fixture(scope="module")
def harmed(place: Place, faulty: Callable[..., Faulty]) -> Any:
    """How tasks ended after things that can be done to pods of any cluster."""
    steps = _shown(place)
    run = faulty(place, [{"step": s, "program": ANYWHERE[s][0], "profile": ANYWHERE[s][1]} for s in steps])
    _leave_behind(place, "of-a-run-that-is-gone", installation(run.lake.url))
    _leave_behind(place, "of-another-installation", installation("file:///elsewhere"))
    doing = threading.Thread(target=lambda: _delete(place, "deleted"))
    doing.start()
    outcome = run.outcome()
    doing.join()
    return outcome


def _shown(place: Place) -> list[str]:
    return [step for step in ANYWHERE if (place.kind, step) not in NOT_SHOWN]


def _leave_behind(place: Place, name: str, owner: str, run_id: str = "manual__gone") -> None:
    """A pod as an Airflow leaves it whose worker died."""
    annotations = dict(zip(TASK_ANNOTATIONS, ("fraud.faults", "deleted", run_id, "-1"), strict=True))
    container = {"name": "base", "image": place.image, "command": ["python", "-c", "import time; time.sleep(600)"]}
    pod = {
        "metadata": {"name": name, "labels": {INSTALLATION: owner}, "annotations": annotations},
        "spec": {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0},
    }
    place.api.create_namespaced_pod(place.namespace, pod)


def _delete(place: Place, step: str) -> None:
    place.api.delete_namespaced_pod(place.running(step).metadata.name, place.namespace)


@pytest.mark.parametrize("step", ANYWHERE)
def test_every_end_of_a_pod_is_understood_and_acted_upon(harmed: Outcome, place: Place, step: str) -> None:
    if (place.kind, step) in NOT_SHOWN:
        pytest.skip(NOT_SHOWN[place.kind, step])
    _, _, cause, action, words = ANYWHERE[step]
    failures = harmed.failures[step]
    assert (failures[0].cause, failures[0].action) == (cause, action), failures
    assert words in failures[0].sentence
    assert step not in [pod.metadata.labels.get("evergreen/step") for pod in place.pods()]


def test_only_what_can_be_mended_is_tried_again(harmed: Outcome, place: Place) -> None:
    again = {"hog": ["success", 2], "deleted": ["success", 2], "crashing": ["failed", 4]}
    assert harmed.ends == {step: again.get(step, ["failed", 1]) for step in _shown(place)}


def test_ordinary_retries_have_a_budget_of_their_own(harmed: Outcome) -> None:
    assert [failure.action for failure in harmed.failures["crashing"]] == [*[Action.RETRY] * 3, Action.FAIL]
    assert "All 3 retries are used up." in harmed.log


def test_next_pod_sweeps_what_tasks_left_behind_but_no_other_installations(harmed: Outcome, place: Place) -> None:
    assert harmed.ends
    left = {pod.metadata.name for pod in place.pods()}
    assert "of-a-run-that-is-gone" not in left
    assert "of-another-installation" in left


def test_task_that_failed_for_good_takes_its_pods_with_it(place: Place) -> None:
    _leave_behind(place, "of-a-dead-worker", installation("here"), "manual__1")
    _leave_behind(place, "of-another-run", installation("here"), "manual__2")
    operator = SimpleNamespace(
        task_id="deleted", labels={INSTALLATION: installation("here")}, namespace=place.namespace, client=place.api
    )
    instance = SimpleNamespace(dag_id="fraud.faults", task_id="deleted", run_id="manual__1", map_index=-1)
    delete_pods({"task": operator, "ti": instance})
    left = {pod.metadata.name for pod in place.pods()}
    assert "of-a-dead-worker" not in left
    assert "of-another-run" in left


@pytest.fixture(scope="module")
def lost_ways(local_place: Place, faulty: Callable[..., Faulty], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """How tasks ended that could not reach the cluster."""
    folder = tmp_path_factory.mktemp("kubeconfigs")
    good = yaml.safe_load(local_place.kubeconfig.read_text())
    return faulty(
        local_place,
        [
            {"step": "missing", "program": "0", "config_file": str(folder / "nothing-here")},
            {"step": "closed", "program": "0", "config_file": _written(folder / "closed", _closed(good))},
            {"step": "expired", "program": "0", "config_file": _written(folder / "expired", _expired(good))},
        ],
    ).outcome()


def _written(path: Path, config: object) -> str:
    path.write_text(yaml.safe_dump(config))
    return str(path)


def _closed(config: Any) -> Any:
    cluster = {**config["clusters"][0]["cluster"], "server": "https://127.0.0.1:1"}
    return {**config, "clusters": [{**config["clusters"][0], "cluster": cluster}]}


def _expired(config: Any) -> Any:
    return {**config, "users": [{**config["users"][0], "user": {"token": "expired"}}]}


@pytest.mark.parametrize(
    ("step", "cause", "tries", "words"),
    [
        ("missing", Cause.KUBECONFIG, 1, "Set EVERGREEN_KUBECONFIG"),
        (
            "closed",
            Cause.UNREACHABLE,
            4,
            "The Kubernetes API at 127.0.0.1:1 does not answer. See that the cluster runs",
        ),
        ("expired", Cause.UNAUTHORIZED, 1, "expired or wrong. Renew the token or certificate"),
    ],
)
def test_cluster_that_cannot_be_reached_is_told_with_its_remedy(
    lost_ways: Outcome, step: str, cause: Cause, tries: int, words: str
) -> None:
    first = lost_ways.failures[step][0]
    assert first.cause is cause
    assert words in f"{first.sentence} {first.remedy}"
    assert lost_ways.ends[step] == ["failed", tries]
