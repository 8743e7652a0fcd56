"""What a model looks at: how much worse it ranks when one feature's values are shuffled (Breiman 2001)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from evergreen.artifacts import Model
from evergreen.evaluation.metrics import Ranking
from evergreen.lake.lake import Lake
from evergreen.training.scorer import Scorer

SAMPLE_ROWS = 20_000
LABEL = "label"


def permutation_importance(holdout: Path, model: Model, lake: Lake, *, seed: int) -> dict[str, float]:
    """Feature -> average precision lost when it is shuffled, the most important first; nothing without positives.

    Judged on up to 20,000 rows of the Parquet file `holdout`, evenly spaced, so that memory stays flat.
    """
    scorer = Scorer.load(lake, model.uri, model.digest)
    names = [*scorer.signature.numeric, *scorer.signature.categorical]
    rows = _sample(holdout, names)
    labels, random = rows[LABEL].to_numpy(), np.random.default_rng(seed)
    if not labels.any():
        return {}
    whole = _average_precision(scorer, rows, labels)
    order = random.permutation(rows.height)
    lost = {
        name: whole - _average_precision(scorer, rows.with_columns(rows[name][order].alias(name)), labels)
        for name in names
    }
    return dict(sorted(lost.items(), key=lambda item: -item[1]))


def _sample(path: Path, names: list[str]) -> pl.DataFrame:
    lazy = pl.scan_parquet(path).select(*names, LABEL)
    count = int(lazy.select(pl.len()).collect().item())
    return lazy.gather_every(max(1, -(-count // SAMPLE_ROWS))).collect()


def _average_precision(scorer: Scorer, rows: pl.DataFrame, labels: np.ndarray) -> float:
    value = Ranking.of(labels, scorer.score(rows)).average_precision(np.ones(rows.height))
    return float(value)
