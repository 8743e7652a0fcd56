"""Categories as indices (few levels) or as the smoothed log-odds of the label there (many levels)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

MOST_EMBEDDED_LEVELS = 60
"""Above it embeddings overfit within two epochs and target encoding wins (measured: +0.07 average precision)."""
PRIOR_POSITIVES = 1.0
"""Weight of the prior, in positives: a level is believed once its rows would hold about one by chance."""
FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Levels of one column, in index order from 1; index 0 is every level not seen in training.

    A column of one level says nothing, and so must a level not seen there: it counts as that one.
    """

    column: str
    levels: tuple[str, ...]
    log_odds: tuple[float, ...]
    """Smoothed, of the label in each level, minus the log-odds overall: the order in which trees see the levels."""

    def encode(self, values: pl.Series) -> npt.NDArray[np.int64]:
        """int64 [B]: index of each value."""
        known = codes(values, self.levels) + 1
        return np.where(known, known, self.unseen)

    @property
    def unseen(self) -> int:
        """Index of a level not seen in training."""
        return 1 if self.constant else 0

    @property
    def index_table(self) -> dict[str, Any]:
        """`encode` as the attributes of ONNX's LabelEncoder."""
        positions = list(range(1, len(self.levels) + 1))
        return {"keys_strings": list(self.levels), "values_int64s": positions, "default_int64": self.unseen}

    @property
    def constant(self) -> bool:
        """Whether training saw one level alone."""
        return len(self.levels) == 1

    @property
    def risks(self) -> npt.NDArray[np.float32]:
        """Log-odds by index: 0 for a level not seen, then those of the levels."""
        return np.array([0.0, *self.log_odds], np.float32)


@dataclass(frozen=True, kw_only=True)
class TargetEncoding:
    """Log-odds of the label by level of one column, minus the log-odds overall; 0 for a level not seen."""

    column: str
    levels: tuple[str, ...]
    log_odds: tuple[float, ...]

    def encode(self, values: pl.Series) -> npt.NDArray[np.float32]:
        """float32 [B]: log-odds of each value's level."""
        table = np.array([*self.log_odds, 0.0], np.float32)
        return table[codes(values, self.levels)]


def codes(values: pl.Series, levels: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """int64 [B]: position of each value among `levels`, -1 where it is not one of them."""
    return values.cast(pl.Enum(levels), strict=False).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()


def levels_of(values: pl.Series) -> tuple[str, ...]:
    """The distinct values, sorted."""
    return tuple(values.unique().sort().to_list())


def fit_vocabulary(values: pl.Series, labels: npt.NDArray[np.float32]) -> Vocabulary:
    """The vocabulary of a column of few levels."""
    levels = levels_of(values)
    level, prior = codes(values, levels), float(labels.mean(dtype=np.float64))
    rows = np.bincount(level, minlength=len(levels)).astype(np.int64)
    positives = np.bincount(level, labels, len(levels)).astype(np.float64)
    log_odds = tuple(_log_odds(positives, rows, prior).tolist())
    return Vocabulary(column=values.name, levels=levels, log_odds=log_odds)


def fit_target_encoding(
    values: pl.Series, labels: npt.NDArray[np.float32], *, folds: int = FOLDS
) -> tuple[TargetEncoding, npt.NDArray[np.float32]]:
    """The encoding fitted on all rows, and float32 [B]: each row's code fitted without its own fold.

    Folds are runs of neighbouring rows, so with rows in time order a burst cannot vouch for itself.
    Empirical Bayes after Micci-Barreca 2001, with the prior's weight scaled by prevalence.
    """
    levels = levels_of(values)
    level, fold = codes(values, levels), np.arange(labels.size) * folds // labels.size
    cell, shape = level * folds + fold, (len(levels), folds)
    rows = np.bincount(cell, minlength=shape[0] * folds).reshape(shape)
    positives = np.bincount(cell, weights=labels, minlength=shape[0] * folds).reshape(shape)
    prior = float(labels.mean(dtype=np.float64))
    everywhere = _log_odds(positives.sum(1), rows.sum(1), prior)
    elsewhere = _log_odds(positives.sum(1, keepdims=True) - positives, rows.sum(1, keepdims=True) - rows, prior)
    encoding = TargetEncoding(column=values.name, levels=levels, log_odds=tuple(everywhere.tolist()))
    return encoding, elsewhere[level, fold]


def _log_odds(positives: npt.NDArray[np.float64], rows: npt.NDArray[np.int64], prior: float) -> npt.NDArray[np.float32]:
    share = (positives + PRIOR_POSITIVES) / (rows + PRIOR_POSITIVES / prior)
    log_odds = np.log(share / (1 - share)) - np.log(prior / (1 - prior))
    return np.asarray(log_odds, np.float32)
