"""The compose file is valid, complete and locked down, and names commands that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from docker.compose_file import FOLDER, TEXT, VARIABLE, compose, environment_of, example_variables

SERVICES = compose()["services"]
LONG_RUNNING = sorted(set(SERVICES) - {"prepare"})
SECRET = re.compile("PASSWORD|TOKEN|SECRET|_KEY")
TAG = re.compile(r":(v?\d+\.\d+(\.\d+)?|\$\{EVERGREEN_VERSION:\?[^}]*\})$")


def test_it_follows_the_compose_specification() -> None:
    schema = json.loads(files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json").read_text())
    filled = {name: value or "text" for name, value in example_variables().items()}
    jsonschema.validate(compose(filled), schema)


def test_the_example_file_has_every_variable_and_no_other() -> None:
    assert {found[1] for found in VARIABLE.finditer(TEXT)} == set(example_variables())


def test_no_variable_has_a_default_and_no_secret_a_value() -> None:
    assert len(re.findall(r"(?<!\$)\$\{", TEXT)) == len([found for found in VARIABLE.finditer(TEXT) if found[2]])
    filled = {name for name, value in example_variables().items() if value}
    assert not [name for name in filled if SECRET.search(name)]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_locked_down(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert TAG.search(service["image"]), service["image"]
    assert all(port.startswith(("127.0.0.1:", "${LAKE_ADDRESS:?")) for port in service.get("ports", []))
    assert example_variables()["LAKE_ADDRESS"] == "127.0.0.1"


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_every_long_running_service_says_whether_it_is_healthy(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]


def test_what_is_waited_for_is_there_and_can_become_so() -> None:
    for service in SERVICES.values():
        for other, wanted in service.get("depends_on", {}).items():
            healthy = wanted["condition"] == "service_healthy"
            assert "healthcheck" in SERVICES[other] if healthy else other == "prepare"


def test_named_volumes_configs_and_secrets_exist() -> None:
    content = compose()
    for service in SERVICES.values():
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= set(content["volumes"])
        assert {config["source"] for config in service.get("configs", [])} <= set(content["configs"])
        assert {secret["source"] for secret in service.get("secrets", [])} <= set(content["secrets"])
    # An inline config is written into the container, which compose refuses when that is read-only.
    assert all((FOLDER / config["file"]).is_file() for config in content["configs"].values())


def test_dags_are_not_paused() -> None:
    airflow = [service for service in SERVICES.values() if service["image"].startswith("evergreen-airflow:")]
    assert len(airflow) == 6
    for service in airflow:
        assert environment_of(service)["AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION"] == "False"


def test_the_object_stores_shell_gives_it_the_keys_that_serving_has(tmp_path: Path) -> None:
    services = compose(dict.fromkeys(example_variables(), "value"))["services"]
    store = services["object-store"]
    keys_file, (script,) = tmp_path / "s3.json", store["command"]
    script = script.replace("$$", "$").replace("/tmp/s3.json", str(keys_file)).replace("exec weed", "echo weed")  # noqa: S108
    done = subprocess.run([*store["entrypoint"], script], env=store["environment"], capture_output=True, check=True)
    assert b"-s3.config=" in done.stdout
    keys = json.loads(keys_file.read_text())["identities"][0]["credentials"][0]
    serving = services["serving"]["environment"]
    assert (keys["accessKey"], keys["secretKey"]) == (serving["AWS_ACCESS_KEY_ID"], serving["AWS_SECRET_ACCESS_KEY"])
    assert keys_file.stat().st_mode & 0o077 == 0


def test_prometheus_scrapes_serving() -> None:
    jobs = yaml.safe_load((FOLDER / "compose" / "prometheus.yaml").read_text())["scrape_configs"]
    assert [job["static_configs"][0]["targets"] for job in jobs] == [["serving:8000"]]
    assert SERVICES["serving"]["ports"][0].endswith(":8000")


def test_prometheus_accepts_its_settings() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    subprocess.run([promtool, "check", "config", FOLDER / "compose" / "prometheus.yaml"], check=True)


def _commands(service: dict[str, Any]) -> list[list[str]]:
    probe = service.get("healthcheck", {}).get("test", [])
    return [service.get("command", []), probe[1:] if probe[:1] == ["CMD"] else []]


def test_commands_of_our_images_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    from airflow.cli.cli_parser import get_parser

    parsed = []
    for name, service in SERVICES.items():
        for words in _commands(service):
            if words[:1] == ["airflow"]:
                parsed.append(get_parser().parse_args(words[1:]).subcommand)
            if words[:2] == ["python", "-m"]:
                assert find_spec(words[2]), f"{name} runs {words[2]}"
    assert sorted(parsed) == ["api-server", "check", "check", "check", "dag-processor", "scheduler", "triggerer"]
