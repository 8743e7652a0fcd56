"""The sample's story, driven through Airflow as a user would: from raw rows to a retrained model.

Every act looks first at what is already there, so an interrupted demo picks up where it was.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
from rich.console import Console

from evergreen.errors import DataError, EvergreenError, TemporaryError
from evergreen.lake.lake import Lake, end_of
from evergreen.lake.tables import days_between
from evergreen.ledger.ledger import Ledger
from evergreen.pipeline import Pipeline
from evergreen.pipeline_file import read_pipeline
from evergreen.samples.config import SampleConfig
from evergreen.samples.database import write_days
from evergreen.settings import Settings
from evergreen.standalone.airflow_client import AirflowClient, admin_session
from evergreen.standalone.calendar import Calendar, remembered_calendar
from evergreen.standalone.control import environment, start_detached
from evergreen.standalone.home import Home
from evergreen.standalone.progress import Act, Progress
from evergreen.standalone.screen import show_status, show_ways_in
from evergreen.standalone.status import summarise
from evergreen.standalone.traffic import scored, send_day

NAME = "fraud"
STAGES = ("ingest_data", "train_model", "deploy_model", "monitor_drift")
BACKFILL_SECONDS = 1800.0
RUN_SECONDS = 1200.0


@dataclass
class Demo:
    """One telling of the story."""

    settings: Settings
    home: Home
    console: Console
    rows_per_day: int
    progress: Progress = field(init=False)
    pipeline: Pipeline = field(init=False)
    calendar: Calendar = field(init=False)
    airflow: AirflowClient = field(init=False)
    lake: Lake = field(init=False)
    ledger: Ledger = field(init=False)

    def play(self) -> None:
        """Returns when the story is told and its summary shown; everything keeps running."""
        self.progress = Progress(self.console)
        self.pipeline = read_pipeline(self.settings.pipelines / f"{NAME}.yaml")
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        self.calendar = remembered_calendar(
            self.home.root / "demo.json", yesterday=yesterday, rows_per_day=self.rows_per_day
        )
        self._start()
        self._fill_source()
        self._ingest("Ingest the history", self.calendar.first, self.calendar.history_end)
        self._train_first()
        self._live_days("Ordinary days", *self.calendar.ordinary)
        self._live_days("Shifted days", *self.calendar.shifted)
        self._await_retrain()
        self._show()

    def _start(self) -> None:
        with self.progress.act("Start PostgreSQL, cluster, Airflow and serving") as act:
            start_detached(self.home, act.say)
            self.settings = Settings.from_environment(environment(self.home))
            self.airflow = admin_session(self.settings, self.home)
            self.lake = Lake(self.settings.lake_url, self.settings.lake_options)
            self.ledger = Ledger(self.settings.database_url)
            act.say("waiting for Airflow to read the DAGs")
            self._until(lambda: self.airflow.ready([f"{NAME}.{stage}" for stage in STAGES]), "Airflow's DAGs", 180)
            act.say(f"ready at {self.airflow.url}")

    def _fill_source(self) -> None:
        mark = self.home.root / "source.filled"
        with self.progress.act("Fill the source database") as act:
            if mark.exists():
                act.say("filled before")
                return
            rows = write_days(
                environment(self.home)["AIRFLOW_CONN_FRAUD_SOURCE"],
                self._sample(),
                self.calendar.first,
                self.calendar.last,
                known_until=end_of(self.calendar.last),
                on_progress=lambda day, n: act.say(f"{day}: {n:,} rows"),
            )
            mark.write_text(str(rows))
            act.say(f"{rows:,} rows")

    def _sample(self) -> SampleConfig:
        return SampleConfig(rows_per_day=self.rows_per_day, shift_from=self.calendar.shifted[0])

    def _ingest(self, title: str, first: date, last: date) -> None:
        dag_id, days = f"{NAME}.ingest_data", days_between(first, last)
        with self.progress.act(f"{title}: backfill of {first} to {last}") as act:
            if self._ingested(days) < len(days):
                self._begin_backfill(dag_id, first, last, act)
            deadline = time.monotonic() + BACKFILL_SECONDS
            while (done := self._ingested(days)) < len(days):
                act.say(f"{done} of {len(days)} days", done / len(days))
                self._require_no_failure(dag_id, {day.isoformat() for day in days})
                if time.monotonic() > deadline:
                    raise self._late(title)
                time.sleep(1)
            act.say(f"{done} days")

    def _ingested(self, days: list[date]) -> int:
        """Days that have features and whose run has ended well."""
        wanted = {day.isoformat() for day in days}
        runs = [r for r in self.airflow.runs(f"{NAME}.ingest_data") if r["state"] == "success"]
        return len({r["partition_key"] for r in runs} & wanted)

    def _begin_backfill(self, dag_id: str, first: date, last: date, act: Act) -> None:
        """Returns when a backfill of these days runs: one begun earlier, or a new one.

        Airflow runs one backfill a DAG, and notes only every half minute that one has ended.
        """
        while running := self._running_backfills(dag_id):
            if (first.isoformat(), last.isoformat()) in running:
                return
            act.say("waiting for Airflow to close the backfill before")
            time.sleep(1)
        self.airflow.backfill(dag_id, first, last, max_active_runs=2)

    def _running_backfills(self, dag_id: str) -> set[tuple[str, str]]:
        """First and last day of each backfill that Airflow has not closed."""
        backfills = self.airflow.get("/backfills", dag_id=dag_id)["backfills"]
        return {(b["from_date"][:10], b["to_date"][:10]) for b in backfills if b["completed_at"] is None}

    def _require_no_failure(self, dag_id: str, keys: set[str]) -> None:
        # A day that failed in an earlier demo has a newer run beside the failed one: the newest counts.
        newest = {run["partition_key"]: run for run in sorted(self.airflow.runs(dag_id), key=lambda r: r["queued_at"])}
        for key in sorted(keys & newest.keys()):
            if newest[key]["state"] == "failed":
                self.airflow.wait(dag_id, newest[key]["dag_run_id"], lambda r: None, 1)

    def _train_first(self) -> None:
        day = self.calendar.history_end
        with self.progress.act(f"Train as of {day}, judge and deploy") as act:
            if self.ledger.current(NAME) is None:
                self._run("train_model", f"demo__{day}", {"day": day.isoformat()}, act)
                self._require_approval(f"demo__{day}")
                self._until(lambda: self._answering() is not None, "the first deployment", RUN_SECONDS, act)
            act.say(f"{self._answering()} serves")

    def _require_approval(self, run_id: str) -> None:
        if self._refused(run_id):
            raise DataError(
                "The demo's first model",
                found="one that the gate refused",
                wanted="an approved one",
                remedy=f"The Evidence tab of {NAME}.train_model's run {run_id} at {self.airflow.url} says why; "
                "`make clean`, then `evergreen demo` with more --rows-per-day gives it more to learn from.",
            )

    def _answering(self) -> str | None:
        """The version the ledger says serves, once its deployment run has ended."""
        busy = [r for r in self.airflow.runs(f"{NAME}.deploy_model") if r["state"] in ("queued", "running")]
        current = self.ledger.current(NAME)
        return current.to_version if current and not busy else None

    def _live_days(self, title: str, first: date, last: date) -> None:
        self._ingest(title, first, last)
        for day in days_between(first, last):
            if self._retrained():
                return
            with self.progress.act(f"{title}: score {day} live, then check drift") as act:
                if not scored(self.lake, NAME, day):
                    send_day(
                        self.settings.serving_url, self.settings.serving_token, self.pipeline, self._sample(), day,
                        lambda rows, act=act: act.say(f"{rows:,} transactions scored"),  # type: ignore[misc]
                    )  # fmt: skip
                self._run("monitor_drift", f"demo__{day}", {"day": day.isoformat()}, act)
                act.say(self._last_word(day))

    def _last_word(self, day: date) -> str:
        said = [decision for _, decision in self.ledger.decisions(NAME) if decision.day == day]
        return said[-1].reason if said else "no decision"

    def _retrained(self) -> bool:
        return any(decision.retrain for _, decision in self.ledger.decisions(NAME))

    def _await_retrain(self) -> None:
        with self.progress.act("Retrain that the governor asked for") as act:
            if not self._retrained():
                act.say(f"not asked for by {self.calendar.last}: {self._last_word(self.calendar.last)}")
                return
            runs = [r for r in self.airflow.runs(f"{NAME}.train_model") if r["dag_run_id"].startswith("drift__")]
            if not runs:
                raise self._late("the governor's retrain")
            self._wait("train_model", runs[0]["dag_run_id"], act)
            if self._refused(runs[0]["dag_run_id"]):
                act.say(f"the gate refused the new model, {self._answering()} serves on; see the run's Evidence tab")
                return
            first = self.ledger.history(NAME)[0].to_version
            self._until(lambda: (self._answering() or first) != first, "the new champion", 120, act)
            act.say(f"{self._answering()} serves")

    def _refused(self, run_id: str) -> bool:
        """Whether the gate did not let the model of a training that ended go live."""
        tasks = self.airflow.tasks(f"{NAME}.train_model", run_id)
        return any(task["task_id"] == "publish_model" and task["state"] == "skipped" for task in tasks)

    def _run(self, stage: str, run_id: str, conf: dict[str, Any], act: Act) -> None:
        self.airflow.trigger(f"{NAME}.{stage}", run_id=run_id, conf=conf)
        self._wait(stage, run_id, act)

    def _wait(self, stage: str, run_id: str, act: Act) -> None:
        dag_id = f"{NAME}.{stage}"

        def show(run: dict[str, Any]) -> None:
            running = [t["task_id"] for t in self.airflow.tasks(dag_id, run_id) if t["state"] == "running"]
            act.say(f"{stage}: {running[0] if running else run['state']}")

        self.airflow.wait(dag_id, run_id, show, RUN_SECONDS)

    def _until(self, true: Any, what: str, seconds: float, act: Act | None = None) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                raise self._late(what)
            if act is not None:
                act.say(f"waiting for {what}")
            time.sleep(1)

    def _late(self, what: str) -> TemporaryError:
        return TemporaryError(
            what,
            found=self._cause(),
            wanted="its end",
            remedy=f"Look at {self.airflow.url} and {self.home.root / 'logs'}; `make demo` continues.",
        )

    def _cause(self) -> str:
        """Why nothing comes, as far as Airflow can say."""
        try:
            errors = self.airflow.import_errors()
        except (httpx.HTTPError, EvergreenError) as error:
            return f"an Airflow that does not answer ({error})"
        return errors[0].strip().splitlines()[-1] if errors else "nothing in the time allowed"

    def _show(self) -> None:
        show_status(self.console, summarise(self.settings, self.ledger))
        show_ways_in(self.console, self.settings, self.pipeline, self.home.secrets()["password"])
