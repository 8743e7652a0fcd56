"""What a rollout needs of whatever serves."""

from __future__ import annotations

from typing import Protocol

from evergreen.artifacts import Deployment


class ServingTarget(Protocol):
    """Something that follows the published deployment and can be asked whether it answers with it."""

    def look(self) -> None:
        """Returns when it may be asked, whatever it would answer; nothing is changed by that.

        Raises ConfigurationError when it never may, TemporaryError when that cannot be found out now.
        """

    def confirm(self, deployment: Deployment, timeout_seconds: float) -> None:
        """Returns once predictions of that very version come back.

        Raises TemporaryError when that does not happen in time, DataError when it never will.
        """
