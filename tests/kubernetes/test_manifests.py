"""The manifests are valid on every Kubernetes in use, ask for least rights, and fit one another."""

from __future__ import annotations

from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes.utils.quantity import parse_quantity

from evergreen.orchestration.profiles import profile_names, read_profile
from evergreen.pipeline_file import pipeline_files
from evergreen.serving.__main__ import STOP_SECONDS
from evergreen.settings import PROJECT, VERSION
from manifests import KUBERNETES, Manifest, one, render

INSTALLATIONS = ["base", "overlays/production"]
EVERY = [*INSTALLATIONS, "overlays/test/serving", "overlays/test/training"]
PAUSED = "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"
VERSIONS = ["1.25", "1.29", "1.33", kubernetes_validate.latest_version()]


@cache
def rendered(folder: str) -> list[Manifest]:
    return render(KUBERNETES / folder)


@cache
def serving_pod(folder: str) -> dict[str, Any]:
    template: dict[str, Any] = one(rendered(folder), "Deployment", "evergreen-serving")["spec"]["template"]
    return template


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", INSTALLATIONS)
def test_every_manifest_is_valid(folder: str, version: str) -> None:
    for manifest in rendered(folder):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_field_would_be_seen() -> None:
    service = one(rendered("base"), "Service", "evergreen-serving")
    misspelt = service | {"spec": service["spec"] | {"selektor": {}}}
    with pytest.raises(kubernetes_validate.ValidationError, match="selektor"):
        kubernetes_validate.validate(misspelt, VERSIONS[-1], strict=True)


def test_the_test_overlays_differ_from_the_base_in_sizes_and_api_versions_only() -> None:
    both = [*rendered("overlays/test/serving"), *rendered("overlays/test/training")]
    kinds = {(m["kind"], m["metadata"]["name"]) for m in rendered("base") if "namespace" in m["metadata"]}
    assert {(m["kind"], m["metadata"]["name"]) for m in both if "namespace" in m["metadata"]} == kinds
    old = {m["kind"]: m["apiVersion"] for m in both if "beta" in m["apiVersion"]}
    assert old == {"HorizontalPodAutoscaler": "autoscaling/v2beta2", "PodDisruptionBudget": "policy/v1beta1"}


@pytest.mark.parametrize("folder", EVERY)
def test_secrets_are_only_referred_to(folder: str) -> None:
    assert not [m for m in rendered(folder) if m["kind"] == "Secret"]
    if "training" not in folder:
        values = {e["name"]: e.get("value") for e in serving_pod(folder)["spec"]["containers"][0]["env"]}
        assert values["EVERGREEN_SERVING_TOKEN"] is None


@pytest.mark.parametrize("folder", [f for f in EVERY if "training" not in f])
def test_serving_pods_meet_the_restricted_standard(folder: str) -> None:
    spec = serving_pod(folder)["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {key for volume in spec["volumes"] for key in volume if key != "name"} == {"configMap", "emptyDir"}


def test_both_namespaces_enforce_the_restricted_standard() -> None:
    for name in ("evergreen-serving", "evergreen-training"):
        labels = one(rendered("base"), "Namespace", name)["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_neither_serving_nor_trainer_has_rights_or_a_token() -> None:
    base = rendered("base")
    assert serving_pod("base")["spec"]["automountServiceAccountToken"] is False
    for name in ("evergreen-serving", "evergreen-trainer"):
        assert one(base, "ServiceAccount", name)["automountServiceAccountToken"] is False
    bound = {s["name"] for m in base if m["kind"].endswith("RoleBinding") for s in m["subjects"]}
    assert bound == {"airflow-worker", "airflow-triggerer", "airflow-dag-processor"}


@pytest.mark.parametrize("folder", INSTALLATIONS)
def test_rights_name_verbs_and_resources_and_end_at_a_namespace_but_for_seeing_nodes(folder: str) -> None:
    (cluster_wide,) = [m["rules"] for m in rendered(folder) if m["kind"] == "ClusterRole"]
    assert cluster_wide == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]
    rules = [rule for m in rendered(folder) if m["kind"] == "Role" for rule in m["rules"]]
    assert len(rules) == 6
    for rule in rules:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        assert not {"secrets", "serviceaccounts", "pods/exec"} & set(rule["resources"])


def test_everything_that_selects_serving_pods_finds_them() -> None:
    base, template = rendered("base"), serving_pod("base")
    service = one(base, "Service", "evergreen-serving")["spec"]
    selectors = [
        service["selector"],
        one(base, "Deployment", "evergreen-serving")["spec"]["selector"]["matchLabels"],
        one(base, "PodDisruptionBudget", "evergreen-serving")["spec"]["selector"]["matchLabels"],
        one(base, "NetworkPolicy", "evergreen-serving")["spec"]["podSelector"]["matchLabels"],
        *[c["labelSelector"]["matchLabels"] for c in template["spec"]["topologySpreadConstraints"]],
    ]
    for selector in selectors:
        assert selector.items() <= template["metadata"]["labels"].items()
    (port,) = template["spec"]["containers"][0]["ports"]
    assert service["ports"][0]["targetPort"] == port["name"]
    assert template["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])


def test_a_replica_is_taken_out_while_it_still_answers() -> None:
    deployment = one(rendered("base"), "Deployment", "evergreen-serving")["spec"]
    spec = deployment["template"]["spec"]
    wait = int(spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert spec["terminationGracePeriodSeconds"] >= wait + STOP_SECONDS + 20
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert one(rendered("base"), "HorizontalPodAutoscaler", "evergreen-serving")["spec"]["minReplicas"] >= 2


def test_a_published_version_that_is_refused_takes_no_replica_out() -> None:
    (container,) = serving_pod("base")["spec"]["containers"]
    assert container["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert {container[p]["httpGet"]["path"] for p in ("readinessProbe", "livenessProbe")} == {"/livez"}


def test_the_config_map_has_every_spec() -> None:
    (specs,) = [m for m in rendered("base") if m["metadata"]["name"].startswith("evergreen-pipelines-")]
    assert specs["data"] == {path.name: path.read_text() for path in pipeline_files(PROJECT / "include" / "pipelines")}


@pytest.mark.parametrize("folder", INSTALLATIONS)
def test_images_are_tagged_by_version(folder: str) -> None:
    assert serving_pod(folder)["spec"]["containers"][0]["image"].endswith(f"evergreen-serving:{VERSION}")


def test_airflows_values_name_what_the_manifests_make() -> None:
    values = yaml.safe_load((KUBERNETES / "airflow-values.yaml").read_text())
    given = {variable["name"]: variable["value"] for variable in values["env"]}
    base = rendered("base")
    assert one(base, "Namespace", given["EVERGREEN_SERVING_NAMESPACE"])
    assert one(base, "Namespace", given["EVERGREEN_NAMESPACE"])
    account = one(base, "ServiceAccount", given["EVERGREEN_SERVICE_ACCOUNT"])
    assert account["metadata"]["namespace"] == given["EVERGREEN_NAMESPACE"]
    assert given["EVERGREEN_LAKE_URL"] == lake_url("overlays/production")
    assert given["EVERGREEN_TRAINER_IMAGE"].endswith(f":{VERSION}")
    assert values["images"]["airflow"]["tag"] == VERSION
    names = [*given, *(secret["envName"] for secret in values["secret"])]
    explained = (PROJECT / "docs" / "settings.md").read_text()
    assert [name for name in names if name.startswith("EVERGREEN_") and f"`{name}`" not in explained] == []


def test_dags_are_not_paused_by_airflows_chart() -> None:
    values = yaml.safe_load((KUBERNETES / "airflow-values.yaml").read_text())
    assert values["images"]["airflow"]["repository"].endswith("/evergreen-airflow")
    recipe = (PROJECT / "docker" / "airflow" / "Dockerfile").read_text()
    assert f"{PAUSED}=False" in recipe, "the chart's containers have their image's variables"
    assert PAUSED not in {variable["name"] for variable in values["env"]}
    assert "dags_are_paused_at_creation" not in values["config"]["core"], "an image's variable wins over airflow.cfg"


def lake_url(folder: str) -> str:
    (found,) = [m["data"] for m in rendered(folder) if m["metadata"]["name"].startswith("evergreen-serving-")]
    url: str = found["EVERGREEN_LAKE_URL"]
    return url


@pytest.mark.parametrize("profile", profile_names())
def test_production_has_room_for_a_pod_of_every_profile(profile: str) -> None:
    hard = one(rendered("overlays/production"), "ResourceQuota", "evergreen-training")["spec"]["hard"]
    asked = read_profile(profile)
    wanted = {f"requests.{name}": value for name, value in (asked.limits | asked.requests).items()}
    for name, value in (wanted | {"limits.memory": asked.limits["memory"]}).items():
        assert parse_quantity(value) <= parse_quantity(hard[name]), name


def test_a_namespace_of_ones_own_moves_everything(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = KUBERNETES / "overlays" / "test" / "serving"
    own = tmp_path_factory.mktemp("own")
    resource = "/".join([".."] * (len(own.parts) - 1)) + str(folder)
    (own / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [resource], "namespace": "team-a"}))
    moved = render(own)
    assert {m["metadata"].get("namespace", m["metadata"]["name"]) for m in moved} == {"team-a"}
