"""The DAG files load, are light, and are shaped as the design says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "pandas", "pyarrow", "deltalake", "great_expectations", "onnxruntime", "fastapi", "matplotlib")
LOOK = """
import json, sys, warnings
warnings.simplefilter("ignore")
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
bag = DagBag(sys.argv[1])
print("RESULT" + json.dumps({
    "errors": {k.rsplit("/", 1)[-1]: str(v) for k, v in bag.import_errors.items()},
    "dags": {d: {
        "tasks": {t.task_id: sorted(t.downstream_task_ids) for t in dag.tasks},
        "retries": {t.task_id: t.retries for t in dag.tasks},
        "pools": {t.task_id: t.pool for t in dag.tasks},
        "fails_on_paused": {t.task_id: getattr(t, "fail_when_dag_is_paused", None) for t in dag.tasks},
        "owner": dag.owner, "doc": dag.doc_md, "tags": sorted(dag.tags), "params": sorted(dag.params),
        "timeout": dag.dagrun_timeout.total_seconds(), "max_active_runs": dag.max_active_runs,
        "serializes": bool(DagSerialization.serialize_dag(dag)),
    } for d, dag in bag.dags.items()},
    "modules": [m for m in sys.modules if "." not in m],
}))
"""


def _look(folder: Path, home: Path, **variables: str) -> dict[str, Any]:
    environment = {
        "PATH": os.environ["PATH"],
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "EVERGREEN_HOME": str(home),
    }
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(folder)],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.split("RESULT", 1)[1])
    return result


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a fresh process finds in dags/."""
    return _look(PROJECT / "dags", tmp_path_factory.mktemp("airflow"))


def test_four_dags_a_pipeline_without_import_errors(bag: dict[str, Any]) -> None:
    assert bag["errors"] == {}
    assert set(bag["dags"]) == {f"fraud.{s}" for s in ("ingest_data", "train_model", "deploy_model", "monitor_drift")}
    assert all(dag["serializes"] for dag in bag["dags"].values())


def test_every_dag_says_what_it_is_and_whose(bag: dict[str, Any]) -> None:
    for dag in bag["dags"].values():
        assert dag["owner"] == "fraud-team"
        assert dag["doc"]
        assert dag["timeout"]
        assert "fraud" in dag["tags"]
        assert dag["params"]


def test_a_training_run_may_take_what_its_profiles_allow(bag: dict[str, Any]) -> None:
    profiles = yaml.safe_load((PROJECT / "include" / "profiles.yaml").read_text()).values()
    longest = max(p["deadline_seconds"] + 2 * p["schedule_timeout_seconds"] for p in profiles)
    assert bag["dags"]["fraud.train_model"]["timeout"] > 6 * 3600 + 4 * longest, "features, two trials, train, evaluate"


def test_parsing_imports_nothing_heavy(tmp_path: Path) -> None:
    probe = "import sys; sys.path.insert(0, sys.argv[1]); import ingest_data, train_model, deploy_model, monitor_drift"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"{probe}; print(*sys.modules)", str(PROJECT / "dags")],
        env={"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path), "EVERGREEN_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(HEAVY) & set(done.stdout.split()) == set()


def test_pods_share_the_gpu_pool_and_the_rest_does_not(bag: dict[str, Any]) -> None:
    pools = bag["dags"]["fraud.train_model"]["pools"]
    assert {task for task, pool in pools.items() if pool == "gpu"} == {"train", "evaluate"}


def test_a_model_is_judged_only_after_it_was_evaluated(bag: dict[str, Any]) -> None:
    tasks = bag["dags"]["fraud.train_model"]["tasks"]
    assert tasks["train"] == ["choose_champion"]  # what serves once training ended, not when it began
    assert tasks["choose_champion"] == ["evaluate"]
    assert tasks["evaluate"] == ["judge_model"]
    assert tasks["judge_model"] == ["publish_model"]


def test_a_question_nobody_answers_is_not_asked_again(bag: dict[str, Any]) -> None:
    retries = bag["dags"]["fraud.deploy_model"]["retries"]
    assert retries["approve"] == 0
    assert retries["roll_out"] == 2


def test_a_retrain_that_a_paused_dag_would_never_begin_is_red(bag: dict[str, Any]) -> None:
    assert bag["dags"]["fraud.monitor_drift"]["fails_on_paused"]["train_model"]


def test_broken_spec_is_reported_and_breaks_no_other(tmp_path: Path) -> None:
    specs = tmp_path / "specs"
    specs.mkdir()
    (specs / "fraud.yaml").write_text((PROJECT / "include" / "pipelines" / "fraud.yaml").read_text())
    (specs / "broken.yaml").write_text("pipeline: broken\nowner: x\nsauce: y\n")
    found = _look(PROJECT / "dags", tmp_path / "home", EVERGREEN_PIPELINES=str(specs))
    assert set(found["errors"]) == {"check_pipelines.py"}
    assert "broken.yaml" in found["errors"]["check_pipelines.py"]
    assert "sauce" in found["errors"]["check_pipelines.py"]
    assert len(found["dags"]) == 4


@pytest.mark.parametrize(
    ("good", "bad", "where", "said"),
    [
        ("profile: cpu-small", "profile: cpu-smal", "profile: ", "found profiles cpu-large, cpu-small"),
        ("hour(event_time)", "hour(amount_cents)", "    hour: ", "feature hour, expression 'hour(amount_cents)'"),
        ("    - card_count_1h\n", "    - card_count_1h\n" * 2, "    card_count_1h: ", "found the feature twice"),
    ],
    ids=["profile", "expression", "feature"],
)
def test_spec_that_asks_for_what_is_not_there_is_named_by_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: str, bad: str, where: str, said: str
) -> None:
    from evergreen.orchestration.pipelines import broken_pipelines

    text = (PROJECT / "include" / "pipelines" / "fraud.yaml").read_text()
    assert good in text
    (tmp_path / "fraud.yaml").write_text(text.replace(good, bad))
    monkeypatch.setenv("EVERGREEN_PIPELINES", str(tmp_path))
    (error,) = broken_pipelines()
    line = text[: text.index(where)].count("\n") + 1
    assert str(error).startswith(f"fraud.yaml line {line}: ")
    assert said in str(error)
