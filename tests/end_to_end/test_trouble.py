"""What goes wrong in the night: each ends in one clear error, loses nothing, and the next run recovers."""

from __future__ import annotations

import os
import signal

import httpx
import psutil
import pytest

from end_to_end.installation import Installation, day, wait_until
from evergreen.lake.receipts import read_receipts
from evergreen.localcluster.fault_client import Faults
from evergreen.standalone.home import find_process

pytestmark = pytest.mark.airflow


def _part(installation: Installation, name: str) -> psutil.Process | None:
    parts = installation.home.state()["parts"]
    return find_process(parts[name])  # type: ignore[index]


def _tries(installation: Installation, run_id: str, task: str) -> list[dict[str, object]]:
    path = f"/dags/fraud.train_model/dagRuns/{run_id}/taskInstances/{task}/tries"
    found: list[dict[str, object]] = installation.airflow.get(path)["task_instances"]
    return found


def test_killed_training_pod_is_never_green_and_the_retry_recovers(serving: Installation) -> None:
    assert serving.settings.kubeconfig is not None
    faults = Faults(serving.settings.kubeconfig)
    fault = faults.node_lost("evergreen/step=train,run_id=killed")
    try:
        serving.airflow.trigger("fraud.train_model", run_id="killed", conf={"day": day(9).isoformat(), "seed": 99})
        serving.airflow.wait("fraud.train_model", "killed", lambda run: None, 900)
        assert [len(each.struck) for each in faults.all() if each.id == fault] == [1]
    finally:
        faults.clear(fault)
    tries = _tries(serving, "killed", "train")
    assert [t["state"] for t in tries][-1] == "success"
    assert len(tries) >= 2
    proven = {r.attempt for r in read_receipts(serving.lake, "fraud", "fraud.train_model.killed") if r.task == "train"}
    assert 1 not in proven
    assert proven == {t["try_number"] for t in tries if t["state"] == "success"}


@pytest.mark.parametrize("name", ["serving", "scheduler", "cluster"])
def test_killed_part_is_started_again(serving: Installation, name: str) -> None:
    before = _part(serving, name)
    assert before is not None
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: _part(serving, name) not in (None, before), f"new {name}")


def test_serving_answers_again_after_it_was_killed(serving: Installation) -> None:
    process = _part(serving, "serving")
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    url = f"{serving.settings.serving_url}/readyz"

    def ready() -> bool:
        try:
            return httpx.get(url, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    wait_until(ready, "a ready service")


def test_database_killed_in_a_run_is_started_again_and_the_run_ends_well(ingested: Installation) -> None:
    ingested.airflow.trigger("fraud.ingest_data", run_id="outage", conf={"day": day(11).isoformat()})
    pid = int((ingested.home.postgres / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGQUIT)

    def done() -> bool:
        try:
            run = ingested.airflow.run("fraud.ingest_data", "outage")
        except Exception:  # the api-server may answer anything while its database is away
            return False
        return run is not None and run["state"] == "success"

    wait_until(done, "a successful run after the outage")
    assert ingested.lake.table("features", "fraud").day(day(11)) is not None


def test_missing_source_table_fails_at_once_and_says_so(ingested: Installation) -> None:
    import psycopg2

    with psycopg2.connect(ingested.source_url) as connection, connection.cursor() as cursor:
        cursor.execute("alter table transactions rename to elsewhere")
    connection.close()
    try:
        ingested.airflow.trigger("fraud.ingest_data", run_id="lost", conf={"day": day(-1).isoformat()})
        wait_until(lambda: _state(ingested, "lost") == "failed", "a failed run")
    finally:
        with psycopg2.connect(ingested.source_url) as connection, connection.cursor() as cursor:
            cursor.execute("alter table elsewhere rename to transactions")
        connection.close()
    task = next(t for t in ingested.airflow.tasks("fraud.ingest_data", "lost") if t["task_id"] == "extract_day")
    logs = f"/dags/fraud.ingest_data/dagRuns/lost/taskInstances/{task['task_id']}/logs"
    *before, last = [ingested.airflow.http.get(f"{logs}/{n + 1}").text for n in range(task["try_number"])]
    assert "transactions" in last
    assert "no such table or view" in last
    assert not any("no such table or view" in log for log in before), "no try after the one that said so"
    assert ingested.lake.table("raw", "fraud").day(day(-1)) is None


def _state(installation: Installation, run_id: str) -> str:
    run = installation.airflow.run("fraud.ingest_data", run_id)
    return str(run["state"]) if run else ""
