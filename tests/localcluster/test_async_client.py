"""The calls the deferrable operator's trigger makes, through the client it makes them with."""

from __future__ import annotations

import asyncio
from typing import Any

from kubernetes_asyncio import client, config, watch

from evergreen.localcluster.server_process import LocalCluster


def test_trigger_s_calls_work_with_the_asynchronous_client(pods: Any, cluster: LocalCluster) -> None:
    pods.python("deferred", "import time\nfor i in range(5): print(i); time.sleep(0.1)")
    phases, lines, reasons = asyncio.run(_follow_to_the_end(cluster))
    assert phases[-1] == "Succeeded"
    assert [line.split(" ", 1)[1] for line in lines] == [str(i) for i in range(5)]
    assert reasons[:2] == ["Scheduled", "Pulled"]


async def _follow_to_the_end(cluster: LocalCluster) -> tuple[list[str], list[str], list[str]]:
    settings = client.Configuration()
    await config.load_kube_config(str(cluster.kubeconfig), client_configuration=settings)
    phases: list[str] = []
    async with client.ApiClient(settings) as connection:
        api = client.CoreV1Api(connection)
        while not phases or phases[-1] not in ("Succeeded", "Failed"):
            phases.append((await api.read_namespaced_pod("deferred", "default")).status.phase)
            await asyncio.sleep(0.05)
        answer = await api.read_namespaced_pod_log("deferred", "default", timestamps=True, _preload_content=False)
        lines = (await answer.read()).decode().splitlines()
        selector = "involvedObject.name=deferred"
        stream = watch.Watch().stream(
            api.list_namespaced_event, namespace="default", field_selector=selector, timeout_seconds=1
        )
        reasons = [event["object"].reason async for event in stream]
        await api.delete_namespaced_pod("deferred", "default", body=client.V1DeleteOptions(grace_period_seconds=0))
    return phases, lines, reasons
