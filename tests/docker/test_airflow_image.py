"""The Airflow image loads every DAG and plugin as its own user, locked down."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from docker.conftest import ImagePods

pytestmark = pytest.mark.cluster

CHART_VALUES = Path(__file__).resolve().parents[2] / "docker" / "kubernetes" / "airflow-values.yaml"
SIGN_IN = """
import json, time, urllib.error, urllib.request
def ask(path, body=None):
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request("http://127.0.0.1:8080" + path, data, {"content-type": "application/json"})
    try:
        return urllib.request.urlopen(request, timeout=120).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None
while ask("/api/v2/version") != 200:
    time.sleep(1)
print([ask("/auth/token", {"username": "ada", "password": word}) for word in ("right", "wrong")])
"""

LOOK = """
import warnings
warnings.simplefilter("ignore")
from airflow.dag_processing.dagbag import DagBag
from airflow import plugins_manager
bag = DagBag("/opt/evergreen/dags")
print("RESULT", sorted(bag.dags), bag.import_errors)
"""
USER = "import os; print(os.getuid(), os.getgid())"
ABSENT = """
from importlib.util import find_spec
print([name for name in ("torch", "onnxscript", "pip") if find_spec(name)])
"""


def test_airflow_is_the_pinned_release_as_its_customary_user(pods: ImagePods, airflow_image: str) -> None:
    assert "3.3.2" in pods.run(airflow_image, ["airflow", "version"]).splitlines()
    assert pods.run(airflow_image, ["python", "-c", USER]).split() == ["50000", "0"]


def test_every_dag_of_the_image_loads(pods: ImagePods, airflow_image: str) -> None:
    log = pods.run(airflow_image, ["python", "-c", LOOK], AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR")
    found = next(line for line in log.splitlines() if line.startswith("RESULT"))
    stages = ("deploy_model", "ingest_data", "monitor_drift", "train_model")
    assert found.endswith("{}"), found
    assert all(f"fraud.{stage}" in found for stage in stages)


def test_a_new_installation_has_no_import_errors(pods: ImagePods, airflow_image: str) -> None:
    command = "airflow db migrate >&2 && airflow dags reserialize >&2 && airflow dags list-import-errors --output json"
    log = pods.run(airflow_image, ["sh", "-c", command], AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR")
    assert {"No data found", "[]"} & set(log.splitlines()), log[-2000:]


def test_training_is_not_in_the_airflow_image(pods: ImagePods, airflow_image: str) -> None:
    assert pods.run(airflow_image, ["python", "-c", ABSENT]).strip() == "[]"


def test_people_sign_in_with_their_own_account_as_the_charts_values_say(pods: ImagePods, airflow_image: str) -> None:
    manager = yaml.safe_load(CHART_VALUES.read_text())["config"]["core"]["auth_manager"]
    command = (
        "airflow db migrate >&2 && airflow users create --role Admin --username ada --firstname A --lastname B"
        " --email ada@example.com --password right >&2 && (airflow api-server --port 8080 >&2 &) && python -c "
        f"'{SIGN_IN}'"
    )
    log = pods.run(airflow_image, ["bash", "-c", command], AIRFLOW__CORE__AUTH_MANAGER=manager)
    assert "[201, 401]" in log.splitlines(), log[-2000:]


def test_the_charts_probes_and_log_groomer_find_their_scripts(pods: ImagePods, airflow_image: str) -> None:
    assert "3.3.2" in pods.run(airflow_image, ["sh", "-c", "exec /entrypoint airflow version"]).splitlines()
    command = (
        "mkdir -p $AIRFLOW_HOME/logs/old && touch -d '20 days ago' $AIRFLOW_HOME/logs/old/1.log"
        " && touch $AIRFLOW_HOME/logs/new.log; bash /clean-logs & for second in {1..240}; do"
        " [ -e $AIRFLOW_HOME/logs/old ] || break; sleep 1; done; ls $AIRFLOW_HOME/logs"
    )
    assert pods.run(airflow_image, ["bash", "-c", command]).split() == ["new.log"]
