"""Everything one pipeline needs to be served, and the threads that keep it fresh."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from evergreen.features.definitions import check_features
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.serving.config import ServingConfig
from evergreen.serving.follower import ModelFollower
from evergreen.serving.history import History
from evergreen.serving.prediction_log import PredictionLog
from evergreen.serving.predictor import Predictor
from evergreen.serving.repeater import Repeater
from evergreen.serving.request_rows import RowDecoder


class Service:
    """One pipeline being served; ConfigurationError when its features cannot be computed."""

    def __init__(self, pipeline: Pipeline, lake: Lake, journal: Path, config: ServingConfig) -> None:
        check_features(pipeline)
        self.pipeline = pipeline
        self.history = History(pipeline, lake, tail_rows=config.tail_rows)
        self.follower = ModelFollower(pipeline, lake, retry_seconds=config.retry_seconds)
        self.log = PredictionLog(pipeline, lake, journal, config)
        self.predictor = Predictor(
            pipeline, RowDecoder(pipeline, max_rows=config.max_rows), self.history, self.follower, self.log
        )
        name = pipeline.pipeline
        self._models = Repeater(f"model of {name}", self._look, config.model_poll_seconds)
        self._events = Repeater(f"history of {name}", self.history.refresh, config.history_poll_seconds)

    def start(self) -> None:
        """Returns at once; the model and the history come when they are loaded."""
        self.log.start()
        self._events.start()
        self._models.start()

    def stop(self) -> None:
        """Returns when what was predicted is in the lake, or in the journal if the lake is down."""
        self._models.stop()
        self._events.stop()
        self._events.attempt()  # the other replicas go on with what this one served last
        self.log.stop()

    @property
    def errors(self) -> list[str]:
        """What is wrong now, in plain words."""
        found = (self.follower.error, self._models.error, self._events.error, self.log.error)
        return [error for error in found if error is not None]

    @property
    def ready(self) -> bool:
        """Whether it answers with the published version, or rightly has none to answer with."""
        return self.follower.current and (self.follower.live is None or self.history.loaded)

    def describe(self) -> dict[str, object]:
        """What serves and what a request looks like, for `GET /v1/<pipeline>`."""
        live, wanted = self.follower.live, self.follower.wanted
        return {
            "pipeline": self.pipeline.pipeline,
            "purpose": self.pipeline.purpose,
            "version": live.version if live else None,
            "since": live.since.isoformat() if live else None,
            "published": wanted.to_version if wanted else None,
            "ready": self.ready,
            "refusal": self.follower.refusal,
            "errors": self.errors,
            "row": self._row(),
            "signature": live.scorer.signature.model_dump() if live else None,
        }

    def _row(self) -> dict[str, dict[str, object]]:
        columns = {name: spec.model_dump(exclude_none=True) for name, spec in self.pipeline.contract.columns.items()}
        return {**columns, "event_time": {"type": "timestamp", "nullable": False}}

    def _look(self) -> None:
        self.follower.look(datetime.now(UTC))
