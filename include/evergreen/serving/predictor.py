"""From a request's bytes to scores and decisions: decode, remember, compute, score, log."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

import numpy as np
import numpy.typing as npt
import polars as pl

from evergreen.features.compute import compute_features
from evergreen.pipeline import Decisions, Pipeline
from evergreen.serving.follower import ModelFollower
from evergreen.serving.history import History
from evergreen.serving.live_model import LiveModel, example_rows
from evergreen.serving.prediction_log import PredictionLog
from evergreen.serving.refusal import Refused
from evergreen.serving.request_rows import RowDecoder

ANSWERED = ("prediction_id", "key", "score", "decision")


@dataclass(frozen=True)
class Predictions:
    """The answer to one request."""

    version: str
    rows: pl.DataFrame
    """prediction_id, key, score, decision; one row a row of the request, in its order."""

    def to_json(self) -> bytes:
        """The body of the answer."""
        return b'{"version":"%s","predictions":%s}' % (self.version.encode(), self.rows.write_json().encode())


class Predictor:
    """Answers the requests of one pipeline; one thread at a time."""

    def __init__(
        self, pipeline: Pipeline, decoder: RowDecoder, history: History, follower: ModelFollower, log: PredictionLog
    ) -> None:
        self._pipeline = pipeline
        self._decoder = decoder
        self._history = history
        self._follower = follower
        self._log = log

    def predict(self, body: bytes, now: datetime) -> Predictions:
        """The predictions for the rows in `body`, which are in the journal when this returns.

        Raises Refused for a request that will not do or while there is no model, LakeUnavailable when
        the journal cannot be written.
        """
        rows = self._decoder.decode(body)
        model = self._require_model()
        if not self._history.loaded:
            raise self._not_yet("no history of earlier events yet", "Try again in a moment; see /readyz.")
        predicted = self._predicted(model, rows, self._history.related(rows))
        self._log.append(predicted.with_columns(known_at=pl.lit(now, pl.Datetime("us", "UTC"))))
        self._history.add(rows)
        return Predictions(model.version, predicted.select(ANSWERED))

    def probe(self) -> Predictions:
        """The predictions for the built-in example rows; nothing remembers them."""
        model, rows = self._require_model(), example_rows(self._pipeline)
        return Predictions(model.version, self._predicted(model, rows, rows).select(ANSWERED))

    def _predicted(self, model: LiveModel, rows: pl.DataFrame, history: pl.DataFrame) -> pl.DataFrame:
        """Features with the log's own columns, one row a row; known_at is still the event's."""
        features = compute_features(model.pipeline, rows, history)
        scores = model.score(features)
        request = uuid.uuid4().hex
        return features.with_columns(
            rows[self._pipeline.contract.key].cast(pl.String).alias("key"),
            prediction_id=pl.format("{}-{}", pl.lit(request), pl.int_range(pl.len())),
            version=pl.lit(model.version),
            score=pl.Series(scores),
            decision=decisions(self._pipeline.deployment.decisions, scores),
        )

    def _require_model(self) -> LiveModel:
        model = self._follower.live
        if model is None:
            raise self._not_yet(
                self._follower.error or "no model yet", f"Run {self._pipeline.pipeline}.deploy_model; see /readyz."
            )
        return model

    def _not_yet(self, found: str, remedy: str) -> Refused:
        return Refused(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"Pipeline {self._pipeline.pipeline}",
            found=found,
            wanted="a service that is ready",
            remedy=remedy,
        )


def decisions(names: Decisions, scores: npt.NDArray[np.float32]) -> pl.Series:
    """String [rows]: the decision whose floor is the highest that the score reaches, else `otherwise`."""
    ascending = sorted(names.floors.items(), key=lambda named: named[1])
    floors = np.array([floor for _, floor in ascending])
    labels = pl.Series([names.otherwise, *(name for name, _ in ascending)])
    # a score is compared in its own precision: float32(0.1) reaches a floor of 0.1
    reached = np.searchsorted(floors.astype(np.float32), scores, side="right")
    return labels.gather(reached)
