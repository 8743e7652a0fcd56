"""Where the lake says what is to serve: `deployments/<pipeline>/current.json`, written whole or not at all."""

from __future__ import annotations

from pydantic import ValidationError

from evergreen.artifacts import Deployment, ObjectRef
from evergreen.errors import IntegrityError
from evergreen.lake.lake import Lake


def current_path(pipeline_name: str) -> str:
    """Path of the pipeline's current deployment below the lake's root."""
    return f"deployments/{pipeline_name}/current.json"


def publish_deployment(lake: Lake, deployment: Deployment) -> ObjectRef:
    """The object that servers now follow."""
    return lake.objects.put(current_path(deployment.pipeline), deployment.to_json().encode())


def published_deployment(lake: Lake, pipeline_name: str) -> Deployment | None:
    """What is published to serve, None before the first deployment; IntegrityError when it is no deployment."""
    path = current_path(pipeline_name)
    if not lake.objects.exists(path):
        return None
    try:
        deployment = Deployment.from_json(lake.objects.get(path))
    except ValidationError as error:
        raise _not_a_deployment(path, f"something else ({error.error_count()} errors)") from error
    if deployment.pipeline != pipeline_name:
        raise _not_a_deployment(path, f"one of {deployment.pipeline}")
    return deployment


def _not_a_deployment(path: str, found: str) -> IntegrityError:
    return IntegrityError(
        f"Object {path}",
        found=found,
        wanted="the pipeline's own deployment as JSON",
        remedy="Run the pipeline's deploy_model, which publishes it again.",
    )
