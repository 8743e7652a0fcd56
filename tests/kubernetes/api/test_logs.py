"""The log call: every line once, in order, from where it is wanted."""

from __future__ import annotations

import threading
from itertools import islice
from typing import Any

import pytest
from kubernetes import client, watch
from kubernetes.client import ApiException, CoreV1Api

from kube_pods import Pods

NUMBERS = "for i in range({count}): print(i, 'x' * (i % 97))"
SLOW = "import time\nfor i in range(20): print(i); time.sleep(0.15)"

GOODBYE = """
import signal, sys, time
signal.signal(15, lambda *_: sys.exit(print("goodbye")))
print("alive")
time.sleep(900)
"""


def numbers(count: int) -> list[str]:
    return [f"{i} {'x' * (i % 97)}" for i in range(count)]


def raw_log(api: CoreV1Api, namespace: str, name: str, **query: Any) -> client.rest.RESTResponse:
    """A log call with options the client has no arguments for, such as sinceTime."""
    url = f"{api.api_client.configuration.host}/api/v1/namespaces/{namespace}/pods/{name}/log"
    headers: dict[str, str] = {}
    api.api_client.update_params_for_auth(headers, [], ["BearerToken"])
    return api.api_client.rest_client.pool_manager.request(
        "GET", url, fields=query, headers=headers, preload_content=False
    )


def test_followed_log_has_every_line_once_and_in_order_from_start_to_end(pods: Pods) -> None:
    pods.python("many", NUMBERS.format(count=20_000))
    pods.phase("many", "Running", "Succeeded")
    assert pods.log("many", follow=True) == numbers(20_000)
    assert pods.ended("many").exit_code == 0


def test_lines_arrive_while_the_pod_runs(pods: Pods) -> None:
    pods.python("slow", f"{SLOW}\ntime.sleep(900)")
    pods.phase("slow", "Running")
    stream = pods.api.read_namespaced_pod_log("slow", pods.namespace, follow=True, _preload_content=False)
    assert [int(line) for line in islice(stream, 20)] == list(range(20))
    assert pods.read("slow").status.phase == "Running"
    stream.close()


def test_watch_of_the_client_streams_the_log(pods: Pods) -> None:
    pods.python("watched", SLOW)
    pods.phase("watched", "Running", "Succeeded")
    lines = watch.Watch().stream(pods.api.read_namespaced_pod_log, name="watched", namespace=pods.namespace)
    assert list(lines) == [str(i) for i in range(20)]


def test_several_followers_all_get_everything(pods: Pods) -> None:
    pods.python("popular", SLOW)
    pods.phase("popular", "Running", "Succeeded")  # a busy kubelet reports a short pod only once it has ended
    found: list[list[str]] = []
    readers = [threading.Thread(target=lambda: found.append(pods.log("popular", follow=True))) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert found == [[str(i) for i in range(20)]] * 4


def test_reader_that_reconnects_with_its_last_time_misses_nothing(pods: Pods) -> None:
    pods.python("resumed", SLOW)
    pods.phase("resumed", "Running", "Succeeded")  # a busy kubelet reports a short pod only once it has ended
    got: list[str] = []
    last = ""
    while len(got) < 20:
        query = {"follow": "true", "timestamps": "true", **({"sinceTime": last} if last else {})}
        stream = raw_log(pods.api, pods.namespace, "resumed", **query)
        for number, line in enumerate(stream):
            stamp, _, text = line.decode().rstrip("\n").partition(" ")
            if stamp > last:
                got.append(text)
                last = stamp
            if number == 3 + len(got):
                break
        stream.close()
    assert got == [str(i) for i in range(20)]


def test_since_time_counts_whole_seconds(pods: Pods) -> None:
    pods.python("fast", "for i in range(5): print(i)")
    pods.phase("fast", "Succeeded")
    stamps = [line.split(" ")[0] for line in pods.log("fast", timestamps=True)]
    second = stamps[-1].partition(".")[0]
    wanted = [i for i, stamp in enumerate(stamps) if stamp >= second]
    answer = raw_log(pods.api, pods.namespace, "fast", sinceTime=stamps[-1])
    assert [int(line) for line in answer] == wanted


def test_since_seconds_leaves_older_lines_out(pods: Pods) -> None:
    pods.python("aged", "import time; print('old'); time.sleep(3)\nwhile True: print('new'); time.sleep(0.1)")
    pods.wait_for_log("aged", "new")
    assert set(pods.log("aged", since_seconds=1)) == {"new"}
    assert set(pods.log("aged", since_seconds=900)) == {"old", "new"}


def test_tail_limit_and_timestamps(pods: Pods) -> None:
    pods.python("options", "for i in range(50): print(i)")
    pods.phase("options", "Succeeded")
    assert pods.log("options", tail_lines=2) == ["48", "49"]
    assert pods.log("options", tail_lines=0) == []
    assert pods.log("options", limit_bytes=3) == ["0", "1"]
    stamps = [line.split(" ")[0] for line in pods.log("options", timestamps=True)]
    assert len(stamps) == 50
    assert stamps == sorted(set(stamps))
    assert {len(stamp) for stamp in stamps} == {30}


def test_bytes_that_are_not_text_pass_unchanged(pods: Pods) -> None:
    pods.python("binary", r"import os; os.write(1, b'a\xff\r\x00b\nlast without newline')")
    pods.phase("binary", "Succeeded")
    answer = pods.api.read_namespaced_pod_log("binary", pods.namespace, _preload_content=False)
    assert answer.data == b"a\xff\r\x00b\nlast without newline"


def test_log_of_a_pod_without_a_node_is_empty(pods: Pods) -> None:
    pods.python("homeless", "", nodeSelector={"pool": "none"})
    assert pods.api.read_namespaced_pod_log("homeless", pods.namespace, _preload_content=False).status == 204


def test_log_of_a_container_that_has_not_started_is_refused(pods: Pods) -> None:
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    pods.python("later", "", volumes=[{"name": "v", "secret": {"secretName": "absent"}}], container=mount)
    pods.waiting("later", "ContainerCreating")
    with pytest.raises(ApiException, match="is waiting to start: ContainerCreating") as refusal:
        pods.log("later")
    assert refusal.value.status == 400


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"container": "other"}, 400, "container other is not valid for pod done"),
        ({"previous": True}, 400, "previous terminated container"),
        ({"since_seconds": 0}, 422, "must be greater than 0"),
        ({"tail_lines": -1}, 422, "must be greater than or equal to 0"),
    ],
    ids=["container", "previous", "since", "tail"],
)
def test_options_that_make_no_sense_are_refused(pods: Pods, options: dict[str, Any], status: int, message: str) -> None:
    pods.python("done", "")
    pods.phase("done", "Succeeded")
    with pytest.raises(ApiException, match=message) as refusal:
        pods.log("done", **options)
    assert refusal.value.status == status


def test_log_follows_through_the_deletion_of_its_pod(pods: Pods) -> None:
    pods.python("doomed", GOODBYE)
    pods.phase("doomed", "Running")
    stream = pods.api.read_namespaced_pod_log("doomed", pods.namespace, follow=True, _preload_content=False)
    lines = iter(stream)
    assert next(lines) == b"alive\n"
    pods.api.delete_namespaced_pod("doomed", pods.namespace, grace_period_seconds=60)
    # A kubelet that looks again after containerd forgot the container says so in the stream itself.
    assert [line for line in lines if not line.startswith(b"rpc error: ")] == [b"goodbye\n"]
