"""The serving microservice, asked over HTTP."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from evergreen.artifacts import Deployment
from evergreen.errors import DataError, TemporaryError

logger = logging.getLogger(__name__)
ASK_SECONDS = 0.1
REPLY_SECONDS = 5
UNAVAILABLE = (502, 503, 504)
"""Statuses of a service that has just started, or of a proxy before it: no word on the model."""


@dataclass(frozen=True)
class HttpServing:
    """The service at `url`; a ServingTarget."""

    url: str
    transport: httpx.BaseTransport | None = field(default=None, repr=False)
    """How to reach it, if not over the network."""

    def look(self) -> None:
        """Returns: anybody may ask, and a service that is down may be up again in time."""

    def confirm(self, deployment: Deployment, timeout_seconds: float) -> None:
        """Returns once the service has the version and scored example rows with it, leaving no trace.

        Raises TemporaryError when it does not within `timeout_seconds`, DataError when the service
        refuses the model or answers without probabilities.
        """
        started = time.monotonic()
        while (found := self.missing(deployment)) is not None:
            if time.monotonic() >= started + timeout_seconds:
                raise self._late(deployment, found)
            time.sleep(ASK_SECONDS)
        logger.info("%s answers with %s after %.1f s", self.url, deployment.to_version, time.monotonic() - started)

    def missing(self, deployment: Deployment) -> str | None:
        """What keeps the service from answering with the version, in words; None once it scored example rows.

        Raises DataError when it refuses the model or answers without probabilities, TemporaryError when
        another deployment came between.
        """
        with httpx.Client(base_url=self.url, timeout=REPLY_SECONDS, transport=self.transport) as client:
            try:
                return self._state(client, deployment) or self._smoke_test(client, deployment)
            except httpx.HTTPError as error:
                return f"no answer ({error})"
            except (ValueError, LookupError, TypeError):
                return "an answer that is not Evergreen's"

    def _state(self, client: httpx.Client, deployment: Deployment) -> str | None:
        answer = client.get(f"/v1/{deployment.pipeline}")
        if answer.status_code != 200:
            return f"status {answer.status_code}: {answer.text[:200]}"
        state: dict[str, Any] = answer.json()
        if state["version"] == deployment.to_version and state["ready"]:
            return None
        if state["published"] == deployment.to_version and state["refusal"]:
            raise self._refused(deployment, state["refusal"])
        return f"version {state['version']}" + "".join(f"; {error}" for error in state["errors"])

    def _smoke_test(self, client: httpx.Client, deployment: Deployment) -> str | None:
        answer = client.post(f"/v1/{deployment.pipeline}/probe")
        if answer.status_code != 200:
            found = f"status {answer.status_code} to example rows: {answer.text[:200]}"
            if answer.status_code in UNAVAILABLE:
                return found
            raise self._refused(deployment, found)
        body: dict[str, Any] = answer.json()
        scores = [prediction["score"] for prediction in body["predictions"]]
        if body["version"] != deployment.to_version:
            raise self._late(deployment, f"version {body['version']}, so another deployment came between")
        if not scores or not all(math.isfinite(score) and 0 <= score <= 1 for score in scores):
            raise self._refused(deployment, f"scores {scores} for example rows")
        return None

    def _late(self, deployment: Deployment, found: str) -> TemporaryError:
        return TemporaryError(
            f"Service {self.url}",
            found=found,
            wanted=f"answers of {deployment.pipeline} {deployment.to_version}",
            remedy=f"See whether it runs and what its /readyz and log say, then deploy {deployment.to_version} again.",
        )

    def _refused(self, deployment: Deployment, found: str) -> DataError:
        return DataError(
            f"Service {self.url}",
            found=found,
            wanted=f"probabilities of {deployment.pipeline} {deployment.to_version}",
            remedy="Train the model again, unless the service asks for something else.",
        )
