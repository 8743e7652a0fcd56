"""Follows what the lake says is to serve: a new model is loaded and tried aside, then swapped in at once."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta

from evergreen.artifacts import Deployment
from evergreen.errors import EvergreenError
from evergreen.lake.deployments import published_deployment
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.serving.live_model import LiveModel, load_live_model

logger = logging.getLogger(__name__)


class ModelFollower:
    """The model of one pipeline. One thread calls `look`, any thread reads the attributes."""

    def __init__(self, pipeline: Pipeline, lake: Lake, *, retry_seconds: float) -> None:
        self._pipeline = pipeline
        self._lake = lake
        self._retry = timedelta(seconds=retry_seconds)
        self._again_at: datetime | None = None
        self.live: LiveModel | None = None
        """What serves; replaced by one assignment, so that no request sees half a model."""
        self.wanted: Deployment | None = None
        """What was last seen published."""
        self._unread: str | None = None
        """Why it cannot be seen what is published."""
        self._unloaded: str | None = None
        """Why `wanted` does not serve."""
        self.refusal: str | None = None
        """Why `wanted` can never serve as it is; a retry waits for it to be mended."""
        self.failures = 0
        """Loads that failed so far."""
        self.looked = False

    @property
    def error(self) -> str | None:
        """Why `wanted` does not serve, or what is published cannot be seen; None when neither is so."""
        return self._unread or self._unloaded

    @property
    def current(self) -> bool:
        """Whether what serves is what is published, and the lake was asked at all."""
        serves = self.live.version if self.live else None
        return self.looked and serves == (self.wanted.to_version if self.wanted else None)

    def look(self, now: datetime) -> None:
        """Takes up what is published now. An error keeps the model that serves, and is kept in `error`."""
        try:
            published = published_deployment(self._lake, self._pipeline.pipeline)
        except EvergreenError as error:
            self._unread = self._told(error)
            return
        self._unread = None
        if published == self.wanted and (self._again_at is None or now < self._again_at):
            self.looked = True
            return
        if published is not None:
            if published != self.wanted:
                self.refusal = None
            self.wanted = published
            self._take_up(published, now)
        self.looked = True

    def _take_up(self, deployment: Deployment, now: datetime) -> None:
        try:
            self.live = self._loaded(deployment, now)
        except EvergreenError as error:
            self.failures += 1
            self._again_at = now + self._retry
            self.refusal = None if error.retryable else str(error)
            self._unloaded = self._told(error)
            return
        self._unloaded = self.refusal = self._again_at = None
        logger.info("%s serves %s", deployment.pipeline, deployment.to_version)

    def _loaded(self, deployment: Deployment, now: datetime) -> LiveModel:
        live = self.live
        if live is not None and live.deployment.model_digest == deployment.model_digest:
            return replace(live, deployment=deployment)
        return load_live_model(self._pipeline, self._lake, deployment, now=now)

    def _told(self, error: EvergreenError) -> str:
        """The error's sentence, in the log too when it is news."""
        if str(error) not in (self._unread, self._unloaded):
            logger.error("%s keeps serving what it serves: %s", self._pipeline.pipeline, error)
        return str(error)
