"""Boosted trees (LightGBM): the other family of models, on the same encodings as the network.

B rows, F columns of numbers, E embedded categories. Trees take the numbers, target encodings among them, and each
embedded category as the log-odds of its level. LightGBM is imported where it is used, after torch: it then runs on
torch's OpenMP, and slim images need not have one of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evergreen.errors import ConfigurationError
from evergreen.pipeline import Training
from evergreen.training.encoders import Encoders
from evergreen.training.rows import Source

logger = logging.getLogger(__name__)

SHAPE: dict[str, Any] = {
    "objective": "binary",
    "metric": "average_precision",
    "min_data_in_leaf": 100,
    "lambda_l2": 10.0,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
}
"""Regularised for few positives: leaves of many rows, and rows and columns drawn anew for each tree."""
REPEATABLE: dict[str, Any] = {
    "deterministic": True,
    "force_row_wise": True,
    "feature_pre_filter": False,
    "verbosity": -1,
}
PATIENCE = 50
"""Trees without a better validation average precision before growing ends."""
TREES_BETWEEN_LINES = 50
ROWS_AT_ONCE = 65_536


@dataclass(frozen=True, kw_only=True)
class Trees:
    """Fitted trees."""

    text: str
    """The model in LightGBM's own format, cut after the best tree."""
    grown: int
    """Trees that were grown."""
    kept: int
    """Trees up to the best."""

    def logits(self, encoders: Encoders, rows: Source) -> npt.NDArray[np.float64]:
        """float64 [B]: sum of the leaves that each row falls into."""
        booster = _lightgbm().Booster(model_str=self.text)
        columns = _columns(encoders, rows, ROWS_AT_ONCE)
        return np.concatenate([booster.predict(some, raw_score=True, num_threads=1) for some in columns])


def fit_trees(
    encoders: Encoders, train: Source, validation: Source, training: Training, *, check: Callable[[], None]
) -> Trees:
    """Trees grown until validation average precision no longer rises; the same inputs give the same trees.

    `check` is called after each tree and may raise. Of a train part of more than `training.rows_in_memory` rows,
    evenly spaced ones are used.
    """
    lightgbm = _lightgbm()
    lightgbm.register_logger(logger, info_method_name="debug")
    parameters = SHAPE | REPEATABLE | _chosen(training)
    taught = lightgbm.Dataset(*_spaced(encoders, train, training.rows_in_memory), params=parameters)
    checked = taught.create_valid(*_spaced(encoders, validation, training.rows_in_memory), params=parameters)
    watch = _Watch(most=training.max_trees, check=check)
    booster = lightgbm.train(
        parameters,
        taught,
        training.max_trees,
        valid_sets=[checked],
        callbacks=[watch, lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    kept = booster.current_iteration()  # lightgbm.train leaves the trees up to the best one
    logger.info("grew %d trees, kept %d", watch.grown, kept)
    return Trees(text=booster.model_to_string(), grown=watch.grown, kept=kept)


def _chosen(training: Training) -> dict[str, Any]:
    return {
        "learning_rate": training.tree_learning_rate,
        "num_leaves": training.tree_leaves,
        "num_threads": training.threads,
        "seed": training.seed,
    }


def _spaced(encoders: Encoders, rows: Source, most: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """At most `most` evenly spaced rows: their columns and labels."""
    spacing = -(-rows.num_rows // most)
    parts, seen = [], 0
    for columns in _columns(encoders, rows, ROWS_AT_ONCE):
        parts.append(columns[-seen % spacing :: spacing])
        seen += len(columns)
    return np.concatenate(parts), rows.labels[::spacing]


def _columns(encoders: Encoders, rows: Source, rows_at_once: int) -> Iterator[npt.NDArray[np.float32]]:
    """float32 [at most `rows_at_once`, F + E] of all rows in order."""
    for some in rows.slices(rows_at_once):
        yield encoders.tree_columns(some.values.cpu().numpy(), some.indices.cpu().numpy())


@dataclass(kw_only=True, eq=False)
class _Watch:
    """Called by LightGBM after each tree."""

    most: int
    check: Callable[[], None]
    grown: int = 0

    def __call__(self, progress: Any) -> None:
        self.check()
        self.grown = progress.iteration + 1
        if self.grown % TREES_BETWEEN_LINES == 0:
            precision = progress.evaluation_result_list[0][2]
            logger.info("tree %d of at most %d: validation AP %.4f", self.grown, self.most, precision)


def _lightgbm() -> Any:
    """The library; ConfigurationError where the system lacks what it is linked to."""
    try:
        import lightgbm
    except OSError as error:
        raise ConfigurationError(
            "LightGBM",
            found=str(error),
            wanted="OpenMP from the system",
            remedy="Install it (on Debian: apt-get install libgomp1), or set training.family: network.",
        ) from error
    return lightgbm
