"""Average precision on later days: our models against LightGBM and XGBoost, tuned for the CPU time that ours cost.

Every approach runs in a process of its own on one thread and sees the same rows and encodings. The peers draw one
configuration after another until they have spent as much CPU time as our default did; the one with the best
validation average precision counts. Intervals are bootstrapped over the later rows, paired between approaches.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from benchmarks.labelled import make

from evergreen.artifacts import TrainingSet
from evergreen.evaluation.bootstrap import Sampled, bootstrap
from evergreen.evaluation.metrics import Calibration, Ranking
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline

OURS = "ours"
PEERS = ("lightgbm", "xgboost")
DEFAULT, NETWORK = "blend", "network"
FEWEST_TRIALS = 2
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One source under one seed, on disk."""

    pipeline: Pipeline
    folder: Path
    seed: int

    def frame(self, part: str) -> pl.DataFrame:
        """Rows of `train`, `validation` or `later`."""
        return pl.read_parquet(self.folder / f"{part}.parquet")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an approach made of a task."""

    scores: Floats
    """[B], of the later rows."""
    cpu_seconds: float
    """From rows on disk to a model."""
    said: str
    """Its choices, in a few words."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A source under all seeds."""

    seeds: tuple[int, ...]
    precision: dict[str, list[Sampled]]
    """Approach -> average precision by seed."""
    cpu_seconds: dict[str, float]
    """Mean over the seeds."""
    calibration: dict[str, tuple[float, float]]
    """Approach -> mean score over rate of positives, and expected calibration error; means over the seeds."""

    @property
    def best_peer(self) -> str:
        """The peer with the higher mean over the seeds."""
        return self._better_peer(slice(None))

    def _better_peer(self, chosen: slice) -> str:
        return max(PEERS, key=lambda peer: _mean(self.precision[peer][chosen]).value)

    def level(self, approach: str) -> dict[str, float]:
        """Average precision in the mean of all seeds."""
        return _interval(_mean(self.precision[approach]))

    def difference(self, approach: str, seed: int | None = None) -> dict[str, float]:
        """Average precision of `approach` less that of the better peer there, of one seed or in the mean of all."""
        chosen = slice(None) if seed is None else slice(self.seeds.index(seed), self.seeds.index(seed) + 1)
        peer = self._better_peer(chosen)
        return _interval(_mean(self.precision[approach][chosen]) - _mean(self.precision[peer][chosen]))

    def summary(self) -> dict[str, dict[str, float | None]]:
        """What `--json` prints: ours, the peers, the oracle, and the difference of ours and the better peer."""
        nothing: dict[str, float | None] = dict.fromkeys(("ap", "low", "high", "cpu_seconds"))
        named: dict[str, dict[str, float | None]] = {
            name: {**self.level(key), "cpu_seconds": self.cpu_seconds.get(key)} if key in self.precision else nothing
            for name, key in ((OURS, DEFAULT), *zip(PEERS, PEERS, strict=True), ("oracle", "oracle"))
        }
        return named | {"difference": dict(self.difference(DEFAULT))}


def judge(source: str, seeds: tuple[int, ...], *, jobs: int, families: tuple[str, ...]) -> Judged:
    """Every approach on the rows of `source`, made anew and judged for each seed; one approach a process."""
    precision: dict[str, list[Sampled]] = {}
    cost: dict[str, list[float]] = {}
    fit: dict[str, list[tuple[float, float]]] = {}
    context = get_context("spawn")
    with TemporaryDirectory(prefix="evergreen-quality-") as folder:
        with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as processes:
            judged = [processes.submit(_prepare, source, seed, Path(folder) / str(seed)) for seed in seeds]
            tasks = [future.result()[0] for future in judged]
            truths = [future.result()[1] for future in judged]
            own = {(f, t.seed): processes.submit(_ours, t, f) for t in tasks for f in families}
            peers = {
                (peer, t.seed): processes.submit(_peer, t, peer, own[DEFAULT, t.seed].result().cpu_seconds)
                for t in tasks
                for peer in PEERS
            }
            found = {key: future.result() for key, future in (own | peers).items()}
        for task, truth in zip(tasks, truths, strict=True):
            labels = task.frame("later")["label"].to_numpy()
            outcomes = {approach: found[approach, task.seed] for approach in (*families, *PEERS)}
            _require_scores(outcomes, labels)
            scores = {approach: outcome.scores for approach, outcome in outcomes.items()}
            sampled = _sampled(labels, scores if truth is None else scores | {"oracle": truth}, task.seed)
            for approach, sample in sampled.items():
                precision.setdefault(approach, []).append(sample)
            for approach, outcome in outcomes.items():
                cost.setdefault(approach, []).append(outcome.cpu_seconds)
                error = Calibration.of(labels, outcome.scores).expected_error(np.ones(labels.size))
                fit.setdefault(approach, []).append((outcome.scores.mean() / labels.mean(), error))
                print(f"  {source}, seed {task.seed}, {approach}: {outcome.said}", flush=True)
    return Judged(
        seeds=seeds,
        precision=precision,
        cpu_seconds={approach: float(np.mean(seconds)) for approach, seconds in cost.items()},
        calibration={a: (float(np.mean([r for r, _ in v])), float(np.mean([e for _, e in v]))) for a, v in fit.items()},
    )


def _prepare(source: str, seed: int, folder: Path) -> tuple[Task, Floats | None]:
    labelled = make(source, seed)
    folder.mkdir()
    for part, frame in labelled.parts.items():
        frame.write_parquet(folder / f"{part}.parquet")
    return Task(pipeline=labelled.pipeline, folder=folder, seed=seed), labelled.truth


def _ours(task: Task, family: str) -> Outcome:
    """The product's own trainer, from training set to stored model, and its scores from the stored graph."""
    from evergreen.training.scorer import Scorer
    from evergreen.training.train import train

    training = task.pipeline.training.model_copy(update={"threads": 1, "family": family})
    pipeline = task.pipeline.model_copy(update={"training": training})
    with TemporaryDirectory(prefix="evergreen-lake-") as folder:
        lake = Lake(Path(folder).as_uri())
        training_set = _training_set(lake, task)
        work = task.folder / family
        work.mkdir()
        started = time.process_time()
        model = train(pipeline, training_set, lake, seed=task.seed, work=work)
        cpu_seconds = time.process_time() - started
        scores = Scorer.load(lake, model.uri, model.digest).score(task.frame("later"))
        members = json.loads(lake.objects.get(f"{model.uri}/metrics.json"))["members"]
    said = ", ".join(f"{m['kind']} {m['best']}/{m['steps']} weight {m['weight']:.2f}" for m in members)
    return Outcome(scores=scores.astype(np.float64), cpu_seconds=cpu_seconds, said=said)


def _training_set(lake: Lake, task: Task) -> TrainingSet:
    """The task's parts as a training set; only the later rows, which nobody learns from, are left out."""
    frames = {"train": task.frame("train"), "validation": task.frame("validation")}
    frames["holdout"] = frames["validation"].head(0)
    parts = {}
    for name, frame in frames.items():
        written = BytesIO()
        frame.write_parquet(written)
        data = written.getvalue()
        parts[name] = {"digest": hashlib.sha256(data).hexdigest(), "rows": frame.height}
        lake.objects.put(f"training_sets/{name}.parquet", data)
    manifest = json.dumps({"parts": parts}).encode()
    lake.objects.put("training_sets/manifest.json", manifest)
    day = (date(2026, 9, 1), date(2026, 9, 1))
    return TrainingSet(
        pipeline=task.pipeline.pipeline,
        as_of=datetime(2026, 10, 1, tzinfo=UTC),
        digest=hashlib.sha256(manifest).hexdigest(),
        uri="training_sets",
        train_days=day,
        validation_days=day,
        holdout_days=day,
        rows={name: frame.height for name, frame in frames.items()},
        positives={name: int(frame["label"].sum()) for name, frame in frames.items()},
    )


def _peer(task: Task, peer: str, budget: float) -> Outcome:
    """The best of the configurations that fit into `budget` CPU seconds, at least two; the last one is finished."""
    started = time.process_time()
    parts = _columns(task)
    fit, draw = PEER_FITS[peer], np.random.default_rng(task.seed)
    best: tuple[float, Floats, dict[str, Any]] | None = None
    trials = 0
    while trials < FEWEST_TRIALS or time.process_time() - started < budget:
        parameters = PEER_SPACES[peer](draw, trials)
        precision, scores = fit(parameters, parts, task.seed)
        trials += 1
        if best is None or precision > best[0]:
            best = precision, scores, parameters
    assert best is not None
    cpu_seconds = time.process_time() - started
    chosen = ", ".join(f"{name} {value:.3g}" for name, value in best[2].items())
    return Outcome(scores=best[1], cpu_seconds=cpu_seconds, said=f"{trials} trials, best: {chosen}")


def _columns(task: Task) -> dict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Columns and labels of each part, encoded as our own trees see them; the train part out of fold."""
    from evergreen.training.dataset import read_examples
    from evergreen.training.encoders import fit_encoders
    from evergreen.training.scorer import Signature

    features = task.pipeline.features
    signature = Signature(numeric=features.numeric, categorical=features.categorical)
    examples = {p: read_examples(task.folder / f"{p}.parquet", signature) for p in ("train", "validation", "later")}
    encoders, own = fit_encoders(examples["train"])
    encoded = {"train": own, **{p: encoders.encode(examples[p]) for p in ("validation", "later")}}
    return {p: (encoders.tree_columns(e.numeric, e.categories), e.labels) for p, e in encoded.items()}


def _fit_lightgbm(parameters: dict[str, Any], parts: dict[str, Any], seed: int) -> tuple[float, Floats]:
    import lightgbm

    fixed = {"objective": "binary", "metric": "average_precision", "bagging_freq": 1, "verbosity": -1}
    fixed |= {"num_threads": 1, "seed": seed, "force_row_wise": True}
    taught = lightgbm.Dataset(*parts["train"])
    booster = lightgbm.train(
        fixed | parameters,
        taught,
        1500,
        valid_sets=[taught.create_valid(*parts["validation"])],
        callbacks=[lightgbm.early_stopping(50, verbose=False)],
    )
    precision = float(booster.best_score["valid_0"]["average_precision"])
    return precision, np.asarray(booster.predict(parts["later"][0], num_threads=1), np.float64)


def _fit_xgboost(parameters: dict[str, Any], parts: dict[str, Any], seed: int) -> tuple[float, Floats]:
    import xgboost

    fixed = {"objective": "binary:logistic", "eval_metric": "aucpr", "tree_method": "hist", "nthread": 1, "seed": seed}
    taught, checked = (xgboost.DMatrix(parts[p][0], parts[p][1], nthread=1) for p in ("train", "validation"))
    booster = xgboost.train(
        fixed | parameters, taught, 1500, evals=[(checked, "valid")], early_stopping_rounds=50, verbose_eval=False
    )
    later = xgboost.DMatrix(parts["later"][0], nthread=1)
    scores = booster.predict(later, iteration_range=(0, booster.best_iteration + 1))
    return float(booster.best_score), np.asarray(scores, np.float64)


def _lightgbm_space(draw: np.random.Generator, trial: int) -> dict[str, Any]:
    """First what suits few positives by experience, then draws around it."""
    if trial == 0:
        return {"num_leaves": 31, "learning_rate": 0.05, "min_data_in_leaf": 100, "lambda_l2": 10.0} | {
            "feature_fraction": 0.5,
            "bagging_fraction": 0.8,
        }
    return {
        "num_leaves": int(draw.choice([7, 15, 31, 63])),
        "learning_rate": float(np.exp(draw.uniform(np.log(0.03), np.log(0.15)))),
        "min_data_in_leaf": int(draw.choice([20, 50, 100, 300])),
        "lambda_l2": float(draw.choice([1, 10, 30])),
        "feature_fraction": float(draw.choice([0.3, 0.5, 0.8])),
        "bagging_fraction": float(draw.choice([0.5, 0.8, 1.0])),
    }


def _xgboost_space(draw: np.random.Generator, trial: int) -> dict[str, Any]:
    if trial == 0:
        return {"max_depth": 5, "learning_rate": 0.06, "min_child_weight": 5, "reg_lambda": 10.0} | {
            "colsample_bytree": 0.5,
            "subsample": 0.8,
        }
    return {
        "max_depth": int(draw.choice([3, 4, 5, 6, 7])),
        "learning_rate": float(np.exp(draw.uniform(np.log(0.03), np.log(0.15)))),
        "min_child_weight": float(draw.choice([1, 3, 10])),
        "reg_lambda": float(draw.choice([1, 10, 30])),
        "colsample_bytree": float(draw.choice([0.3, 0.5, 0.8])),
        "subsample": float(draw.choice([0.5, 0.8, 1.0])),
    }


PEER_FITS: Mapping[str, Callable[..., tuple[float, Floats]]] = {"lightgbm": _fit_lightgbm, "xgboost": _fit_xgboost}
PEER_SPACES: Mapping[str, Callable[..., dict[str, Any]]] = {"lightgbm": _lightgbm_space, "xgboost": _xgboost_space}


def _sampled(labels: npt.NDArray[np.int8], scores: Mapping[str, Floats], seed: int) -> dict[str, Sampled]:
    rankings = {approach: Ranking.of(labels, some).average_precision for approach, some in scores.items()}
    return bootstrap(rankings, labels.size, seed=seed)


def _require_scores(outcomes: Mapping[str, Outcome], labels: npt.NDArray[np.int8]) -> None:
    for approach, outcome in outcomes.items():
        sound = outcome.scores.shape == labels.shape and bool(np.isfinite(outcome.scores).all())
        assert sound and np.unique(outcome.scores).size > 100, f"{approach} gave no scores"  # noqa: PT018


def _mean(samples: list[Sampled]) -> Sampled:
    resampled = np.mean([sample.resampled for sample in samples], axis=0)
    return Sampled(float(np.mean([sample.value for sample in samples])), resampled)


def _interval(sample: Sampled) -> dict[str, float]:
    estimate = sample.estimate()
    assert estimate is not None
    return {"ap": estimate.value, "low": estimate.low, "high": estimate.high}
