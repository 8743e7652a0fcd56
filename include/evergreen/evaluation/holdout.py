"""The holdout rows of a training set, scored by one model or by two."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from evergreen.artifacts import Model, TrainingSet
from evergreen.errors import DataError
from evergreen.evaluation.learned import Learned
from evergreen.evaluation.metrics import Integers
from evergreen.features.training_set import fetch_part
from evergreen.lake.lake import Lake
from evergreen.training.scorer import Scorer

logger = logging.getLogger(__name__)

BATCH_ROWS = 1 << 15
"""Rows scored at once. Part of the result: ONNX Runtime may round differently for other batch sizes."""
LABEL = "label"


@dataclass(frozen=True, kw_only=True, eq=False)
class Holdout:
    """B rows in the order of the file: labels, slice columns and scores; the features are not kept."""

    labels: npt.NDArray[np.int8]
    columns: pl.DataFrame
    """The slice columns, as strings; "" where missing."""
    scores: npt.NDArray[np.float32]
    champion_scores: npt.NDArray[np.float32] | None

    def slices(self, min_positives: int) -> dict[str, Integers]:
        """`column=value` -> indices of its rows, for values with at least `min_positives` positives, by name."""
        return {
            f"{column}={value or '(missing)'}": rows
            for column in self.columns.columns
            for value, rows in self._values(column, min_positives)
        }

    def _values(self, column: str, min_positives: int) -> Iterator[tuple[str, Integers]]:
        values = self.columns.get_column(column).alias("value")
        groups = pl.DataFrame([values, pl.Series("label", self.labels)]).with_row_index("row").group_by("value")
        kept = groups.agg("row", pl.col("label").cast(pl.Int64).sum()).filter(pl.col("label") >= min_positives)
        for value, rows, _ in kept.sort("value").iter_rows():
            yield value, np.sort(np.asarray(rows, np.int64))


def score_holdout(
    training_set: TrainingSet, slices: tuple[str, ...], model: Model, champion: Model | None, lake: Lake
) -> Holdout:
    """The holdout of `training_set` with the scores of `model` and, where it can score these rows, `champion`.

    Memory is one batch of features beside the scores. Raises NotFound or IntegrityError for a part or a
    model that is gone or altered, DataError for scores that are no numbers.
    """
    with holdout_file(training_set, lake) as path, pq.ParquetFile(path) as file:
        scorers = [Scorer.load(lake, model.uri, model.digest)]
        if champion is not None:
            scorers += _scorer_of(champion, training_set, file.schema_arrow.names, lake)
        labels, columns, scores = [], [], []
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            frame = pl.DataFrame(batch)
            labels.append(frame.get_column(LABEL).to_numpy())
            columns.append(frame.select(pl.col(slices).cast(pl.String).fill_null("")) if slices else pl.DataFrame())
            scores.append([scorer.score(frame) for scorer in scorers])
    joined = [np.concatenate([s[n] for s in scores] or [np.zeros(0, np.float32)]) for n in range(len(scorers))]
    for scored, name in zip(joined, [m.version for m in (model, champion) if m], strict=False):
        _require_numbers(name, scored)
    return Holdout(
        labels=np.concatenate(labels or [np.zeros(0, np.int8)]).astype(np.int8),
        columns=pl.concat(columns) if columns else pl.DataFrame({name: [] for name in slices}),
        scores=joined[0],
        champion_scores=joined[1] if len(joined) > 1 else None,
    )


@contextmanager
def holdout_file(training_set: TrainingSet, lake: Lake) -> Iterator[Path]:
    """A verified local copy of the holdout's Parquet file, for as long as the block lasts."""
    with TemporaryDirectory(prefix="evergreen-evaluate-") as folder:
        yield fetch_part(lake, training_set, "holdout", Path(folder))


def _scorer_of(champion: Model, training_set: TrainingSet, there: list[str], lake: Lake) -> list[Scorer]:
    """The champion's scorer; none when a feature it needs is gone from this training set or defined otherwise there."""
    scorer = Scorer.load(lake, champion.uri, champion.digest)
    needed = {*scorer.signature.numeric, *scorer.signature.categorical}
    gone, redefined = needed - set(there), needed & _redefined(champion, training_set, lake)
    for names, fate in ((gone, "gone"), (redefined, "defined otherwise now")):
        if names:
            listed = ", ".join(sorted(names))
            logger.warning("champion %s cannot be compared: features %s are %s", champion.version, listed, fate)
    return [] if gone or redefined else [scorer]


def _redefined(champion: Model, training_set: TrainingSet, lake: Lake) -> frozenset[str]:
    """Features that mean something else in `training_set` than the champion learned; none where that is not known."""
    then = Learned.of(champion.pipeline, champion.training_set, lake)
    now = Learned.of(training_set.pipeline, training_set.digest, lake)
    return now.redefined(then) if then and now else frozenset()


def _require_numbers(version: str, scores: npt.NDArray[np.float32]) -> None:
    bad = int(np.count_nonzero(~np.isfinite(scores)))
    if bad:
        raise DataError(
            f"Scores of {version}",
            found=f"{bad} of {len(scores)} that are no numbers",
            wanted="a probability for every row",
            remedy="Look at the training log for a loss that ran away, then train again.",
        )
