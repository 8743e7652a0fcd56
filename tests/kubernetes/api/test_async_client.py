"""The calls the deferrable operator's trigger makes, through the client it makes them with."""

from __future__ import annotations

import asyncio

from kubernetes_asyncio import client, config, watch

from kube_pods import NOT_HEARD_YET, ClusterUnderTest, Pods

REASONS = {"Scheduled", "Pulled", "Created", "Started"}


def test_trigger_s_calls_work_with_the_asynchronous_client(pods: Pods, cluster: ClusterUnderTest) -> None:
    pods.python("deferred", "import time\nfor i in range(5): print(i); time.sleep(0.1)")
    pods.events("deferred", until="Started")
    phases, lines, reasons = asyncio.run(_follow_to_the_end(cluster))
    assert phases[-1] == "Succeeded"
    assert [line.split(" ", 1)[1] for line in lines] == [str(i) for i in range(5)]
    assert reasons == REASONS


async def _follow_to_the_end(cluster: ClusterUnderTest) -> tuple[list[str], list[str], set[str]]:
    settings = client.Configuration()
    await config.load_kube_config(str(cluster.kubeconfig), client_configuration=settings)
    phases: list[str] = []
    async with client.ApiClient(settings) as connection:
        api = client.CoreV1Api(connection)
        while not phases or phases[-1] not in ("Succeeded", "Failed"):
            phases.append((await api.read_namespaced_pod("deferred", cluster.namespace)).status.phase)
            await asyncio.sleep(0.05)
        answer = await api.read_namespaced_pod_log(
            "deferred", cluster.namespace, timestamps=True, _preload_content=False
        )
        lines = (await answer.read()).decode().splitlines()
        selector = "involvedObject.name=deferred"
        reasons: set[str] = set()
        async with watch.Watch() as watched:
            async for event in watched.stream(
                api.list_namespaced_event, namespace=cluster.namespace, field_selector=selector, timeout_seconds=240
            ):
                if not NOT_HEARD_YET.search(event["object"].message or ""):
                    reasons.add(event["object"].reason)
                if reasons >= REASONS:
                    break
        await api.delete_namespaced_pod(
            "deferred", cluster.namespace, body=client.V1DeleteOptions(grace_period_seconds=0)
        )
    return phases, lines, reasons
