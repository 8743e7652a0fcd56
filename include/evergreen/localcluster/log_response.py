"""The log call: which lines, from which container, and the one fault that breaks a stream."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Mapping

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from evergreen.localcluster.api_failure import ApiFailure, bad_request, invalid
from evergreen.localcluster.cluster import Cluster
from evergreen.localcluster.faults import FaultKind
from evergreen.localcluster.field_problems import bad_value, forbidden
from evergreen.localcluster.kubelet import started_containers
from evergreen.localcluster.log_reader import LogRequest, read_log
from evergreen.localcluster.wire import Json, epoch_nanoseconds

logger = logging.getLogger(__name__)

_TOLD_OTHERWISE = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}
_SECOND = 1_000_000_000
TRUE = ("1", "t", "T", "true", "True", "TRUE")


async def pod_log(cluster: Cluster, request: Request) -> Response:
    """The log of one container as text, streamed; 400 while the container has not started."""
    namespace, name = request.path_params["namespace"], request.path_params["name"]
    pod = cluster.store.get("pods", namespace, name)
    container = _container(pod, request.query_params.get("container"))
    wanted = log_request(name, request.query_params)
    if request.query_params.get("previous") in TRUE:
        raise bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
    if _is_unreachable(cluster, pod):
        message = (
            f"Get containerLogs/{namespace}/{name}/{container}: dial tcp 127.0.0.1:10250: connect: connection refused"
        )
        raise ApiFailure(500, "InternalError", message)
    if not pod["spec"].get("nodeName"):
        return Response(status_code=204)
    if container not in started_containers(pod):
        reason = _waiting_reason(pod, container)
        raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {reason}')
    path = cluster.kubelet.directory(pod).log(container)
    blocks = read_log(path, wanted, lambda: cluster.closing or _is_over(cluster, pod, container))
    return CuttableStream(_broken_by_fault(cluster, pod, blocks), media_type="text/plain")


def log_request(pod: str, query: Mapping[str, str]) -> LogRequest:
    """The options of the call; 400 when they make no sense together, 422 when one is malformed."""
    if "sinceSeconds" in query and "sinceTime" in query:
        both = forbidden("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified")
        raise invalid("PodLogOptions", pod, both)
    since = None
    if "sinceSeconds" in query:
        since = time.time_ns() - _number(pod, query, "sinceSeconds", at_least=1) * 1_000_000_000
    elif "sinceTime" in query:
        try:
            # Whole seconds, as the kubelet gets it: who asks from his last line on gets its second again.
            since = epoch_nanoseconds(query["sinceTime"]) // _SECOND * _SECOND
        except ValueError as error:
            raise bad_request(f"sinceTime is not an RFC 3339 time: {error}") from error
    return LogRequest(
        follow=query.get("follow") in TRUE,
        timestamps=query.get("timestamps") in TRUE,
        since_nanoseconds=since,
        tail_lines=_number(pod, query, "tailLines", at_least=0) if "tailLines" in query else None,
        limit_bytes=_number(pod, query, "limitBytes", at_least=1) if "limitBytes" in query else None,
    )


def _number(pod: str, query: Mapping[str, str], name: str, *, at_least: int) -> int:
    try:
        number = int(query[name])
    except ValueError as error:
        raise bad_request(f"{name} is not a number: {query[name]!r}") from error
    if number < at_least:
        why = f"must be greater than {at_least - 1}" if at_least else "must be greater than or equal to 0"
        raise invalid("PodLogOptions", pod, bad_value(name, number, why))
    return number


def _container(pod: Json, asked: str | None) -> str:
    names = [c["name"] for field in ("initContainers", "containers") for c in pod["spec"].get(field) or []]
    name = pod["metadata"]["name"]
    if not asked and len(names) == 1:
        return str(names[0])
    if not asked:
        raise bad_request(f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]")
    if asked not in names:
        raise bad_request(f"container {asked} is not valid for pod {name}")
    return asked


def _waiting_reason(pod: Json, container: str) -> str:
    for field in ("initContainerStatuses", "containerStatuses"):
        for status in pod["status"].get(field) or []:
            if status["name"] == container and "waiting" in status["state"]:
                reason = str(status["state"]["waiting"]["reason"])
                return _TOLD_OTHERWISE.get(reason, reason)
    return "ContainerCreating"


def _is_over(cluster: Cluster, pod: Json, container: str) -> bool:
    """Whether no more lines come *and* the API says so: a client that then asks for the state must see it ended."""
    if _is_unreachable(cluster, pod):
        return True
    metadata = pod["metadata"]
    current = cluster.store.find("pods", metadata["namespace"], metadata["name"])
    if current is None or current["metadata"]["uid"] != metadata["uid"]:
        return True
    statuses = [
        *(current["status"].get("containerStatuses") or []),
        *(current["status"].get("initContainerStatuses") or []),
    ]
    return any(item["name"] == container and "terminated" in item["state"] for item in statuses)


def _is_unreachable(cluster: Cluster, pod: Json) -> bool:
    order = cluster.kubelet.directory(pod).stop_order()
    return order is not None and order.frozen


class StreamCut(Exception):
    """The connection is to break here, in the middle of the answer."""


async def _broken_by_fault(cluster: Cluster, pod: Json, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same stream, broken in the middle of a line where a fault says so, or when the node is lost."""
    async for block in blocks:
        if _cut_is_due(cluster, pod):
            last_line = block.splitlines(keepends=True)[-1]
            yield block[: len(block) - len(last_line) // 2 - 1]
            raise StreamCut
        yield block
    if _is_unreachable(cluster, pod):
        raise StreamCut


def _cut_is_due(cluster: Cluster, pod: Json) -> bool:
    if not cluster.faults.all():
        return False
    seconds = cluster.kubelet.running_seconds(pod)
    return seconds is not None and cluster.faults.strike(FaultKind.LOG_CUT, pod, seconds) is not None


class CuttableStream(StreamingResponse):
    """A streamed answer that can be broken off: the client sees the connection die, not a proper end."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream; a StreamCut leaves the answer unfinished, so that the server drops the connection."""
        try:
            await super().__call__(scope, receive, send)
        except* StreamCut:
            logger.info("a fault cut the log stream %s", scope["path"])
