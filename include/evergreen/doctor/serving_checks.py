"""Serving: whether it answers, takes our token, and serves what the ledger says."""

from __future__ import annotations

from collections.abc import Iterator

import httpx

from evergreen.artifacts import Deployment
from evergreen.deployment.http_serving import HttpServing
from evergreen.deployment.serving_cluster import ServingCluster
from evergreen.doctor.check import Check, failed, not_applicable, ok, refused, warning
from evergreen.errors import EvergreenError
from evergreen.ledger.ledger import Ledger
from evergreen.pipeline_file import read_pipelines
from evergreen.settings import Settings

TIMEOUT_SECONDS = 5.0
START = "Start it (`evergreen up`, or docker/kubernetes), or correct EVERGREEN_SERVING_URL."
DEPLOY = "Run the pipeline's deploy_model, or see what /readyz of the service says."


def examine_serving(settings: Settings) -> Iterator[Check]:
    """The one process at a URL, or every replica of a Deployment."""
    deployments = _deployments(settings)
    if settings.serving_namespace is None:
        yield from _examine_url(settings, deployments)
    else:
        yield from _examine_replicas(settings, settings.serving_namespace, deployments)


def _examine_url(settings: Settings, deployments: dict[str, Deployment | None] | EvergreenError) -> Iterator[Check]:
    with httpx.Client(base_url=settings.serving_url, timeout=TIMEOUT_SECONDS) as service:
        try:
            service.get("/livez").raise_for_status()
        except httpx.HTTPError as error:
            yield failed("answers", f"no answer at {settings.serving_url}: {error}", START)
            return
        yield ok("answers", settings.serving_url)
        names = [pipeline.pipeline for pipeline in read_pipelines(settings.pipelines)[0]]
        if names:
            yield _token(service, names[0], settings.serving_token)
    yield from _versions(deployments, [("the service", HttpServing(settings.serving_url))])


def _token(service: httpx.Client, pipeline: str, token: str | None) -> Check:
    """Whether a request gets past the door; its empty body is refused behind it and leaves no trace."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        answer = service.post(f"/v1/{pipeline}/predict", content=b"", headers=headers)
    except httpx.HTTPError as error:
        return failed("token", f"no answer to a prediction: {error}", START)
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        found = "refused" if token else "the service asks for one, and none is set here"
        return failed("token", found, "Set EVERGREEN_SERVING_TOKEN to what the service was started with.")
    return ok("token", "accepted" if token else "none is asked for")


def _examine_replicas(
    settings: Settings, namespace: str, deployments: dict[str, Deployment | None] | EvergreenError
) -> Iterator[Check]:
    try:
        cluster = ServingCluster.connect(namespace, settings.kubeconfig)
        replicas = cluster.replicas()
        nobody = "" if replicas else cluster.why_empty()
    except EvergreenError as error:
        yield refused("replicas", error)
        return
    if nobody:
        yield failed("replicas", nobody, f"See `kubectl -n {namespace} get events`.")
        return
    troubled = [replica for replica in replicas if replica.trouble]
    if troubled:
        worst = troubled[0]
        yield failed(
            "replicas", f"{len(troubled)} of {len(replicas)} in trouble; {worst.name}: {worst.trouble}", worst.remedy
        )
    else:
        yield ok("replicas", f"{len(replicas)} in {namespace}")
    started = [replica for replica in replicas if replica.started]
    asked = [(r.name, HttpServing(f"http://{r.name}", cluster.asker(r))) for r in started]
    yield from _versions(deployments, asked)


def _versions(
    deployments: dict[str, Deployment | None] | EvergreenError, services: list[tuple[str, HttpServing]]
) -> Iterator[Check]:
    if isinstance(deployments, EvergreenError):
        yield not_applicable("versions", "needs a ledger that answers")
        return
    for pipeline, deployment in deployments.items():
        name = f"version of {pipeline}"
        if deployment is None:
            yield not_applicable(name, "nothing deployed yet")
            continue
        yield _version(name, deployment, services)


def _version(name: str, deployment: Deployment, services: list[tuple[str, HttpServing]]) -> Check:
    for who, service in services:
        try:
            missing = service.missing(deployment)
        except EvergreenError as error:
            return refused(name, error)
        if missing is not None:
            return failed(name, f"the ledger says {deployment.to_version}; {who}: {missing}", DEPLOY)
    if not services:
        return warning(name, f"the ledger says {deployment.to_version}, and nobody was asked", START)
    return ok(name, f"{deployment.to_version}, as the ledger says")


def _deployments(settings: Settings) -> dict[str, Deployment | None] | EvergreenError:
    """What the ledger says serves, by pipeline; its error when it cannot say."""
    try:
        ledger = Ledger(settings.database_url)
        return {p.pipeline: ledger.current(p.pipeline) for p in read_pipelines(settings.pipelines)[0]}
    except EvergreenError as error:
        return error
