"""A model on the holdout, beside the champion on the very same rows."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import partial

import numpy as np
import numpy.typing as npt

from evergreen.artifacts import Estimate, Evaluation, Model, Receipt, TrainingSet
from evergreen.evaluation.bootstrap import Sampled, bootstrap
from evergreen.evaluation.holdout import Holdout, holdout_file, score_holdout
from evergreen.evaluation.importance import permutation_importance
from evergreen.evaluation.learning import read_learning
from evergreen.evaluation.metrics import Calibration, Integers, Ranking, Statistic
from evergreen.evaluation.overlap import saw_holdout
from evergreen.evaluation.report import publish_report
from evergreen.lake.lake import Lake
from evergreen.lake.outputs import evaluation_path
from evergreen.pipeline import Pipeline

logger = logging.getLogger(__name__)

AVERAGE_PRECISION = "average_precision"
REVIEW_SHARE = 0.01
"""Share of all events that people can look at; recall_at_1_percent is what they would find."""


def evaluate(
    pipeline: Pipeline,
    model: Model,
    training_set: TrainingSet,
    lake: Lake,
    *,
    champion: Model | None = None,
    trained: Receipt | None = None,
) -> Evaluation:
    """The evaluation of `model` on the holdout of `training_set`, saved in the lake with a report for people.

        evaluations/<pipeline>/<version>/<training set>-<champion>-<own digest>.json
        reports/<pipeline>/evaluation/<version>-<training set>-<champion>-<own digest>.html

    Of digests, the first 16 digits: what is evaluated again lies beside what earlier receipts name. `trained`, the
    training's receipt, lets the report say what it took. The same model, champion, training set, spec and `trained`
    give the same bytes. A metric that the rows do not define (no positives) is left out, and so is every comparison
    with a champion that needs features these rows lack or define otherwise. Raises NotFound or IntegrityError for a
    part or a model that is gone or altered.
    """
    started = time.monotonic()
    holdout = score_holdout(training_set, pipeline.gate.slices, model, champion, lake)
    slices = holdout.slices(pipeline.gate.slice_min_positives)
    evaluation = Evaluation(
        pipeline=pipeline.pipeline,
        version=model.version,
        training_set=training_set.digest,
        holdout_days=training_set.holdout_days,
        rows=len(holdout.labels),
        positives=int(np.count_nonzero(holdout.labels)),
        champion=champion.version if champion else None,
        champion_saw_holdout=champion is not None and saw_holdout(champion, training_set, lake),
        importance=_importance(training_set, model, lake),
        **_measure(holdout, slices, seed=int(training_set.digest[:16], 16)),
    )
    page = publish_report(pipeline, evaluation, holdout, read_learning(lake, model, trained), lake)
    evaluation = evaluation.model_copy(update={"report": page})
    path = evaluation_path(evaluation)
    lake.objects.put(path, evaluation.to_json().encode())
    logger.info(
        "evaluated %s on %d rows in %.1f s: %s", model.version, evaluation.rows, time.monotonic() - started, path
    )
    return evaluation


def _importance(training_set: TrainingSet, model: Model, lake: Lake) -> dict[str, float]:
    with holdout_file(training_set, lake) as path:
        return permutation_importance(path, model, lake, seed=int(training_set.digest[:16], 16))


def _measure(holdout: Holdout, slices: Mapping[str, Integers], *, seed: int) -> dict[str, object]:
    """The measured fields of an Evaluation, all from the same resamples."""
    scores = {"candidate": holdout.scores}
    if holdout.champion_scores is not None:
        scores["champion"] = holdout.champion_scores
    named = {
        (who, name): s for who, by in scores.items() for name, s in _statistics(holdout.labels, by, slices).items()
    }
    sampled = bootstrap(named, len(holdout.labels), seed=seed)
    candidate = {name: s for (who, name), s in sampled.items() if who == "candidate"}
    champion = {name: s for (who, name), s in sampled.items() if who == "champion"}
    differences = {name: candidate[name] - s for name, s in champion.items()}
    return {
        "metrics": _estimates(candidate, without=slices),
        "slices": _estimates({name: candidate[name] for name in slices}),
        "champion_metrics": _estimates(champion, without=slices),
        "difference": differences[AVERAGE_PRECISION].estimate() if differences else None,
        "slice_differences": _estimates({name: differences[name] for name in slices if differences}),
    }


def _statistics(
    labels: npt.NDArray[np.int8], scores: npt.NDArray[np.float32], slices: Mapping[str, Integers]
) -> dict[str, Statistic]:
    """Every metric of all rows by name, and the average precision of each slice by `column=value`."""
    ranking, calibration = Ranking.of(labels, scores), Calibration.of(labels, scores)
    return {
        AVERAGE_PRECISION: ranking.average_precision,
        "roc_auc": ranking.roc_auc,
        "brier": calibration.brier,
        "calibration_error": calibration.expected_error,
        "recall_at_1_percent": partial(ranking.recall_at, REVIEW_SHARE),
        **{name: Ranking.of(labels, scores, rows).average_precision for name, rows in slices.items()},
    }


def _estimates(sampled: Mapping[str, Sampled], *, without: Mapping[str, object] | None = None) -> dict[str, Estimate]:
    """The defined estimates, leaving out the names in `without`."""
    found = {name: s.estimate() for name, s in sampled.items() if name not in (without or {})}
    return {name: estimate for name, estimate in found.items() if estimate is not None}
