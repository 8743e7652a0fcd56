"""Which service a rollout asks: settings decide, so that DAGs and commands are the same everywhere."""

from __future__ import annotations

from evergreen.deployment.target import ServingTarget
from evergreen.settings import Settings


def serving_target(settings: Settings) -> ServingTarget:
    """The serving Deployment where the settings name its namespace, else the one process at the serving URL."""
    if settings.serving_namespace is None:
        from evergreen.deployment.http_serving import HttpServing

        return HttpServing(settings.serving_url)
    from evergreen.deployment.kubernetes_serving import KubernetesServing

    return KubernetesServing(namespace=settings.serving_namespace, kubeconfig=settings.kubeconfig)
