"""Whether an evaluated model may go live, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from evergreen.artifacts import Estimate, Evaluation, Verdict
from evergreen.pipeline import Gate, Pipeline


@dataclass(frozen=True)
class Check:
    """One rule held against one evaluation, in a sentence with the numbers."""

    passed: bool
    sentence: str


def decide(pipeline: Pipeline, evaluation: Evaluation) -> Verdict:
    """The verdict on `evaluation` under the spec's `gate`: approved when every rule below holds, with all reasons.

    1. The holdout has at least `min_positives` positives.
    2. Every metric named in `minimum` reaches it (the value itself, not its interval).
    Without a champion that is all, and the verdict says it was judged `absolute`. Against a champion also:
    3. The champion never learned from the holdout days.
    4. The average precision is better beyond doubt: the paired difference's interval lies above 0.
    5. No slice is surely and much worse: refused where the slice's difference has an interval below 0
       (`high < 0`) and a value below `-max_slice_loss`.
    """
    checks = [*_absolute(pipeline.gate, evaluation)]
    if evaluation.champion is not None:
        checks += _against_champion(pipeline.gate, evaluation)
    return Verdict(
        pipeline=evaluation.pipeline,
        version=evaluation.version,
        approved=all(check.passed for check in checks),
        judged="absolute" if evaluation.champion is None else "against champion",
        champion=evaluation.champion,
        reasons=tuple(check.sentence for check in checks),
    )


def _absolute(gate: Gate, evaluation: Evaluation) -> Iterator[Check]:
    enough = evaluation.positives >= gate.min_positives
    words = "enough for a judgement" if enough else "too few for a judgement"
    days = f"{evaluation.holdout_days[0]} to {evaluation.holdout_days[1]}"
    yield Check(
        enough,
        f"The holdout of {days} has {evaluation.positives} positives among {evaluation.rows} rows, {words} "
        f"(at least {gate.min_positives} are needed).",
    )
    for name, floor in gate.minimum.items():
        yield _reaches(name, evaluation.metrics.get(name), floor)


def _reaches(name: str, found: Estimate | None, floor: float) -> Check:
    if found is None:
        return Check(False, f"{name} is not defined on this holdout, so the minimum of {floor:.4f} is not reached.")
    passed = found.value >= floor
    words = "reaches" if passed else "is below"
    return Check(passed, f"{name} {_number(found)} {words} the minimum of {floor:.4f}.")


def _against_champion(gate: Gate, evaluation: Evaluation) -> Iterator[Check]:
    if evaluation.champion_saw_holdout:
        yield Check(
            False,
            f"The champion {evaluation.champion} learned from days of this holdout, so the comparison is not fair; "
            "train as of a later day.",
        )
    yield _better(evaluation)
    for name, difference in evaluation.slice_differences.items():
        refused = difference.high < 0 and difference.value < -gate.max_slice_loss
        words = "worse than" if refused else "within"
        yield Check(
            not refused,
            f"On {name} average precision differs by {_number(difference, signed=True)}, {words} the allowed loss "
            f"of {gate.max_slice_loss:.4f}.",
        )


def _better(evaluation: Evaluation) -> Check:
    champion, difference = evaluation.champion, evaluation.difference
    if difference is None:
        return Check(
            False,
            f"The champion {champion} cannot be compared on these rows (no positives, or it needs features that "
            "they lack or define otherwise); deploy by hand if that is intended.",
        )
    passed = difference.low > 0
    words = "better beyond doubt" if passed else "not better beyond doubt"
    return Check(
        passed,
        f"Against the champion {champion} average precision differs by {_number(difference, signed=True)}: {words} "
        "(the whole interval must lie above 0).",
    )


def _number(estimate: Estimate, *, signed: bool = False) -> str:
    form = "+.4f" if signed else ".4f"
    return f"{estimate.value:{form}} (95 % interval {estimate.low:{form}} to {estimate.high:{form}})"
