"""SIGTERM as a polite request: finish the batch, then stop in a way the next try can resume."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from evergreen.errors import TemporaryError


class Interruption:
    """Whether somebody asked the process to end."""

    def __init__(self, then: Callable[[], None] | None = None) -> None:
        self.asked = False
        self.then = then
        """What is done at once when the request comes."""

    def check(self) -> None:
        """Nothing, or TemporaryError once SIGTERM came."""
        if self.asked:
            self.stop()

    def stop(self) -> NoReturn:
        """TemporaryError: this process, or one it works with, was asked to end."""
        raise TemporaryError(
            "Training",
            found="SIGTERM",
            wanted="to run to its end",
            remedy="The next try resumes from the last checkpoint.",
        )

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        self.asked = True
        if self.then is not None:
            self.then()


@contextmanager
def interruptible(then: Callable[[], None] | None = None) -> Iterator[Interruption]:
    """An Interruption that SIGTERM sets inside; outside the main thread, where Python has no signals, nothing does."""
    interruption = Interruption(then)
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = signal.signal(signal.SIGTERM, interruption._ask)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGTERM, before)
