"""Where the lake says what is to serve, in objects written whole or not at all:

`deployments/<pipeline>/current.json`, which serving follows, and `confirmed.json` beside it, the last of these that
was seen to serve.
"""

from __future__ import annotations

from pydantic import ValidationError

from evergreen.artifacts import Deployment, ObjectRef
from evergreen.errors import IntegrityError
from evergreen.lake.lake import Lake


def current_path(pipeline_name: str) -> str:
    """Path of the pipeline's current deployment below the lake's root."""
    return f"deployments/{pipeline_name}/current.json"


def confirmed_path(pipeline_name: str) -> str:
    """Path of the pipeline's last confirmed deployment below the lake's root."""
    return f"deployments/{pipeline_name}/confirmed.json"


def note_confirmed(lake: Lake, deployment: Deployment) -> None:
    """Remembers that production was seen to be as `deployment` has it."""
    lake.objects.put(confirmed_path(deployment.pipeline), deployment.to_json().encode())


def was_confirmed(lake: Lake, deployment: Deployment) -> bool:
    """Whether `deployment` is the one that `note_confirmed` was last called with."""
    path = confirmed_path(deployment.pipeline)
    return lake.objects.exists(path) and lake.objects.get(path) == deployment.to_json().encode()


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
