"""The gate's rules, one by one, on evaluations made by hand."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from evergreen.artifacts import Estimate, Evaluation, Verdict
from evergreen.evaluation.gate import decide
from evergreen.pipeline import Pipeline

BETTER = Estimate(value=0.05, low=0.01, high=0.09)


@pytest.fixture
def pipeline(fraud: Pipeline) -> Pipeline:
    """The fraud pipeline with round thresholds."""
    gate = {"minimum": {"average_precision": 0.2, "roc_auc": 0.8}, "min_positives": 50, "max_slice_loss": 0.1}
    return fraud.model_copy(update={"gate": fraud.gate.model_copy(update=gate)})


def _estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.05, high=value + 0.05)


def _evaluation(**changes: Any) -> Evaluation:
    fields: dict[str, Any] = {
        "pipeline": "fraud",
        "version": "new",
        "training_set": "0" * 64,
        "holdout_days": (date(2026, 11, 1), date(2026, 11, 2)),
        "rows": 40_000,
        "positives": 200,
        "metrics": {"average_precision": _estimate(0.4), "roc_auc": _estimate(0.9)},
        "slices": {},
    }
    return Evaluation(**fields | changes)


def _challenge(**changes: Any) -> Evaluation:
    return _evaluation(champion="old", difference=BETTER, **changes)


def _refusals(verdict: Verdict, passed: Verdict) -> list[str]:
    return [reason for reason in verdict.reasons if reason not in passed.reasons]


def test_first_model_is_judged_by_absolute_thresholds(pipeline: Pipeline) -> None:
    verdict = decide(pipeline, _evaluation())
    assert verdict.approved
    assert (verdict.judged, verdict.champion) == ("absolute", None)
    assert verdict.reasons == (
        "The holdout of 2026-11-01 to 2026-11-02 has 200 positives among 40000 rows, enough for a judgement "
        "(at least 50 are needed).",
        "average_precision 0.4000 (95 % interval 0.3500 to 0.4500) reaches the minimum of 0.2000.",
        "roc_auc 0.9000 (95 % interval 0.8500 to 0.9500) reaches the minimum of 0.8000.",
    )


def test_value_at_the_minimum_reaches_it(pipeline: Pipeline) -> None:
    metrics = {"average_precision": _estimate(0.2), "roc_auc": _estimate(0.8)}
    assert decide(pipeline, _evaluation(metrics=metrics, positives=50)).approved


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"positives": 49}, "49 positives among 40000 rows, too few for a judgement (at least 50 are needed)"),
        (
            {"metrics": {"average_precision": _estimate(0.1999), "roc_auc": _estimate(0.9)}},
            "average_precision 0.1999 (95 % interval 0.1499 to 0.2499) is below the minimum of 0.2000.",
        ),
        (
            {"metrics": {"average_precision": _estimate(0.4)}},
            "roc_auc is not defined on this holdout, so the minimum of 0.8000 is not reached.",
        ),
    ],
    ids=["few positives", "below the minimum", "undefined metric"],
)
@pytest.mark.parametrize("make", [_evaluation, _challenge])
def test_absolute_rules_refuse_every_model(make: Any, changes: dict[str, Any], reason: str, pipeline: Pipeline) -> None:
    verdict = decide(pipeline, make(**changes))
    assert not verdict.approved
    refusals = _refusals(verdict, decide(pipeline, make()))
    assert len(refusals) == 1
    assert reason in refusals[0]


def test_challenger_that_is_surely_better_is_approved(pipeline: Pipeline) -> None:
    verdict = decide(pipeline, _challenge())
    assert verdict.approved
    assert (verdict.judged, verdict.champion) == ("against champion", "old")
    assert verdict.reasons[-1] == (
        "Against the champion old average precision differs by +0.0500 (95 % interval +0.0100 to +0.0900): better "
        "beyond doubt (the whole interval must lie above 0)."
    )


@pytest.mark.parametrize(
    "difference",
    [
        Estimate(value=0.05, low=0.0, high=0.1),
        Estimate(value=0.05, low=-0.001, high=0.1),
        Estimate(value=0.0, low=0.0, high=0.0),
        Estimate(value=-0.1, low=-0.2, high=-0.05),
    ],
    ids=["touches zero", "crosses zero", "the champion itself", "worse"],
)
def test_challenger_that_may_be_no_better_is_refused(difference: Estimate, pipeline: Pipeline) -> None:
    verdict = decide(pipeline, _evaluation(champion="old", difference=difference))
    assert not verdict.approved
    assert "not better beyond doubt" in verdict.reasons[-1]


def test_champion_that_cannot_be_compared_refuses(pipeline: Pipeline) -> None:
    verdict = decide(pipeline, _evaluation(champion="old", difference=None))
    assert not verdict.approved
    assert "old cannot be compared" in verdict.reasons[-1]


def test_champion_that_saw_the_holdout_refuses(pipeline: Pipeline) -> None:
    verdict = decide(pipeline, _challenge(champion_saw_holdout=True))
    assert not verdict.approved
    refusals = _refusals(verdict, decide(pipeline, _challenge()))
    assert len(refusals) == 1
    assert "learned from days of this holdout" in refusals[0]


@pytest.mark.parametrize(
    ("difference", "approved"),
    [
        (Estimate(value=0.1, low=0.0, high=0.2), True),
        (Estimate(value=-0.3, low=-0.6, high=0.0), True),
        (Estimate(value=-0.1, low=-0.15, high=-0.05), True),
        (Estimate(value=-0.11, low=-0.15, high=-0.001), False),
        (Estimate(value=-0.3, low=-0.4, high=-0.2), False),
    ],
    ids=["better", "perhaps no worse", "surely worse, by what is allowed", "surely worse, by more", "much worse"],
)
def test_slice_refuses_only_when_surely_and_much_worse(
    difference: Estimate, approved: bool, pipeline: Pipeline
) -> None:
    fine = Estimate(value=0.0, low=-0.1, high=0.1)
    verdict = decide(pipeline, _challenge(slice_differences={"channel=chip": fine, "channel=atm": difference}))
    assert verdict.approved is approved
    assert verdict.reasons[-1].startswith("On channel=atm average precision differs by")
    assert ("worse than the allowed loss of 0.1000" in verdict.reasons[-1]) is not approved
