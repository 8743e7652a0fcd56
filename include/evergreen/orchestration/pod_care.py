"""Care for pods beyond one try: smaller micro-batches after memory ran out, and no pod that outlives its task.

Four things end pods, each where the one before cannot: the operator when its task ends or is killed; Airflow's
failure callback when the worker died; the next pod of the installation, which first deletes those whose tasks have
ended; and each pod's own deadline.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from airflow.providers.cncf.kubernetes.callbacks import KubernetesPodOperatorCallback
from kubernetes.client import CoreV1Api, V1Pod
from kubernetes.client.exceptions import ApiException

from evergreen.orchestration.pod_diagnosis import Action
from evergreen.orchestration.pod_examination import AWAY, QUICK
from evergreen.orchestration.pod_retries import spent_before

logger = logging.getLogger(__name__)
INSTALLATION = "evergreen/installation"
"""Label that keeps two installations in one namespace from deleting each other's pods."""
TASK_ANNOTATIONS = {
    "evergreen/dag-id": "{{ ti.dag_id }}",
    "evergreen/task-id": "{{ ti.task_id }}",
    "evergreen/run-id": "{{ run_id }}",
    "evergreen/map-index": "{{ ti.map_index }}",
}
"""Which task a pod works for, to the letter: labels may not hold a run id's colons and plus signs."""
CHECKED = "already_checked"
"""Label that the operator puts on a pod it is done with."""
ENDED = {"success", "failed", "skipped", "upstream_failed", "removed"}


def installation(lake_url: str) -> str:
    """Label value for the installation whose lake that is."""
    return hashlib.sha256(lake_url.encode()).hexdigest()[:16]


class PodCare(KubernetesPodOperatorCallback):
    """Called by the operator, sync and deferrable alike, before it makes a pod."""

    @staticmethod
    def on_pod_manifest_created(
        *, pod_request: V1Pod, client: CoreV1Api, operator: Any, context: Mapping[str, Any], **_: Any
    ) -> None:
        """Delete what is left over, then give the new pod the micro-batch that earlier tries taught.

        The first call to the cluster: it gives up after seconds where the cluster is away.
        """
        namespace, ours = pod_request.metadata.namespace, pod_request.metadata.labels[INSTALLATION]
        selector = f"{INSTALLATION}={ours}"
        pods = client.list_namespaced_pod(namespace, label_selector=selector, _request_timeout=QUICK).items
        for pod in _left_over(pods, pod_request, context):
            logger.warning("Pod %s is left over from a task that has ended: deleting it", pod.metadata.name)
            _delete(client, pod)
        if halvings := spent_before(context)[Action.HALVE]:
            logger.info(
                "Memory ran out %d times: micro-batch halved as often, the effective batch is the same", halvings
            )
            pod_request.spec.containers[0].args += ["--halvings", str(halvings)]


def delete_pods(context: Mapping[str, Any]) -> None:
    """Delete every pod of a task that has failed for good.

    Airflow calls it in the worker, or in the DAG processor when the worker died.
    """
    operator, instance = context["task"], context["ti"]
    selector = f"{INSTALLATION}={operator.labels[INSTALLATION]}"
    try:
        pods = operator.client.list_namespaced_pod(
            operator.namespace, label_selector=selector, _request_timeout=QUICK
        ).items
    except AWAY as error:
        logger.warning("Pods of %s cannot be looked for: %s", operator.task_id, str(error).splitlines()[0])
        return
    wanted = (instance.dag_id, instance.task_id, instance.run_id, str(instance.map_index))
    for pod in pods:
        if _task(pod) == wanted and pod.metadata.deletion_timestamp is None:
            logger.info("Deleting pod %s of the failed task", pod.metadata.name)
            _delete(operator.client, pod)


def _left_over(pods: Iterable[V1Pod], request: V1Pod, context: Mapping[str, Any]) -> list[V1Pod]:
    """Pods whose tasks have ended, and superfluous ones of this very task; the newest unchecked one may go on."""
    living = [pod for pod in pods if pod.metadata.deletion_timestamp is None]
    own = [pod for pod in living if _task(pod) == _task(request)]
    others = [pod for pod in living if pod not in own]
    unchecked = [pod for pod in own if pod.metadata.labels.get(CHECKED) != "True"]
    newest = max(unchecked, key=lambda pod: pod.metadata.creation_timestamp, default=None)
    return [pod for pod in own if pod is not newest] + [pod for pod in others if _has_ended(pod)]


def _task(pod: V1Pod) -> tuple[str | None, ...]:
    """Dag id, task id, run id and map index the pod works for."""
    annotations = pod.metadata.annotations or {}
    return tuple(annotations.get(name) for name in TASK_ANNOTATIONS)


def _has_ended(pod: V1Pod) -> bool:
    """Whether the pod's task is over, or its run no longer exists."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    dag_id, task_id, run_id, map_index = _task(pod)
    if dag_id is None or task_id is None or run_id is None:
        return False
    run = RuntimeTaskInstance.get_task_states(dag_id=dag_id, task_ids=[task_id], run_ids=[run_id]).get(run_id)
    name = task_id if map_index in (None, "-1") else f"{task_id}_{map_index}"
    return run is None or str(run.get(name)) in ENDED


def _delete(client: CoreV1Api, pod: V1Pod) -> None:
    try:
        client.delete_namespaced_pod(pod.metadata.name, pod.metadata.namespace, _request_timeout=QUICK)
    except ApiException as error:
        if error.status != 404:
            logger.warning("Pod %s cannot be deleted: %s", pod.metadata.name, error.reason)
