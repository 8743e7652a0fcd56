"""A pod that is deleted is asked to end, given its grace, and gone."""

from __future__ import annotations

import time

import pytest
from kubernetes.client import ApiException, V1DeleteOptions

from kube_pods import Pods

DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf'); time.sleep(900)"
CAREFUL = """
import signal, sys, time
def save(*_):
    time.sleep(0.3); print("saved"); sys.exit(0)
signal.signal(signal.SIGTERM, save); print("ready"); time.sleep(900)
"""


def test_deleted_pod_is_asked_to_end_and_its_last_words_are_heard(pods: Pods) -> None:
    pods.python("careful", CAREFUL)
    pods.wait_for_log("careful", "ready")
    stream = pods.api.read_namespaced_pod_log("careful", pods.namespace, follow=True, _preload_content=False)
    answer = pods.delete("careful", body=V1DeleteOptions(propagation_policy="Foreground"))
    assert answer.metadata.deletion_timestamp is not None
    assert answer.metadata.deletion_grace_period_seconds == 30
    assert answer.status.phase == "Running"
    # A kubelet that looks again after containerd forgot the container says so in the stream itself.
    heard = [line.decode().strip() for line in stream if not line.startswith(b"rpc error: ")]
    assert heard == ["ready", "saved"]
    pods.gone("careful")
    assert ("Killing", "Stopping container base") in pods.events("careful", until="Killing")


def test_pod_that_ignores_sigterm_is_killed_after_its_grace(pods: Pods) -> None:
    pods.python("deaf", DEAF, terminationGracePeriodSeconds=1)
    pods.wait_for_log("deaf", "deaf")
    started = time.monotonic()
    pods.delete("deaf")
    pods.gone("deaf")
    assert time.monotonic() - started > 0.8


def test_second_delete_may_shorten_the_grace(pods: Pods) -> None:
    pods.python("stubborn", DEAF, terminationGracePeriodSeconds=900)
    pods.wait_for_log("stubborn", "deaf")
    assert pods.delete("stubborn").metadata.deletion_grace_period_seconds == 900
    pods.delete("stubborn", grace_period_seconds=0)
    pods.gone("stubborn")


def test_pod_without_a_node_is_removed_at_once(pods: Pods) -> None:
    pods.python("homeless", "", nodeSelector={"pool": "none"})
    pods.delete("homeless")
    with pytest.raises(ApiException, match="404"):
        pods.read("homeless")


def test_name_can_be_used_again_after_deletion(pods: Pods) -> None:
    for line in ("first", "second"):
        pods.python("again", f"print('{line}')")
        pods.phase("again", "Succeeded")
        assert pods.log("again") == [line]
        pods.delete("again", grace_period_seconds=0)
        pods.gone("again")
