"""What a rollout needs of whatever serves."""

from __future__ import annotations

from typing import Protocol

from evergreen.artifacts import Deployment


class ServingTarget(Protocol):
    """Something that follows the published deployment and can be asked whether it answers with it."""

    def confirm(self, deployment: Deployment, timeout_seconds: float) -> None:
        """Returns once predictions of that very version come back.

        Raises TemporaryError when that does not happen in time, DataError when it never will.
        """
