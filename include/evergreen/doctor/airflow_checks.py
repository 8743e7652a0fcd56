"""Airflow on this machine, asked over REST: its parts, its DAGs, the pool and the connections that specs name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx

from evergreen.doctor.check import Check, failed, not_applicable, ok, warning
from evergreen.errors import EvergreenError
from evergreen.pipeline_file import read_pipelines
from evergreen.settings import Settings
from evergreen.standalone.airflow_client import AirflowClient, admin_session
from evergreen.standalone.control import environment
from evergreen.standalone.home import Home
from evergreen.standalone.preparation import POOL

PARTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")


def examine_airflow(settings: Settings) -> Iterator[Check]:
    """Looks at the Airflow of this run directory; one elsewhere needs its own account and is not asked."""
    home = Home(settings.home)
    if not (home.root / "secrets.json").exists():
        yield not_applicable("answers", f"`evergreen up` never ran in {home.root}; an Airflow elsewhere is not asked")
        return
    airflow = admin_session(settings, home)
    try:
        health = airflow.get("/monitor/health")
    except (httpx.HTTPError, EvergreenError) as error:
        yield failed(
            "answers", f"no Airflow at {airflow.url}: {error}", f"Run `evergreen up`; see {home.root / 'logs'}."
        )
        return
    yield _parts(health, home)
    for look in (_dags, _pool):
        yield look(airflow)
    for name in _connections(settings):
        yield _connection(airflow, name, home)
    airflow.close()


def _parts(health: dict[str, Any], home: Home) -> Check:
    ill = [part for part in PARTS if (health.get(part) or {}).get("status") != "healthy"]
    if ill:
        return failed("parts", f"not healthy: {', '.join(ill)}", f"See their logs in {home.root / 'logs'}.")
    return ok("parts", ", ".join(PARTS))


def _dags(airflow: AirflowClient) -> Check:
    errors = airflow.import_errors()
    if errors:
        last = errors[0].strip().splitlines()[-1]
        return failed("DAGs", f"{len(errors)} that cannot be loaded: {last}", "Correct the file it names.")
    return ok("DAGs", f"{airflow.get('/dags', limit=1)['total_entries']}, no import errors")


def _pool(airflow: AirflowClient) -> Check:
    name, remedy = f"pool {POOL}", f"airflow pools set {POOL} 1 'Training pods at once' --include-deferred"
    answer = airflow.send("GET", f"/pools/{POOL}")
    if answer.status_code == httpx.codes.NOT_FOUND:
        return failed(name, "no such pool, so training waits for ever", remedy)
    pool = answer.json()
    if not pool["include_deferred"]:
        return failed(name, "deferred tasks give their slot back, so more pods run than it has slots", remedy)
    return ok(name, f"{pool['slots']} slots, deferred tasks included")


def _connections(settings: Settings) -> list[str]:
    return sorted({pipeline.source.connection for pipeline in read_pipelines(settings.pipelines)[0]})


def _connection(airflow: AirflowClient, connection: str, home: Home) -> Check:
    name, variable = f"connection {connection}", f"AIRFLOW_CONN_{connection.upper()}"
    if variable in environment(home):
        return ok(name, f"from {variable}")
    answer = airflow.send("GET", f"/connections/{connection}")
    if answer.status_code == httpx.codes.OK:
        return ok(name, f"in Airflow, of type {answer.json()['conn_type']}")
    remedy = f"Add it under Admin, Connections, or set {variable}; fine if a secrets backend has it."
    return warning(name, "neither in Airflow nor in its environment", remedy)
