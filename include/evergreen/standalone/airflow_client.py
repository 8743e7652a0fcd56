"""Airflow's REST API, as far as driving and watching pipelines needs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Any

import httpx

from evergreen.errors import EvergreenError, TemporaryError
from evergreen.settings import Settings
from evergreen.standalone.home import Home

POLL_SECONDS = 1.0
SEND_TRIES = 3
"""A connection may close between two requests; every request here may be sent again."""


class RunFailed(EvergreenError):
    """A DAG run ended in failure."""


@dataclass(frozen=True)
class AirflowClient:
    """A session with Airflow's api-server as one user."""

    url: str
    username: str
    password: str

    @cached_property
    def http(self) -> httpx.Client:
        answer = httpx.post(
            f"{self.url}/auth/token", json={"username": self.username, "password": self.password}, timeout=60
        )
        answer.raise_for_status()
        token = answer.json()["access_token"]
        return httpx.Client(base_url=f"{self.url}/api/v2", headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def close(self) -> None:
        """Ends the session."""
        self.http.close()

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer, whatever its status; sent again when the connection breaks, until it has broken too often."""
        for _ in range(SEND_TRIES):
            try:
                return self.http.request(method, path, **options)
            except httpx.TransportError as error:
                broken = error
                time.sleep(POLL_SECONDS)
        raise TemporaryError(
            f"Airflow at {self.url}",
            found=f"no answer ({str(broken) or type(broken).__name__})",
            wanted="an answer",
            remedy="See the logs of its parts and `evergreen doctor`, then give the same command again.",
        ) from broken

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """The JSON at `path`."""
        return self._checked(self.send("GET", path, params=query))

    def ready(self, dag_ids: list[str]) -> bool:
        """Whether scheduler and DAG processor are healthy and all of `dag_ids` are known."""
        try:
            health = self.get("/monitor/health")
            known = {dag["dag_id"] for dag in self.get("/dags", limit=200)["dags"]}
        except (httpx.HTTPError, EvergreenError):
            return False
        healthy = all(health[part]["status"] == "healthy" for part in ("scheduler", "dag_processor"))
        return healthy and known >= set(dag_ids)

    def import_errors(self) -> list[str]:
        """What Airflow says of DAG files it could not load."""
        return [error["stack_trace"] for error in self.get("/importErrors")["import_errors"]]

    def ensure_pool(self, name: str, slots: int, description: str) -> None:
        """Makes a pool, or leaves the slots of one that is there; deferred tasks keep their slots in it."""
        body = {"name": name, "slots": slots, "description": description, "include_deferred": True}
        answer = self.send("POST", "/pools", json=body)
        if answer.status_code == httpx.codes.CONFLICT:
            # Airflow wants a whole pool, and of it takes what the mask names.
            answer = self.send("PATCH", f"/pools/{name}", params={"update_mask": "include_deferred"}, json=body)
        self._checked(answer)

    def trigger(self, dag_id: str, *, run_id: str, conf: dict[str, Any] | None = None) -> str:
        """Id of the run, started now or, when `run_id` exists, earlier."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf or {}}
        answer = self.send("POST", f"/dags/{dag_id}/dagRuns", json=body)
        if answer.status_code != httpx.codes.CONFLICT:
            self._checked(answer)
        return run_id

    def run(self, dag_id: str, run_id: str) -> dict[str, Any] | None:
        """The run as it is now; None when there is none."""
        answer = self.send("GET", f"/dags/{dag_id}/dagRuns/{run_id}")
        return None if answer.status_code == httpx.codes.NOT_FOUND else self._checked(answer)

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Up to 100 runs of a DAG, newest first."""
        found: list[dict[str, Any]] = self.get(f"/dags/{dag_id}/dagRuns", limit=100, order_by="-run_after")["dag_runs"]
        return found

    def wait(self, dag_id: str, run_id: str, on_poll: Callable[[dict[str, Any]], None], timeout_seconds: float) -> None:
        """Returns when the run succeeded; RunFailed names the task that did not."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            run = self.run(dag_id, run_id)
            if run is not None:
                on_poll(run)
                if run["state"] == "success":
                    return
                if run["state"] == "failed":
                    raise self._failure(dag_id, run_id)
            time.sleep(POLL_SECONDS)
        raise TemporaryError(
            f"{dag_id} {run_id}",
            found=f"no end after {timeout_seconds:.0f} s",
            wanted="a finished run",
            remedy=f"Look at it in Airflow, {self.url}.",
        )

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The task instances of a run."""
        found: list[dict[str, Any]] = self.get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return found

    def backfill(self, dag_id: str, first: date, last: date, *, max_active_runs: int) -> int:
        """Id of a backfill over `first` to `last`, days that already ran left alone."""
        body = {
            "dag_id": dag_id,
            "from_date": _midnight(first),
            "to_date": _midnight(last),
            "max_active_runs": max_active_runs,
            "reprocess_behavior": "failed",
        }
        return int(self._checked(self.send("POST", "/backfills", json=body))["id"])

    def _failure(self, dag_id: str, run_id: str) -> RunFailed:
        failed = [t["task_id"] for t in self.tasks(dag_id, run_id) if t["state"] == "failed"]
        return RunFailed(
            f"{dag_id} {run_id}",
            found=f"failed tasks {failed}",
            wanted="a run that succeeds",
            remedy=f"Read its log in Airflow, mend the cause, clear the task: {self.url}/dags/{dag_id}/runs/{run_id}",
        )

    def _checked(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.is_error:
            raise TemporaryError(
                f"Airflow {answer.request.method} {answer.request.url.path}",
                found=f"status {answer.status_code}: {answer.text[:300]}",
                wanted="success",
                remedy=f"See {self.url} and the api-server's log.",
            )
        body: dict[str, Any] = answer.json() if answer.content else {}
        return body


def admin_session(settings: Settings, home: Home) -> AirflowClient:
    """A session with the standalone Airflow as its admin."""
    return AirflowClient(f"http://127.0.0.1:{settings.airflow_port}", "admin", home.secrets()["password"])


def _midnight(day: date) -> str:
    return datetime(day.year, day.month, day.day).isoformat() + "Z"  # noqa: DTZ001
