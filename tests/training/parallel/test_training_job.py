"""The manifest of a training over several pods, and what its pods read of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from evergreen.errors import ConfigurationError
from evergreen.settings import Rendezvous, Settings

MANIFEST = Path(__file__).parents[3] / "docker" / "kubernetes" / "training-job.yaml"


@pytest.fixture
def parts() -> dict[str, dict[str, Any]]:
    """Kind -> document."""
    return {part["kind"]: part for part in yaml.safe_load_all(MANIFEST.read_text())}


@pytest.mark.parametrize("version", ["1.25", "1.29", "1.33", kubernetes_validate.latest_version()])
def test_every_document_is_valid(parts: dict[str, dict[str, Any]], version: str) -> None:
    for part in parts.values():
        kubernetes_validate.validate(part, version, strict=True)


def test_pods_meet_at_the_pod_of_index_zero(parts: dict[str, dict[str, Any]]) -> None:
    job, service = parts["Job"], parts["Service"]
    pod = job["spec"]["template"]["spec"]
    variables = {entry["name"]: entry.get("value", "10.0.0.7") for entry in pod["containers"][0]["env"]}
    settings = Settings.from_environment(variables | {"JOB_COMPLETION_INDEX": "1"})
    port = service["spec"]["ports"][0]["port"]
    name, domain = job["metadata"]["name"], service["metadata"]["name"]
    assert settings.rendezvous == Rendezvous(
        nodes=job["spec"]["completions"], index=1, endpoint=f"{name}-0.{domain}:{port}", address="10.0.0.7"
    )
    assert pod["subdomain"] == domain
    assert service["spec"]["selector"] == {"job-name": name}
    assert settings.expected_device == "cuda"
    assert variables["TORCH_DISABLE_NATIVE_JIT"] == "1"


def test_pods_are_those_of_the_profile_with_the_trainers_account(parts: dict[str, dict[str, Any]]) -> None:
    pod = parts["Job"]["spec"]["template"]["spec"]
    profile = yaml.safe_load((MANIFEST.parents[2] / "include" / "profiles.yaml").read_text())["gpu-large"]
    assert pod["tolerations"] == profile["tolerations"]
    assert pod["serviceAccountName"] == "evergreen-trainer"


@pytest.mark.parametrize("wrong", [{}, {"EVERGREEN_NODES": "2"}, {"EVERGREEN_NODES": "2", "EVERGREEN_NODE_INDEX": "2"}])
def test_a_place_among_the_pods_that_is_none_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="Pods of a training"):
        Settings.from_environment({"EVERGREEN_RENDEZVOUS": "first:29400"} | wrong)


def test_a_pod_alone_meets_nobody() -> None:
    assert Settings.from_environment({}).rendezvous is None
