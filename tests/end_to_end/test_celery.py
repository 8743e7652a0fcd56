"""Thirty days backfilled by two Celery workers over Redis and PostgreSQL, with the settings that ship."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import pytest
from deltalake import DeltaTable

from end_to_end.celery_parts import Worker, celery_variables, redis_server, start_worker, tasks_taken
from end_to_end.installation import PROJECT, variables_of, wait_until
from evergreen.ingestion.ingest import ingest_day
from evergreen.ingestion.sql import open_source
from evergreen.lake.lake import Lake, end_of
from evergreen.lake.receipts import read_receipts, verify_outputs
from evergreen.lake.tables import days_between
from evergreen.pipeline import Pipeline
from evergreen.samples.config import SampleConfig
from evergreen.samples.database import write_days
from evergreen.settings import Settings
from evergreen.standalone.airflow_client import AirflowClient, admin_session
from evergreen.standalone.control import environment, start_detached, stop
from evergreen.standalone.home import Home
from evergreen.validation.validate import validate_day

pytestmark = [pytest.mark.airflow, pytest.mark.broker]

INGEST = "fraud.ingest_data"
LAST = datetime.now(UTC).date() - timedelta(days=1)
FIRST = LAST - timedelta(days=35)
MONTH = days_between(FIRST, FIRST + timedelta(days=29))
WEEK = days_between(FIRST + timedelta(days=30), LAST - timedelta(days=1))
"""Days for the test that kills a worker, after the month and without the last day, which its schedule may ingest."""


@dataclass(frozen=True)
class CeleryInstallation:
    """A running installation whose tasks wait for workers."""

    home: Home
    airflow: AirflowClient
    lake: Lake
    source_url: str
    broker_url: str


@pytest.fixture(scope="module")
def on_celery() -> Iterator[CeleryInstallation]:
    """`evergreen up` with the Celery executor, thirty-six days in its source and no worker yet."""
    # Not pytest's folder: PostgreSQL runs as another user under root, and must be able to pass through.
    root = Path(mkdtemp(prefix="evergreen-celery-"))
    try:
        with redis_server(root) as broker_url, pytest.MonkeyPatch.context() as patch:
            for name, value in _variables(root, broker_url).items():
                patch.setenv(name, value)
            yield from _running(Home.at(root / "home"), broker_url)
    finally:
        rmtree(root, ignore_errors=True)


def _variables(root: Path, broker_url: str) -> Mapping[str, str]:
    root.chmod(0o711)
    own = variables_of(root / "home") | {"EVERGREEN_PIPELINES": str(PROJECT / "include" / "pipelines")}
    api = f"http://127.0.0.1:{own['EVERGREEN_AIRFLOW_PORT']}/execution/"
    shipped = celery_variables(root / "secrets", broker_url)
    return own | shipped | {"AIRFLOW__CORE__EXECUTION_API_SERVER_URL": api}


def _running(home: Home, broker_url: str) -> Iterator[CeleryInstallation]:
    try:
        start_detached(home, lambda phase: None)
        variables = environment(home)
        settings = Settings.from_environment(variables)
        airflow = admin_session(settings, home)
        wait_until(lambda: airflow.ready([INGEST]), "DAGs")
        source = variables["AIRFLOW_CONN_FRAUD_SOURCE"]
        write_days(source, SampleConfig(rows_per_day=500), FIRST, LAST, known_until=end_of(LAST))
        # After a midnight on the way, the nightly run is of one more day.
        write_days(source, SampleConfig(rows_per_day=500), LAST + timedelta(days=1), LAST + timedelta(days=1))
        yield CeleryInstallation(home, airflow, Lake(settings.lake_url), source, broker_url)
        airflow.close()
    finally:
        stop(home)


@pytest.fixture(scope="module")
def workers(on_celery: CeleryInstallation) -> Iterator[dict[str, Worker]]:
    """Two workers by name, both taking tasks."""
    started = {name: start_worker(name, on_celery.home.root) for name in ("one", "two")}
    try:
        wait_until(lambda: set(tasks_taken(on_celery.broker_url)) == set(started), "two workers")
        yield started
    finally:
        for worker in started.values():
            worker.stop()


def test_password_of_the_broker_is_in_no_environment_and_no_process_list(on_celery: CeleryInstallation) -> None:
    password = on_celery.broker_url.split(":")[2].partition("@")[0]
    assert password not in str(environment(on_celery.home))
    listed = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
    assert not any(password.encode() in words for words in listed)


def test_doctor_finds_the_installation_well(on_celery: CeleryInstallation) -> None:
    found: list[dict[str, str]] = []

    def nothing_failed() -> bool:
        # A part that a busy machine holds up may miss the doctor's patience once.
        asked = subprocess.run(
            [sys.executable, "-m", "evergreen.cli", "doctor", "--json"],
            env=os.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        sys.stdout.write(asked.stdout + asked.stderr)  # for a person, when it never does
        found[:] = json.loads(asked.stdout)["checks"]
        return asked.returncode == 0 and not any(check["state"] == "failed" for check in found)

    wait_until(nothing_failed, "doctor without a failed check")
    well = {check["name"] for check in found if check["part"] == "airflow" and check["state"] == "ok"}
    assert well == {"parts", "DAGs", "pool gpu", "connection fraud_source"}


def test_two_workers_share_a_backfill_of_thirty_days(
    on_celery: CeleryInstallation, workers: dict[str, Worker], fraud: Pipeline, tmp_path: Path
) -> None:
    runs = _backfill(on_celery, MONTH)
    assert [run["partition_key"] for run in runs] == [day.isoformat() for day in MONTH], "no day missing, none twice"
    taken = _taken_by(on_celery, set(workers))
    assert min(taken.values()) >= len(MONTH) // 2, "both workers did a good part of the ninety tasks"
    expected = _done_by_hand(fraud, on_celery.source_url, MONTH, Lake((tmp_path / "by_hand").as_uri()))
    found = _clean_digests(on_celery.lake)
    assert {day: found[day] for day in MONTH} == expected
    assert _commits(on_celery.lake) == len(found), "no day was written twice"
    assert sum(_verified_receipts(on_celery.lake, str(run["dag_run_id"])) for run in runs) == 3 * len(MONTH)


def test_backfill_goes_on_when_a_worker_is_killed(on_celery: CeleryInstallation, workers: dict[str, Worker]) -> None:
    started = _start_backfill(on_celery, WEEK)
    wait_until(lambda: _killed_in_a_task(on_celery, workers["two"]), "a task of the second worker")
    runs = _finished(on_celery, started, len(WEEK))
    assert [run["partition_key"] for run in runs] == [day.isoformat() for day in WEEK]
    _taken_by(on_celery, {"one"})
    assert set(_clean_digests(on_celery.lake)) >= {*MONTH, *WEEK}
    assert sum(_verified_receipts(on_celery.lake, str(run["dag_run_id"])) for run in runs) == 3 * len(WEEK)
    assert _second_tries(on_celery, runs), "something was running where the power went off"


def _taken_by(on_celery: CeleryInstallation, workers: set[str]) -> dict[str, int]:
    """How many tasks each of `workers` has taken, once they and no others answer: a busy one may miss a question."""
    taken: dict[str, int] = {}

    def all_answer() -> bool:
        taken.clear()
        taken.update(tasks_taken(on_celery.broker_url))
        return taken.keys() == workers

    wait_until(all_answer, f"answer of {workers} alone")
    return taken


def _killed_in_a_task(on_celery: CeleryInstallation, worker: Worker) -> bool:
    """Whether the worker ran a task that Airflow still waits for, and is dead now.

    It lives on while a task that it has taken is still queued to Airflow, which would miss that one for ten minutes.
    """
    with worker.halted() as taken:
        runs = [run for run in on_celery.airflow.runs(INGEST) if run["state"] == "running"]
        tasks = [task for run in runs for task in on_celery.airflow.tasks(INGEST, str(run["dag_run_id"]))]
        states = {task["state"] for task in tasks if task["id"] in taken}
        if "running" in states and "queued" not in states:
            worker.kill()
            return True
    return False


def _backfill(on_celery: CeleryInstallation, days: list[date]) -> list[dict[str, object]]:
    return _finished(on_celery, _start_backfill(on_celery, days), len(days))


def _start_backfill(on_celery: CeleryInstallation, days: list[date]) -> int:
    return on_celery.airflow.backfill(INGEST, days[0], days[-1], max_active_runs=4)


def _finished(on_celery: CeleryInstallation, backfill: int, count: int) -> list[dict[str, object]]:
    """The runs of the backfill by day, once it is complete; fails when one of them did."""

    def completed() -> bool:
        return bool(on_celery.airflow.get(f"/backfills/{backfill}")["completed_at"])

    wait_until(completed, f"end of a backfill of {count} days", 1800)
    runs = [run for run in on_celery.airflow.runs(INGEST) if run["run_type"] == "backfill"][:count]
    assert {run["state"] for run in runs} == {"success"}
    return sorted(runs, key=lambda run: str(run["partition_key"]))


def _done_by_hand(pipeline: Pipeline, source_url: str, days: list[date], lake: Lake) -> dict[date, str]:
    """Digests of the clean days when one process ingests them in order."""
    source = open_source(pipeline, source_url)
    for day in days:
        validate_day(pipeline, ingest_day(pipeline, source, day, lake), lake)
    return _clean_digests(lake)


def _clean_digests(lake: Lake) -> dict[date, str]:
    return {day.day: day.digest for day in lake.table("clean", "fraud").days()}


def _commits(lake: Lake) -> int:
    """How many commits the clean zone has, without the table's own creation."""
    history = DeltaTable(lake.table("clean", "fraud").url).history()
    return sum(entry["operation"] == "WRITE" for entry in history)


def _verified_receipts(lake: Lake, run_id: str) -> int:
    """How many tasks of the run left receipts, after all of these were verified."""
    receipts = read_receipts(lake, "fraud", f"{INGEST}.{run_id}")
    for receipt in receipts:
        verify_outputs(lake, receipt)
    return len({receipt.task for receipt in receipts})


def _second_tries(on_celery: CeleryInstallation, runs: list[dict[str, object]]) -> list[str]:
    tasks = [t for run in runs for t in on_celery.airflow.tasks(INGEST, str(run["dag_run_id"]))]
    return [f"{t['dag_run_id']} {t['task_id']}" for t in tasks if t["try_number"] > 1]
