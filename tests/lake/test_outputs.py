"""What an artifact stands for in the lake: the tables and objects its receipt must prove."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date

import pyarrow as pa

from evergreen.artifacts import CleanBatch, Evaluation, Model
from evergreen.lake.lake import Lake
from evergreen.lake.outputs import evaluation_path, objects_of, tables_of
from evergreen.pipeline import Pipeline

DAY = date(2026, 11, 1)


def test_tables_and_objects_are_found_wherever_they_are_named(lake: Lake) -> None:
    clean = lake.table("clean", "fraud").replace_day(DAY, pa.table({"a": [1]}))
    quarantine = lake.table("quarantine", "fraud").replace_day(DAY, pa.table({"a": [2]}))
    report = lake.objects.put("reports/fraud/validation/x.html", b"<html>")
    batch = CleanBatch(
        pipeline="fraud", day=DAY, days=(clean,), quarantine=(quarantine,), quarantined={}, cleaned={}, report=report
    )
    assert tables_of(batch) == [clean, quarantine]
    assert objects_of(batch, lake) == [report]


def test_model_stands_for_every_file_of_its_manifest(
    lake: Lake, fraud: Pipeline, make_model: Callable[..., Model]
) -> None:
    model = make_model(lake, fraud)
    refs = {ref.path: ref.digest for ref in objects_of(model, lake)}
    assert refs.pop(f"{model.uri}/manifest.json") == model.digest
    manifest = json.loads(lake.objects.get(f"{model.uri}/manifest.json"))
    assert refs == {f"{model.uri}/{name}": digest for name, digest in manifest.items()}
    assert all(lake.objects.digest(path) == digest for path, digest in refs.items())


def test_evaluations_that_differ_lie_apart() -> None:
    days = (date(2026, 11, 1), date(2026, 11, 2))
    evaluation = Evaluation(
        pipeline="fraud",
        version="v",
        training_set="0123456789abcdef" * 4,
        holdout_days=days,
        rows=1,
        positives=0,
        metrics={},
        slices={},
    )
    folder = "evaluations/fraud/v/0123456789abcdef"
    others = [evaluation.model_copy(update=changes) for changes in ({"champion": "old"}, {"rows": 2})]
    paths = [evaluation_path(one) for one in (evaluation, *others)]
    assert [path.rsplit("-", 1)[0] for path in paths] == [f"{folder}-alone", f"{folder}-old", f"{folder}-alone"]
    assert len(set(paths)) == 3
