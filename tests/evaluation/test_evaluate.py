"""Evaluations of real ONNX models on real holdouts in a lake."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from evergreen.artifacts import Evaluation, Model, TrainingSet
from evergreen.errors import DataError, IntegrityError, NotFound
from evergreen.evaluation.evaluate import evaluate
from evergreen.evaluation.learning import Learning, Part, Point
from evergreen.evaluation.metrics import Ranking
from evergreen.lake.lake import Lake
from evergreen.lake.outputs import objects_of
from evergreen.pipeline import Pipeline

Store = Callable[..., TrainingSet]
Make = Callable[..., Model]


def _report(evaluation: Evaluation, lake: Lake) -> str:
    return lake.objects.get(evaluation.report.path).decode()


def test_metrics_are_those_of_the_models_scores(lake: Lake, fraud: Pipeline, store: Store, make_model: Make) -> None:
    training_set = store(lake)
    holdout = pl.read_parquet(lake.objects.root / training_set.uri / "holdout.parquet")
    evaluation = evaluate(fraud, make_model(lake, fraud), training_set, lake)
    label, amount = holdout["label"].to_numpy(), holdout["amount"].to_numpy()
    ranking = Ranking.of(label, amount)  # the toy's score rises with the amount
    assert (evaluation.rows, evaluation.positives) == (2000, label.sum())
    assert evaluation.holdout_days == training_set.holdout_days
    assert set(evaluation.metrics) == {
        "average_precision",
        "roc_auc",
        "brier",
        "calibration_error",
        "recall_at_1_percent",
    }
    for name, wanted in (
        ("average_precision", ranking.average_precision(np.ones(2000))),
        ("roc_auc", ranking.roc_auc(np.ones(2000))),
        ("brier", np.mean((1 / (1 + np.exp(4 - amount)) - label) ** 2)),
    ):
        found = evaluation.metrics[name]
        assert found.value == pytest.approx(wanted, abs=1e-4)  # the model counts in float32
        assert found.low < found.value < found.high
    assert evaluation.champion is None
    assert evaluation.difference is None
    assert not evaluation.champion_saw_holdout


def test_slices_have_their_own_average_precision(lake: Lake, fraud: Pipeline, store: Store, make_model: Make) -> None:
    training_set = store(lake)
    holdout = pl.read_parquet(lake.objects.root / training_set.uri / "holdout.parquet")
    evaluation = evaluate(fraud, make_model(lake, fraud), training_set, lake)
    assert list(evaluation.slices) == ["channel=atm", "channel=chip", "channel=online"]
    atm = holdout.filter(pl.col("channel") == "atm")
    wanted = Ranking.of(atm["label"].to_numpy(), atm["amount"].to_numpy()).average_precision(np.ones(atm.height))
    assert evaluation.slices["channel=atm"].value == pytest.approx(wanted)


def test_slice_with_few_positives_is_not_judged(
    lake: Lake, fraud: Pipeline, store: Store, rows: Callable[..., pl.DataFrame], make_model: Make
) -> None:
    frame = rows()
    in_atm = (pl.col("channel") == "atm") & (pl.col("label") == 1)
    kept = frame.filter(~in_atm | (in_atm.cast(pl.Int64).cum_sum() < fraud.gate.slice_min_positives))
    assert kept.filter(in_atm).height == fraud.gate.slice_min_positives - 1
    evaluation = evaluate(fraud, make_model(lake, fraud), store(lake, kept), lake)
    assert list(evaluation.slices) == ["channel=chip", "channel=online"]


def test_missing_slice_value_has_a_name(
    lake: Lake, fraud: Pipeline, store: Store, rows: Callable[..., pl.DataFrame], make_model: Make
) -> None:
    frame = rows().with_columns(pl.when(pl.col("channel") != "atm").then("channel").alias("channel"))
    evaluation = evaluate(fraud, make_model(lake, fraud), store(lake, frame), lake)
    assert list(evaluation.slices) == ["channel=(missing)", "channel=chip", "channel=online"]


def test_champion_is_compared_on_the_same_rows(lake: Lake, fraud: Pipeline, store: Store, make_model: Make) -> None:
    training_set = store(lake)
    good, bad = make_model(lake, fraud, slope=1.0), make_model(lake, fraud, slope=-1.0)
    evaluation = evaluate(fraud, good, training_set, lake, champion=bad)
    alone = evaluate(fraud, bad, training_set, lake)
    assert evaluation.champion == bad.version
    assert evaluation.champion_metrics == alone.metrics
    ours, theirs = evaluation.metrics["average_precision"], evaluation.champion_metrics["average_precision"]
    assert evaluation.difference.value == ours.value - theirs.value
    assert evaluation.difference.low > 0
    assert set(evaluation.slice_differences) == set(evaluation.slices)
    assert evaluation.slice_differences["channel=atm"].high < 0 < evaluation.slice_differences["channel=chip"].low


def test_champion_that_learned_from_the_holdout_is_told(
    lake: Lake, fraud: Pipeline, store: Store, make_model: Make
) -> None:
    later = store(lake, days_later=2)
    champion = make_model(lake, fraud, slope=-1.0, training_set=later.digest, as_of=later.as_of)
    assert evaluate(fraud, make_model(lake, fraud), store(lake), lake, champion=champion).champion_saw_holdout


def test_champion_against_itself_differs_by_nothing(
    lake: Lake, fraud: Pipeline, store: Store, make_model: Make
) -> None:
    model = make_model(lake, fraud)
    difference = evaluate(fraud, model, store(lake), lake, champion=model).difference
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_same_inputs_give_the_same_bytes(
    lake: Lake, fraud: Pipeline, store: Store, make_model: Make, tmp_path: Path
) -> None:
    written = []
    for there in (lake, Lake((tmp_path / "other").as_uri())):
        model, champion = make_model(there, fraud), make_model(there, fraud, slope=-1.0)
        evaluation = evaluate(fraud, model, store(there), there, champion=champion)
        saved, _ = objects_of(evaluation, there)
        written.append((there.objects.get(saved.path), _report(evaluation, there)))
        assert Evaluation.from_json(written[-1][0]) == evaluation
    assert written[0] == written[1]


def test_champion_that_needs_features_that_are_gone_is_not_compared(
    lake: Lake, fraud: Pipeline, store: Store, rows: Callable[..., pl.DataFrame], make_model: Make
) -> None:
    champion = make_model(lake, fraud, slope=-1.0)
    features = fraud.features.model_copy(update={"numeric": fraud.features.numeric[:-1]})
    leaner = fraud.model_copy(update={"features": features})
    training_set = store(lake, rows().drop(fraud.features.numeric[-1]))
    evaluation = evaluate(leaner, make_model(lake, leaner), training_set, lake, champion=champion)
    assert evaluation.champion == champion.version
    assert evaluation.difference is None
    assert evaluation.champion_metrics == {}
    assert evaluation.slice_differences == {}


@pytest.mark.parametrize(
    ("then", "now", "compared"),
    [
        ({"amount": "a", "gone": "a"}, {"amount": "a", "new": "a"}, True),
        ({"amount": "a", "hour": "a"}, {"amount": "b", "hour": "b"}, False),
        (None, {"amount": "b"}, True),
        ({"amount": "a"}, None, True),
    ],
    ids=["unchanged", "changed", "unknown then", "unknown now"],
)
def test_champion_whose_features_are_defined_otherwise_now_is_not_compared(
    lake: Lake,
    fraud: Pipeline,
    store: Store,
    make_model: Make,
    caplog: pytest.LogCaptureFixture,
    then: dict[str, str] | None,
    now: dict[str, str] | None,
    compared: bool,
) -> None:
    learned_from = store(lake, days_later=-3, definitions=then)
    champion = make_model(lake, fraud, slope=-1.0, training_set=learned_from.digest)
    caplog.set_level(logging.WARNING)
    evaluation = evaluate(fraud, make_model(lake, fraud), store(lake, definitions=now), lake, champion=champion)
    assert evaluation.champion == champion.version
    assert (evaluation.difference is not None) is compared
    said = f"champion {champion.version} cannot be compared: features amount, hour are defined otherwise now"
    assert (said in caplog.text) is not compared


def test_holdout_without_positives_gives_an_evaluation_without_ranking(
    lake: Lake, fraud: Pipeline, store: Store, rows: Callable[..., pl.DataFrame], make_model: Make
) -> None:
    training_set = store(lake, rows(share=0.0))
    champion = make_model(lake, fraud, slope=-1.0)
    evaluation = evaluate(fraud, make_model(lake, fraud), training_set, lake, champion=champion)
    assert set(evaluation.metrics) == {"brier", "calibration_error"}
    assert evaluation.difference is None
    assert evaluation.positives == 0
    assert "Does not pass the gate" in _report(evaluation, lake)
    assert Evaluation.from_json(evaluation.to_json()) == evaluation


def test_altered_holdout_is_refused(lake: Lake, fraud: Pipeline, store: Store, make_model: Make) -> None:
    training_set = store(lake)
    path = f"{training_set.uri}/holdout.parquet"
    lake.objects.put(path, lake.objects.get(path)[:-1] + b"!")
    with pytest.raises(IntegrityError, match="holdout"):
        evaluate(fraud, make_model(lake, fraud), training_set, lake)


def test_missing_training_set_is_refused(lake: Lake, fraud: Pipeline, store: Store, make_model: Make) -> None:
    training_set = store(lake)
    (lake.objects.root / training_set.uri / "holdout.parquet").unlink()
    with pytest.raises(NotFound, match="holdout"):
        evaluate(fraud, make_model(lake, fraud), training_set, lake)


def test_scores_that_are_no_numbers_are_refused(lake: Lake, fraud: Pipeline, store: Store, make_model: Make) -> None:
    model = make_model(lake, fraud, slope=float("nan"))
    with pytest.raises(DataError, match=rf"Scores of {model.version}: found 2000 of 2000 that are no numbers"):
        evaluate(fraud, model, store(lake), lake)


def test_report_is_one_page_without_scripts_or_outside_links(
    lake: Lake, fraud: Pipeline, store: Store, rows: Callable[..., pl.DataFrame], make_model: Make
) -> None:
    hostile = rows().with_columns(pl.col("channel").replace("atm", "<script>alert(1)</script>"))
    model, champion = make_model(lake, fraud), make_model(lake, fraud, slope=-1.0)
    page = _report(evaluate(fraud, model, store(lake, hostile), lake, champion=champion), lake)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)|@import|url\((?!#)""", page)
    assert "Does not pass the gate" in page  # as one slice is worse
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 3  # curves, slices, importance
    for picture in pictures:
        ElementTree.fromstring(picture)  # noqa: S314 our own
    assert f"{model.version}" in page
    assert champion.version in page


def test_pipeline_without_slices_is_evaluated(lake: Lake, fraud: Pipeline, store: Store, make_model: Make) -> None:
    plain = fraud.model_copy(update={"gate": fraud.gate.model_copy(update={"slices": ()})})
    evaluation = evaluate(plain, make_model(lake, plain), store(lake), lake)
    assert evaluation.slices == {}
    assert evaluation.metrics["roc_auc"].value > 0.5


def test_report_tells_the_parts_of_a_blend(
    lake: Lake, fraud: Pipeline, store: Store, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    curve = tuple(Point(epoch=n, loss=1 / n, average_precision=0.1 * n) for n in (1, 2, 3))
    network = Part(kind="network", weight=0.4, average_precision=0.3, best=3)
    trees = Part(kind="trees", weight=0.6, average_precision=0.35, best=212)
    learning = Learning(curve=curve, best_epoch=3, parts=(network, trees), trained=None)
    monkeypatch.setattr("evergreen.evaluation.evaluate.read_learning", lambda *_: learning)
    page = _report(evaluate(fraud, make_model(lake, fraud), store(lake), lake), lake)
    assert "212 trees" in page
    assert "epoch 3" in page
    assert "The first network's epochs." in page
