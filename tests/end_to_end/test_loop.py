"""The loop on a real scheduler: what each DAG does when scheduled, triggered and backfilled."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from end_to_end.installation import LAST, Installation, backfill, day, wait_for_nightly, wait_until, wait_until_settled
from evergreen.artifacts import Configuration, Model, Receipt, Trial
from evergreen.lake.receipts import read_receipts
from evergreen.standalone.screen import example_row

pytestmark = pytest.mark.airflow


def test_every_sound_spec_becomes_four_dags_and_a_broken_one_an_import_error(installation: Installation) -> None:
    dags = {dag["dag_id"] for dag in installation.airflow.get("/dags", limit=100)["dags"]}
    stages = ("ingest_data", "train_model", "deploy_model", "monitor_drift")
    assert {f"{p}.{s}" for p in ("fraud", "visits") for s in stages} <= dags
    assert not any(dag.startswith("broken.") for dag in dags)
    errors = installation.airflow.get("/importErrors")["import_errors"]
    assert [e["filename"].rsplit("/", 1)[-1] for e in errors] == ["check_pipelines.py"]
    assert "broken.yaml line" in errors[0]["stack_trace"]


def test_starting_for_the_first_time_runs_nothing_by_itself(installation: Installation) -> None:
    assert not [r for r in installation.airflow.runs("visits.train_model") if r["run_type"] == "scheduled"]


def test_backfill_ingests_each_day_once_and_again_to_the_same_bytes(ingested: Installation) -> None:
    zones = ("raw", "labels", "clean", "quarantine")
    before = {zone: ingested.lake.table(zone, "fraud").days(day(0), day(3)) for zone in zones}
    assert len(before["clean"]) == 4
    backfill(ingested, "fraud.ingest_data", day(0), day(3), reprocess="completed")
    for zone in zones:
        after = ingested.lake.table(zone, "fraud").days(day(0), day(3))
        assert [d.digest for d in after] == [d.digest for d in before[zone]], zone


def test_ingested_rows_are_all_accounted_for(ingested: Installation) -> None:
    raw, clean, quarantine = (ingested.lake.table(zone, "fraud").day(day(2)) for zone in ("raw", "clean", "quarantine"))
    assert raw is not None
    assert clean is not None
    assert quarantine is not None
    assert quarantine.rows > 0
    assert 0 <= raw.rows - clean.rows - quarantine.rows <= raw.rows * 0.01, "only exact duplicates may be missing"


def test_trained_model_serves_what_the_ledger_says(serving: Installation) -> None:
    current = serving.ledger.current("fraud")
    assert current is not None
    row = example_row(next(p for p in _pipelines(serving) if p.pipeline == "fraud"))
    answer = httpx.post(f"{serving.settings.serving_url}/v1/fraud/predict", json={"rows": [row]}, timeout=240)
    assert answer.status_code == 200, answer.text
    assert answer.json()["version"] == current.to_version
    assert 0 <= answer.json()["predictions"][0]["score"] <= 1


def test_every_task_of_a_training_run_left_a_receipt(serving: Installation) -> None:
    tasks = {r.task for r in read_receipts(serving.lake, "fraud", "fraud.train_model.first")}
    expected = {"build_training_set", "train", "choose_champion", "evaluate", "judge_model", "publish_model"}
    assert expected <= tasks
    shown = serving.evergreen("receipts", "fraud.train_model.first")
    assert shown.returncode == 0, shown.stderr
    assert "build_training_set" in shown.stdout


def test_training_backfill_registers_a_model_a_day_and_deploys_none_but_the_nightly_one(serving: Installation) -> None:
    backfill(serving, "fraud.train_model", day(7), day(8))
    wait_for_nightly(serving, "fraud.train_model")
    versions = {v.model.as_of.date() - timedelta(days=1): v.model for v in serving.ledger.versions("fraud")}
    assert all(versions[day(n)].backfill for n in (7, 8))
    nightly = max(versions)
    assert nightly >= LAST  # a midnight may have passed
    assert not versions[nightly].backfill
    wait_until_settled(serving, "fraud")
    deployed = {deployment.to_version for deployment in serving.ledger.history("fraud")}
    assert deployed & {versions[day(n)].version for n in (7, 8)} == set()


def test_same_day_and_seed_give_the_same_version(serving: Installation) -> None:
    trained = next(v for v in serving.ledger.versions("fraud") if not v.model.backfill)
    count = len(serving.ledger.versions("fraud"))
    serving.succeed("train_model", "again", {"day": day(9).isoformat()})
    receipts = read_receipts(serving.lake, "fraud", "fraud.train_model.again")
    again = next(r for r in receipts if r.task == "train").result["Model"]
    assert again["version"] == trained.model.version  # type: ignore[index]
    assert len(serving.ledger.versions("fraud")) == count


def test_older_version_is_deployed_once_a_person_agrees_and_rolled_back(serving: Installation) -> None:
    first = serving.ledger.current("fraud")
    older = next(v for v in serving.ledger.versions("fraud") if v.model.backfill)
    assert first is not None
    assert _asked(serving, "refused", older.model.version, "Reject") == f"Deploy fraud {older.model.version}?"
    assert serving.ledger.current("fraud") == first
    _asked(serving, "older", older.model.version, "Approve")
    current = serving.ledger.current("fraud")
    assert current is not None
    assert (current.to_version, current.actor) == (older.model.version, "admin")
    assert current.reason == "an experiment; admin agreed"
    rolled = serving.evergreen("rollback", "fraud")
    assert rolled.returncode == 0, rolled.stderr
    assert serving.ledger.current("fraud").to_version == first.to_version  # type: ignore[union-attr]
    shown = serving.evergreen("history", "fraud")
    assert older.model.version in shown.stdout.replace("\n", "")
    assert serving.evergreen("audit", "verify").returncode == 0
    now = serving.evergreen("serving-at", "fraud", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    assert now.stdout.strip() == first.to_version


def _asked(installation: Installation, run: str, version: str, answer: str) -> str:
    """The question that a deployment asks before anything is done, which is over once it has its answer."""
    dag, airflow = "fraud.deploy_model", installation.airflow
    conf = {"version": version, "reason": "an experiment", "require_approval": True}
    airflow.trigger(dag, run_id=run, conf=conf)
    # Airflow fails a task that has its answer before the scheduler knows that its first process ended, which
    # takes a moment; no person answers within that.
    parked = f"task_id=approve, run_id={run},"
    wait_until(lambda: parked in installation.home.log("scheduler").read_text(), "a question")
    question = f"/dags/{dag}/dagRuns/{run}/taskInstances/approve/-1/hitlDetails"
    subject = str(airflow.get(question)["subject"])
    answered = airflow.send("PATCH", question, json={"chosen_options": [answer]})
    assert answered.status_code == httpx.codes.OK, answered.text
    airflow.wait(dag, run, lambda _: None, 900)
    return subject


def test_drift_is_reported_and_the_decision_recorded(serving: Installation) -> None:
    serving.succeed("monitor_drift", "watch", {"day": day(9).isoformat()})
    decisions = serving.ledger.decisions("fraud")
    assert [d.day for _, d in decisions] == [day(9)]
    assert not decisions[0][1].retrain
    assert decisions[0][1].reason


def test_monitoring_backfill_reports_and_decides_nothing(serving: Installation) -> None:
    backfill(serving, "fraud.monitor_drift", day(7), day(8))
    assert {day(7), day(8)} & {decision.day for _, decision in serving.ledger.decisions("fraud")} == set()
    assert serving.lake.objects.exists(f"reports/fraud/drift/{day(8)}.html")


def test_second_pipeline_goes_all_the_way_without_a_line_of_python(installation: Installation) -> None:
    backfill(installation, "visits.ingest_data", day(0), day(11))
    installation.succeed("train_model", "first", {"day": day(11).isoformat()}, pipeline="visits")
    wait_until(lambda: installation.ledger.current("visits") is not None, "a deployment of visits")
    tried = [r for r in read_receipts(installation.lake, "visits", "visits.train_model.first") if r.task[:3] == "try"]
    assert [r.task for r in tried] == [f"try_round_{n}.{i}" for n, count in ((1, 3), (2, 2)) for i in range(count)]
    _require_best_was_trained(installation, tried)
    row = {"visit": "v", "visitor": "p1", "pages": 39, "page": "page1", "event_time": "2026-01-01T00:00:00Z"}
    url = f"{installation.settings.serving_url}/v1/visits/predict"
    wait_until(lambda: httpx.post(url, json={"rows": [row]}, timeout=240).status_code == 200, "an answer")
    answer = httpx.post(url, json={"rows": [row, row | {"pages": 3}]}, timeout=240)
    likely, unlikely = answer.json()["predictions"]
    assert likely["score"] > unlikely["score"]


def _require_best_was_trained(installation: Installation, tried: list[Receipt]) -> None:
    """The model that went to the gate is of the configuration with the best validation score of the last round."""
    trials = [Trial.model_validate(receipt.result["Trial"]) for receipt in tried]
    best = max(trials[3:], key=lambda trial: trial.average_precision)
    receipts = {r.task: r for r in read_receipts(installation.lake, "visits", "visits.train_model.first")}
    recorded = Configuration.model_validate(receipts["choose_configuration"].result["Configuration"])
    assert sorted(t.model.digest for t in recorded.trials) == sorted(t.model.digest for t in trials)
    model = Model.model_validate(receipts["train"].result["Model"])
    config = json.loads(installation.lake.objects.get(f"{model.uri}/config.json"))
    assert config["training"]["learning_rate"] == best.configuration["learning_rate"]


def test_status_for_machines_has_the_promised_shape(serving: Installation) -> None:
    status = json.loads(serving.evergreen("status", "--json").stdout)
    fraud = status["pipelines"]["fraud"]
    assert fraud["days"] >= 10
    assert fraud["rows"] > 10_000
    assert fraud["champion"]["version"] == fraud["serving"]["version"]
    metric = fraud["champion"]["metrics"]["average_precision"]
    assert metric["low"] <= metric["value"] <= metric["high"]
    assert set(fraud) == {"days", "rows", "quarantined", "champion", "serving", "drift", "retrain"}
    assert status["airflow"]["url"].startswith("http://127.0.0.1:")


def test_two_runs_of_one_day_at_once_agree(ingested: Installation) -> None:
    for n in (1, 2):
        ingested.airflow.trigger("fraud.ingest_data", run_id=f"twin{n}", conf={"day": day(10).isoformat()})
    for n in (1, 2):
        ingested.airflow.wait("fraud.ingest_data", f"twin{n}", lambda run: None, 900)
    rows = ingested.lake.table("clean", "fraud").day(day(10))
    assert rows is not None
    assert rows.rows > 1000


def _pipelines(installation: Installation) -> list:  # type: ignore[type-arg]
    from evergreen.pipeline_file import read_pipelines

    return read_pipelines(installation.settings.pipelines)[0]
