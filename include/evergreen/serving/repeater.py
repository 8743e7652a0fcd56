"""A thread that does one thing again and again, and keeps going when it fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)


class Repeater:
    """Calls `action` every `seconds`, sooner when woken, until it is stopped."""

    def __init__(self, name: str, action: Callable[[], None], seconds: float) -> None:
        self._name = name
        self._action = action
        self._seconds = seconds
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.error: str | None = None
        """What the last call raised; None when it went well."""

    def start(self) -> None:
        """Begins with a first call at once."""
        self._thread.start()

    def wake(self) -> None:
        """Makes the next call happen now."""
        self._wake.set()

    def stop(self) -> None:
        """Returns when no call runs and none will."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def attempt(self) -> None:
        """One call; what it raises is kept in `error` and logged when it is news."""
        try:
            self._action()
            self.error = None
        except Exception as error:  # a dead thread would look like a healthy service: say it and try again
            if str(error) != self.error:
                logger.exception("%s failed and will be tried again", self._name)
            self.error = str(error)

    def _run(self) -> None:
        while not self._stopping:
            self.attempt()
            self._wake.wait(self._seconds)
            self._wake.clear()
