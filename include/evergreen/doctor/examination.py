"""All parts looked at side by side, each with its own time, so that a dead one delays no other."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Thread

from evergreen.doctor.check import Check, failed
from evergreen.settings import Settings

logger = logging.getLogger(__name__)
LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 18.0
"""Time for a part; an endpoint that never answers costs no more."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of an installation and the checks of it, in an order in which the later build on the earlier."""

    name: str
    examine: Callable[[Settings], Iterator[Check]]
    seconds: float = PATIENCE_SECONDS
    remedy: str = "See whether it runs and can be reached from here."


@dataclass
class _Look:
    """One part while it is being looked at."""

    part: Part
    settings: Settings
    checks: list[Check] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.started = time.monotonic()
        # A daemon: one that hangs in a library's call must not keep the process from ending.
        self.thread = Thread(target=self._look, name=f"doctor-{self.part.name}", daemon=True)
        self.thread.start()

    def _look(self) -> None:
        try:
            for check in self.part.examine(self.settings):
                self.checks.append(check)
        except Exception as error:  # a check that breaks is a finding, and the other parts' findings count all the same
            logger.debug("the checks of %s broke", self.part.name, exc_info=True)
            found = f"the check itself broke: {type(error).__name__}: {error}"
            self.checks.append(failed(self.part.name, found, "Please report it with this sentence."))

    @property
    def done(self) -> bool:
        return not self.thread.is_alive() or time.monotonic() - self.started > self.part.seconds

    def result(self) -> list[Check]:
        """What was found, and that the rest is missing if time ran out."""
        checks, late = list(self.checks), self.thread.is_alive()
        if not late:
            return list(self.checks)
        last = f" after {checks[-1].name}" if checks else ""
        return [
            *checks,
            failed("answers in time", f"nothing more within {self.part.seconds:.0f} s{last}", self.part.remedy),
        ]


def examine(
    settings: Settings, parts: Sequence[Part], on_waiting: Callable[[list[str]], None] = lambda names: None
) -> dict[str, list[Check]]:
    """Checks by part, in the order of `parts`, after the time of the slowest; `on_waiting` hears who is left."""
    looks = [_Look(part, settings) for part in parts]
    while waiting := [look.part.name for look in looks if not look.done]:
        on_waiting(waiting)
        time.sleep(LOOK_SECONDS)
    return {look.part.name: look.result() for look in looks}
