"""The executors' settings that ship: real options of Airflow, a valid pod, secrets by reference alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from airflow.configuration import conf

from evergreen.settings import VERSION

PROJECT = Path(__file__).resolve().parents[2]
EXECUTORS = PROJECT / "docker" / "airflow" / "executors"
VALUES = PROJECT / "docker" / "kubernetes" / "airflow-values.yaml"


def _variables(name: str) -> dict[str, str]:
    lines = [line for line in (EXECUTORS / name).read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def _template() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((EXECUTORS / "pod-template.yaml").read_text())
    return loaded


def _container() -> dict[str, Any]:
    (container,) = _template()["spec"]["containers"]
    return dict(container)


@pytest.mark.parametrize("name", ["celery.env", "kubernetes.env"])
def test_every_variable_is_an_option_that_airflow_or_its_provider_knows(name: str) -> None:
    free = {"celery_broker_transport_options"}  # handed to the broker's own library as they are
    known = {section.lower(): said["options"] for section, said in conf.configuration_description.items()}
    unknown = []
    for variable in _variables(name):
        section, option = variable.removeprefix("AIRFLOW__").lower().split("__")
        if section not in free and option.removesuffix("_cmd") not in {key.lower() for key in known.get(section, {})}:
            unknown.append(variable)
    assert unknown == []


@pytest.mark.parametrize("name", ["celery.env", "kubernetes.env"])
def test_dags_are_not_paused(name: str) -> None:
    assert _variables(name)["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] == "False"


@pytest.mark.parametrize("name", ["celery.env", "kubernetes.env"])
def test_no_secret_is_in_a_file(name: str) -> None:
    secret = {n: v for n, v in _variables(name).items() if n.endswith(("_URL_CMD", "_SECRET", "_PASSWORD", "_KEY"))}
    assert all(value.startswith("cat /run/secrets/") for value in secret.values())


@pytest.mark.parametrize("version", ["1.25", "1.29", "1.33", kubernetes_validate.latest_version()])
def test_pod_template_is_a_valid_pod(version: str) -> None:
    kubernetes_validate.validate(_template(), version, strict=True)


def test_misspelt_field_of_a_pod_would_be_seen() -> None:
    misspelt = _template()
    misspelt["spec"]["restartPolice"] = "Never"
    with pytest.raises(kubernetes_validate.ValidationError, match="restartPolice"):
        kubernetes_validate.validate(misspelt, kubernetes_validate.latest_version(), strict=True)


def test_pod_template_meets_the_restricted_standard() -> None:
    pod, container = _template()["spec"]["securityContext"], _container()["securityContext"]
    assert pod["runAsNonRoot"]
    assert pod["runAsUser"] == 50000, "the user of the Airflow image"
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert container == wanted


def test_pod_template_says_the_same_as_the_charts_values() -> None:
    values = yaml.safe_load(VALUES.read_text())
    environment = {e["name"]: e for e in _container()["env"]}
    assert {e["name"]: e["value"] for e in values["env"]}.items() <= {
        name: entry.get("value") for name, entry in environment.items()
    }.items()
    for secret in values["secret"]:
        reference = environment[secret["envName"]]["valueFrom"]["secretKeyRef"]
        assert reference == {"name": secret["secretName"], "key": secret["secretKey"]}


def test_executor_takes_the_template_and_sets_image_and_command() -> None:
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

    pod = PodGenerator.deserialize_model_file(str(EXECUTORS / "pod-template.yaml"))
    assert pod.spec.containers[0].name == "base"
    settings = _variables("kubernetes.env")
    prefix = "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER"
    assert pod.spec.containers[0].image == f"{settings[f'{prefix}_REPOSITORY']}:{settings[f'{prefix}_TAG']}"
    assert settings[f"{prefix}_TAG"] == VERSION
