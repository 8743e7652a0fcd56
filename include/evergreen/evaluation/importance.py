"""What a model looks at: how much worse it ranks when one feature's values are shuffled (Breiman 2001)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

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
    file, columns = pq.ParquetFile(path), [*names, LABEL]
    every, seen = max(1, -(-file.metadata.num_rows // SAMPLE_ROWS)), 0
    chosen = [pl.DataFrame(file.schema_arrow.empty_table().select(columns))]
    for batch in file.iter_batches(columns=columns):
        chosen.append(pl.DataFrame(batch).select(columns).gather_every(every, -seen % every))
        seen += batch.num_rows
    return pl.concat(chosen)


def _average_precision(scorer: Scorer, rows: pl.DataFrame, labels: np.ndarray) -> float:
    value = Ranking.of(labels, scorer.score(rows)).average_precision(np.ones(rows.height))
    return float(value)
