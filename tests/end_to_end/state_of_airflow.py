"""What an installation's Airflow was doing when a test of it failed: what one would look up there, had it not ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from evergreen.standalone.airflow_client import AirflowClient

LAST_LINES = 25
ENDED_WELL = ("success", "skipped")


def state_of(airflow: AirflowClient) -> str:
    """Every run that has not ended well: its tasks, and the last words of those under way or failed."""
    runs = airflow.get("/dags/~/dagRuns", limit=100, order_by="-run_after")["dag_runs"]
    return "\n".join(line for run in runs if run["state"] not in ENDED_WELL for line in _run(airflow, run))


def airflow_of(fixtures: Iterable[object]) -> AirflowClient | None:
    """The Airflow of the first of a test's fixtures that is an installation."""
    installations = (getattr(fixture, "here", fixture) for fixture in fixtures)
    found = (getattr(each, "airflow", None) for each in installations)
    return next((each for each in found if isinstance(each, AirflowClient)), None)


def _run(airflow: AirflowClient, run: dict[str, Any]) -> Iterator[str]:
    dag, name = run["dag_id"], run["dag_run_id"]
    yield f"{dag} {name}: {run['state']}, started {run['start_date']}"
    for task in airflow.tasks(dag, name):
        task_id, state, number = task["task_id"], task["state"], task["try_number"]
        if state in (None, *ENDED_WELL):
            continue
        yield f"  {task_id} [{task['map_index']}]: {state}, try {number}, started {task['start_date']}"
        if not number:
            continue
        log = f"/dags/{dag}/dagRuns/{name}/taskInstances/{task_id}/logs/{number}"
        said = airflow.get(log, map_index=task["map_index"])["content"]
        yield from (f"    {entry.get('event')}"[:300] for entry in said[-LAST_LINES:])
