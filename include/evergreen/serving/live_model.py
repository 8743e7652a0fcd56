"""A model that is ready to answer: loaded, warmed and tried on example rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from evergreen.artifacts import Deployment
from evergreen.errors import DataError, EvergreenError, IntegrityError
from evergreen.features.compute import compute_features
from evergreen.lake.lake import Lake
from evergreen.pipeline import ColumnSpec, Pipeline
from evergreen.serving.learned_features import as_learned
from evergreen.training.scorer import Scorer

TIME = pl.Datetime("us", "UTC")
EXAMPLES: Mapping[str, pl.Series] = {
    "string": pl.Series(["example", "example"], dtype=pl.String),
    "integer": pl.Series([1, 2], dtype=pl.Int64),
    "float": pl.Series([1.0, 2.0], dtype=pl.Float64),
    "boolean": pl.Series([False, True], dtype=pl.Boolean),
    "timestamp": pl.Series([datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)], dtype=TIME),
}


@dataclass(frozen=True, kw_only=True)
class LiveModel:
    """What answers now, and since when this process lets it."""

    deployment: Deployment
    pipeline: Pipeline
    """The pipeline, with features that mean what they meant when the model learned them."""
    scorer: Scorer
    since: datetime

    @property
    def version(self) -> str:
        return self.deployment.to_version

    def score(self, features: pl.DataFrame) -> npt.NDArray[np.float32]:
        """float32 [rows]: the probability of each; DataError when one is no probability."""
        scores = self.scorer.score(features)
        good = (scores >= 0) & (scores <= 1)
        if len(scores) != features.height or not good.all():
            raise DataError(
                f"Model {self.version}",
                found=f"{int(good.sum())} probabilities",
                wanted=f"{features.height}, one a row",
                remedy="Roll back to the version before, then train again.",
            )
        return scores


def load_live_model(pipeline: Pipeline, lake: Lake, deployment: Deployment, *, now: datetime) -> LiveModel:
    """The deployment's model, every byte verified, after it scored the example rows.

    Raises IntegrityError when it is not the recorded model or its features cannot be computed as it learned them.
    """
    scorer = Scorer.load(lake, deployment.model_uri, deployment.model_digest)
    learned = as_learned(pipeline, lake, deployment, scorer.signature)
    model = LiveModel(deployment=deployment, pipeline=learned, scorer=scorer, since=now)
    _try(model)
    return model


def _try(model: LiveModel) -> None:
    rows = example_rows(model.pipeline)
    features = compute_features(model.pipeline, rows, rows)
    try:
        model.score(features)
    except EvergreenError:
        raise
    except Exception as error:  # onnxruntime raises many unrelated classes for a graph that does not fit its inputs
        raise IntegrityError(
            f"Model {model.version}",
            found=str(error).splitlines()[0],
            wanted="a score for each example row",
            remedy="Train the model again.",
        ) from error


def example_rows(pipeline: Pipeline) -> pl.DataFrame:
    """Two clean rows a day apart, the same ones always, that keep the contract's types."""
    columns = {name: _example(spec) for name, spec in pipeline.contract.columns.items()}
    times = EXAMPLES["timestamp"]
    no_time = pl.Series([None, None], dtype=TIME)
    return pl.DataFrame(columns | {"event_time": times, "known_at": times, "superseded_at": no_time})


def _example(spec: ColumnSpec) -> pl.Series:
    """The contract's example twice, or this module's own where it has none."""
    own = EXAMPLES[spec.type]
    return own if spec.example is None else pl.Series([spec.example] * 2).cast(own.dtype, strict=False)
