"""The Airflow image loads every DAG and plugin as its own user, locked down."""

from __future__ import annotations

import pytest

from docker.conftest import ImagePods

pytestmark = pytest.mark.cluster

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
    assert pods.run(airflow_image, ["airflow", "version"]).splitlines()[-1] == "3.3.2"
    assert pods.run(airflow_image, ["python", "-c", USER]).split() == ["50000", "0"]


def test_every_dag_of_the_image_loads(pods: ImagePods, airflow_image: str) -> None:
    found = pods.run(airflow_image, ["python", "-c", LOOK], AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR").splitlines()[-1]
    stages = ("deploy_model", "ingest_data", "monitor_drift", "train_model")
    assert found.endswith("{}"), found
    assert all(f"fraud.{stage}" in found for stage in stages)


def test_a_new_installation_has_no_import_errors(pods: ImagePods, airflow_image: str) -> None:
    command = "airflow db migrate >&2 && airflow dags reserialize >&2 && airflow dags list-import-errors --output json"
    log = pods.run(airflow_image, ["sh", "-c", command], AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR")
    assert log.splitlines()[-1] in ("No data found", "[]"), log[-2000:]


def test_training_is_not_in_the_airflow_image(pods: ImagePods, airflow_image: str) -> None:
    assert pods.run(airflow_image, ["python", "-c", ABSENT]).strip() == "[]"
