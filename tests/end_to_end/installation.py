"""A whole standalone installation for tests, and what they do with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg2
import yaml

from evergreen.lake.lake import Lake, end_of
from evergreen.ledger.ledger import Ledger
from evergreen.samples.config import SampleConfig
from evergreen.samples.database import write_days
from evergreen.settings import Settings
from evergreen.standalone.airflow_client import AirflowClient, admin_session
from evergreen.standalone.control import environment
from evergreen.standalone.home import Home
from loopback import free_port

PROJECT = Path(__file__).resolve().parents[2]
ROWS_PER_DAY = 1500
DAYS = 13
TASK_TITLE = "airflow worker -- "
"""How Airflow names the process of a task, before the task's id."""
CPU_DEFERRED = "cpu-deferred"
"""A profile as `cpu-small`, whose pod is waited for in the triggerer."""
LAST = datetime.now(UTC).date() - timedelta(days=1)
FIRST = LAST - timedelta(days=DAYS - 1)


@dataclass(frozen=True)
class Installation:
    """What a test may touch."""

    home: Home
    settings: Settings
    airflow: AirflowClient
    lake: Lake
    ledger: Ledger
    source_url: str
    variables: dict[str, str]

    def evergreen(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command line, run as a person would."""
        return subprocess.run(
            [sys.executable, "-m", "evergreen.cli", *words],
            env=os.environ | self.variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def succeed(self, stage: str, run_id: str, conf: dict[str, object], *, pipeline: str = "fraud") -> None:
        """Triggers a run and returns when it succeeded."""
        self.airflow.trigger(f"{pipeline}.{stage}", run_id=run_id, conf=conf)
        self.airflow.wait(f"{pipeline}.{stage}", run_id, lambda run: None, 900)


def variables_of(root: Path) -> dict[str, str]:
    ports = {f"EVERGREEN_{part}_PORT": str(free_port()) for part in ("AIRFLOW", "SERVING", "CLUSTER")}
    folders = {"EVERGREEN_HOME": str(root), "EVERGREEN_PIPELINES": str(root / "pipelines")}
    return ports | folders | {"AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60"}


def write_specs(folder: Path) -> None:
    folder.mkdir()
    fraud = yaml.safe_load((PROJECT / "include" / "pipelines" / "fraud.yaml").read_text())
    fraud["training"] |= {"window_days": 4, "max_epochs": 3, "validation_days": 2, "holdout_days": 2}
    fraud["gate"] |= {"minimum": {"average_precision": 0.001}, "min_positives": 1}
    fraud["monitoring"] |= {"min_rows": 500}
    (folder / "fraud.yaml").write_text(yaml.safe_dump(fraud, sort_keys=False))
    (folder / "visits.yaml").write_text((Path(__file__).parent / "visits.yaml").read_text())
    (folder / "broken.yaml").write_text("pipeline: broken\nowner: [nobody\n")


def write_profiles(path: Path) -> None:
    """The profiles that ship, and CPU_DEFERRED."""
    shipped = yaml.safe_load((PROJECT / "include" / "profiles.yaml").read_text())
    path.write_text(yaml.safe_dump(shipped | {CPU_DEFERRED: shipped["cpu-small"] | {"deferrable": True}}))


def ready_installation(home: Home, variables: dict[str, str]) -> Installation:
    parts = environment(home)
    settings = Settings.from_environment(parts)
    client = admin_session(settings, home)
    wanted = [f"{p}.{s}" for p in ("fraud", "visits") for s in ("ingest_data", "train_model", "deploy_model")]
    wait_until(lambda: client.ready(wanted), "DAGs")
    source = parts["AIRFLOW_CONN_FRAUD_SOURCE"]
    write_days(source, SampleConfig(rows_per_day=ROWS_PER_DAY), FIRST, LAST, known_until=end_of(LAST))
    # After a midnight on the way, the nightly run is of one more day.
    write_days(source, SampleConfig(rows_per_day=ROWS_PER_DAY), LAST + timedelta(days=1), LAST + timedelta(days=1))
    _write_visits(source)
    lake = Lake(settings.lake_url, settings.lake_options)
    return Installation(home, settings, client, lake, Ledger(settings.database_url), source, variables)


def _write_visits(url: str) -> None:
    """A second source with other columns and another label: visits that end in a sale or not."""
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("create table visits (visit text, visitor text, pages integer, page text, at timestamptz)")
        cursor.execute("create table sales (visit text, sold boolean, sold_at timestamptz)")
        cursor.execute(
            """insert into visits select 'v' || n, 'p' || n %% 97, 1 + n * 7919 %% 40, 'page' || n %% 5,
               %s::timestamptz + n * interval '1 day' / 400 from generate_series(0, 399 * %s) n""",
            (datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC), DAYS + 1),
        )
        cursor.execute("insert into sales select visit, true, at + interval '1 hour' from visits where pages > 30")
    connection.close()


def day(number: int) -> date:
    """The day `number` days after the first."""
    return FIRST + timedelta(days=number)


def backfill(
    installation: Installation, dag_id: str, first: date, last: date, *, reprocess: str = "none"
) -> list[dict[str, object]]:
    """The runs of a finished backfill; fails when one of them did."""
    body = {
        "dag_id": dag_id,
        "from_date": f"{first}T00:00:00Z",
        "to_date": f"{last}T00:00:00Z",
        "max_active_runs": 4,
        "reprocess_behavior": reprocess,
    }
    known = {run["dag_run_id"] for run in installation.airflow.runs(dag_id)}
    answer = installation.airflow.http.post("/backfills", json=body)
    assert answer.status_code == 200, answer.text
    wanted = (last - first).days + 1

    def new_runs() -> list[dict[str, object]]:
        return [run for run in installation.airflow.runs(dag_id) if run["dag_run_id"] not in known]

    wait_until(lambda: sum(r["state"] in ("success", "failed") for r in new_runs()) >= wanted, f"{wanted} runs")
    assert [r["dag_run_id"] for r in new_runs() if r["state"] == "failed"] == []
    wait_until(lambda: _no_backfill(installation, dag_id), "the end of the backfill")
    return new_runs()


def _no_backfill(installation: Installation, dag_id: str) -> bool:
    backfills = installation.airflow.get("/backfills", dag_id=dag_id)["backfills"]
    return all(b["completed_at"] for b in backfills)


def busy(installation: Installation, dag_id: str) -> bool:
    """Whether a run of the DAG is queued or running."""
    return any(run["state"] in ("queued", "running") for run in installation.airflow.runs(dag_id))


def wait_for_nightly(installation: Installation, dag_id: str) -> None:
    """Returns when the schedule's run of the last day succeeded; Airflow starts it by itself after a first backfill."""

    def done() -> bool:
        nightly = [run for run in installation.airflow.runs(dag_id) if run["run_type"] == "scheduled"]
        return bool(nightly) and all(run["state"] == "success" for run in nightly)

    wait_until(done, f"nightly run of {dag_id}")


def wait_until_settled(installation: Installation, pipeline: str, seconds: float = 10) -> None:
    """Returns when neither training nor deployment ran for `seconds`; a deployment follows a training by moments."""
    since = time.monotonic()

    def settled() -> bool:
        nonlocal since
        if busy(installation, f"{pipeline}.train_model") or busy(installation, f"{pipeline}.deploy_model"):
            since = time.monotonic()
        return time.monotonic() - since > seconds

    wait_until(settled, f"end of training and deployment of {pipeline}")


def wait_until(true: Callable[[], bool], what: str, seconds: float = 600) -> None:
    """Returns when `true()` is; fails naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.5)
