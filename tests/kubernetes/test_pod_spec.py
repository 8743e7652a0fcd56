"""The pod of every profile is one that today's Kubernetes takes, and runs on a real cluster."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubernetes_validate
import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from kubernetes.client import ApiClient, CoreV1Api

from evergreen.errors import ConfigurationError
from evergreen.orchestration.pods import pod_step, use_chosen_profile
from evergreen.orchestration.profiles import profile_names, read_profile
from evergreen.pipeline import Pipeline
from kube_pods import IMAGE, Pods, api_of
from namespaces import namespace_for

VERSIONS = ["1.27", "1.30", "1.33", kubernetes_validate.latest_version().rpartition(".")[0]]


def rendered(fraud: Pipeline, profile: str) -> dict[str, Any]:
    """The pod that the operator would send, as the API would get it."""
    step = pod_step(fraud, "train", inputs=["receipt"])
    use_chosen_profile({"params": {"profile": profile}, "task": step})
    pod = ApiClient().sanitize_for_serialization(step.build_pod_request_obj(dry_run=True))
    return {key: value for key, value in pod.items() if key != "status"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("profile", profile_names())
def test_pod_of_every_profile_is_valid_in_current_kubernetes(fraud: Pipeline, profile: str, version: str) -> None:
    kubernetes_validate.validate(rendered(fraud, profile), version, strict=True)


def test_schemas_do_refuse_what_is_wrong(fraud: Pipeline) -> None:
    pod = rendered(fraud, "gpu-small")
    pod["spec"]["tolerations"][0]["operater"] = "Exists"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("profile", profile_names())
def test_pod_meets_the_restricted_security_standard(fraud: Pipeline, profile: str) -> None:
    spec = rendered(fraud, profile)["spec"]
    (container,) = spec["containers"]
    pod, own = spec["securityContext"], container["securityContext"]
    assert (pod["runAsNonRoot"], pod["runAsUser"], pod["seccompProfile"]) == (True, 10001, {"type": "RuntimeDefault"})
    assert (own["allowPrivilegeEscalation"], own["readOnlyRootFilesystem"]) == (False, True)
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert spec["automountServiceAccountToken"] is False
    assert all(source["secretRef"]["optional"] for source in container["envFrom"])


@pytest.mark.parametrize("profile", profile_names())
def test_everything_a_program_writes_goes_to_a_mounted_volume(fraud: Pipeline, profile: str) -> None:
    spec = rendered(fraud, profile)["spec"]
    (container,) = spec["containers"]
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume["emptyDir"] for volume in spec["volumes"]}
    values = {variable["name"]: variable["value"] for variable in container["env"]}
    assert {"TMPDIR", "HOME", "XDG_CACHE_HOME"} <= values.keys()
    assert all(values[name].startswith("/scratch") for name in ("TMPDIR", "HOME", "XDG_CACHE_HOME"))
    assert volumes[mounted["/scratch"]]["sizeLimit"] == read_profile(profile).scratch
    if read_profile(profile).shm:
        assert volumes[mounted["/dev/shm"]]["medium"] == "Memory"  # noqa: S108


@pytest.mark.parametrize("profile", profile_names())
def test_torch_is_told_to_compile_nothing_where_no_compiler_is(fraud: Pipeline, profile: str) -> None:
    (container,) = rendered(fraud, profile)["spec"]["containers"]
    assert {"name": "TORCH_DISABLE_NATIVE_JIT", "value": "1"} in container["env"]


@pytest.mark.parametrize("profile", profile_names())
def test_a_step_is_told_what_device_its_profile_pays_for(fraud: Pipeline, profile: str) -> None:
    expected = {"cpu": "", "gpu": "cuda", "tpu": "xla"}[profile.partition("-")[0]]
    (container,) = rendered(fraud, profile)["spec"]["containers"]
    assert {"name": "EVERGREEN_EXPECTED_DEVICE", "value": expected} in container["env"]


def test_priority_and_price_of_a_profile_reach_its_pod(
    fraud: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text(GOOD + TIMES + "  priority_class: evergreen-training\n  price_per_hour: 2.5\n  watts: 700\n")
    monkeypatch.setenv("EVERGREEN_PROFILES", str(path))
    training = fraud.training.model_copy(update={"profile": "box"})
    spec = rendered(fraud.model_copy(update={"training": training}), "box")["spec"]
    told = {variable["name"]: variable["value"] for variable in spec["containers"][0]["env"]}
    assert spec["priorityClassName"] == "evergreen-training"
    assert (told["EVERGREEN_PRICE_PER_HOUR"], told["EVERGREEN_WATTS"]) == ("2.5", "700.0")


def test_accelerators_are_asked_for_as_their_clusters_name_them(fraud: Pipeline) -> None:
    large, tpu = rendered(fraud, "gpu-large")["spec"], rendered(fraud, "tpu-v5e")["spec"]
    assert int(large["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]) > 1
    assert tpu["containers"][0]["resources"]["limits"]["google.com/tpu"] == "8"
    assert tpu["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "2x4",
    }
    seconds = [toleration.get("tolerationSeconds") for toleration in large["tolerations"]]
    assert seconds == [None, 60, 60]


def test_chosen_profile_replaces_all_of_the_specs(fraud: Pipeline) -> None:
    chosen, own = rendered(fraud, "tpu-v5e"), rendered(fraud, "cpu-small")
    assert chosen["metadata"]["labels"]["evergreen/tier"] == "accelerated"
    assert own["metadata"]["labels"]["evergreen/tier"] == "standard"
    assert chosen["metadata"]["labels"]["evergreen/pipeline"] == "fraud"
    assert "tolerations" not in own["spec"] or own["spec"]["tolerations"] == []


@pytest.mark.parametrize("chosen", [None, "gpu-small"])
@pytest.mark.parametrize(("step", "image"), [("train", "example.com/own:1"), ("evaluate", "evergreen-trainer:0.1.0")])
def test_container_is_told_the_image_it_runs(fraud: Pipeline, step: str, image: str, chosen: str | None) -> None:
    own = fraud.training.model_copy(update={"image": "example.com/own:1"})
    task = pod_step(fraud.model_copy(update={"training": own}), step, inputs=[])
    task.render_template_fields(_run(task))
    use_chosen_profile({"params": {"profile": chosen}, "task": task})
    (container,) = task.build_pod_request_obj(dry_run=True).spec.containers
    told = {variable.name: variable.value for variable in container.env}
    assert told["EVERGREEN_TRAINER_IMAGE"] == container.image == image
    assert told["EVERGREEN_LAKE_URL"]


def _run(task: KubernetesPodOperator) -> dict[str, Any]:
    """The context of a task whose run began with a spec that was edited since."""
    begun = {("build_training_set", "spec"): "specs/fraud/begun.json"}
    instance = SimpleNamespace(dag_id="d", task_id=task.task_id, try_number=1)
    instance.xcom_pull = lambda task_ids, key: begun[task_ids, key]
    return {"task": task, "run_id": "r", "ti": instance}


@pytest.mark.parametrize("step", ["train", "evaluate"])
def test_pod_keeps_the_spec_that_its_run_began_with(fraud: Pipeline, step: str) -> None:
    task = pod_step(fraud.model_copy(update={"purpose": "Edited while the run trains."}), step, inputs=[])
    task.render_template_fields(_run(task))
    assert task.arguments[:2] == ["--pipeline", "specs/fraud/begun.json"]


GOOD = "box:\n  requests: {cpu: 1, memory: 1Gi}\n  limits: {memory: 2Gi}\n"
TIMES = "  schedule_timeout_seconds: 60\n  deadline_seconds: 60\n"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (GOOD + TIMES + "  colour: red\n", "line 6: found box.colour: Extra inputs"),
        (GOOD.replace("2Gi", "two") + TIMES, "line 3: found box.limits.memory: 'two' is no quantity"),
        (GOOD.replace("2Gi", "1Mi") + TIMES, "line 1: found box: requests.memory 1Gi is more than its limit 1Mi"),
        (GOOD + TIMES + "  shm: 2Gi\n", "shm 2Gi leaves nothing of limits.memory 2Gi"),
        (GOOD + TIMES + "  tolerations: [{operator: Odd}]\n", "line 6: found box.tolerations.0.operator"),
        (GOOD + "  deadline_seconds: [\n", "line 5: found"),
        ("- box\n", "found no profiles"),
    ],
    ids=["key", "quantity", "limits", "shm", "toleration", "yaml", "list"],
)  # fmt: skip
def test_profile_that_cannot_be_is_refused_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, where: str
) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text(text)
    monkeypatch.setenv("EVERGREEN_PROFILES", str(path))
    with pytest.raises(ConfigurationError) as refused:
        read_profile("box")
    assert where in str(refused.value)


def test_misspelt_affinity_is_refused_where_the_client_would_drop_it(
    fraud: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "profiles.yaml"
    for key, fits in (("nodeAffinity", True), ("nodeAfinity", False)):
        term = "{matchExpressions: [{key: pool, operator: In, values: [gpu]}]}"
        required = f"{{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{term}]}}}}"
        path.write_text(GOOD.replace("box", f"box-{key.lower()}") + TIMES + f"  affinity: {{{key}: {required}}}\n")
        copy = tmp_path / f"{key}.yaml"
        copy.write_text(path.read_text())
        monkeypatch.setenv("EVERGREEN_PROFILES", str(copy))
        small = {"training": fraud.training.model_copy(update={"profile": f"box-{key.lower()}"})}
        pipeline = fraud.model_copy(update=small)
        if fits:
            found = pod_step(pipeline, "train", inputs=[]).affinity
            assert ApiClient().sanitize_for_serialization(found)["nodeAffinity"]
        else:
            with pytest.raises(ConfigurationError, match="nodeAfinity"):
                pod_step(pipeline, "train", inputs=[])


WRITES = """
import os, pathlib, tempfile
assert os.getuid() == 10001, os.getuid()
with tempfile.NamedTemporaryFile("w") as file:
    file.write("x"); file.flush()
    print("scratch", pathlib.Path(file.name).parent)
pathlib.Path.home().joinpath("cache").write_text("x")
pathlib.Path("/dev/shm/x").write_bytes(bytes(1 << 20))
try:
    pathlib.Path("/etc/x").write_text("x")
except OSError as error:
    print("root", error.strerror)
print("token", pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists())
"""


@pytest.fixture
def real_pods(kubeconfig: Path) -> Any:
    """The pods of a namespace of the test's own on a real cluster."""
    api: CoreV1Api = api_of(kubeconfig)
    with namespace_for(api, "evergreen-spec") as name:
        yield Pods(api, name)


@pytest.mark.cluster
def test_pod_of_the_profile_runs_on_a_real_cluster_and_writes_where_it_may(fraud: Pipeline, real_pods: Pods) -> None:
    # gpu-large's volumes and security, without the devices and the size that this node does not have.
    pod = rendered(fraud, "gpu-large")
    (container,) = pod["spec"]["containers"]
    container |= {"image": IMAGE, "command": ["python", "-c", WRITES], "args": []}
    container["resources"] = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
    pod["metadata"] |= {"namespace": real_pods.namespace, "name": "writes"}
    pod["spec"].pop("serviceAccountName", None)
    real_pods.api.create_namespaced_pod(real_pods.namespace, pod)
    real_pods.phase("writes", "Succeeded", "Failed")
    assert real_pods.log("writes") == ["scratch /scratch", "root Read-only file system", "token False"]


@pytest.mark.cluster
@pytest.mark.parametrize("profile", profile_names())
def test_real_cluster_takes_the_pod_of_every_profile(fraud: Pipeline, real_pods: Pods, profile: str) -> None:
    pod = rendered(fraud, profile)
    pod["metadata"] |= {"namespace": real_pods.namespace, "name": "taken"}
    pod["spec"] |= {"nodeSelector": {"pool": "none"}}  # it is looked at, not run
    pod["spec"].pop("serviceAccountName", None)
    taken = real_pods.api.create_namespaced_pod(real_pods.namespace, pod)
    assert taken.spec.security_context.seccomp_profile.type == "RuntimeDefault"
    assert {volume.name for volume in taken.spec.volumes} >= {"scratch"}
