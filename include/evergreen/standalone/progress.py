"""What is running, how far and how long: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.status import Status
from rich.text import Text

PLAIN_EVERY_SECONDS = 15.0


@dataclass
class Act:
    """One act of the story while it runs."""

    title: str
    console: Console
    live: Status | None
    started: float = field(default_factory=time.monotonic)
    said: str = ""
    printed: float = field(default_factory=time.monotonic)

    def say(self, words: str, share: float | None = None) -> None:
        """Shows the latest words; `share` from 0 to 1 adds how long the rest may take."""
        self.said = words
        seconds = time.monotonic() - self.started
        left = f", about {seconds / share - seconds:.0f} s left" if share else ""
        line = f"{self.title}: {words} ({seconds:.0f} s{left})"
        if self.live is not None:
            self.live.update(Text(line))
        elif time.monotonic() - self.printed > PLAIN_EVERY_SECONDS:
            self.printed = time.monotonic()
            self.console.out(f"  ... {line}", highlight=False)


@dataclass
class Progress:
    """The acts so far."""

    console: Console

    @contextmanager
    def act(self, title: str) -> Iterator[Act]:
        """One act: a live line while it runs, one line with its time and last words when it is done."""
        status = self.console.status(Text(title)) if self.console.is_terminal else None
        act = Act(title, self.console, status)
        if status is None:
            yield act
        else:
            with status:
                yield act
        seconds = time.monotonic() - act.started
        self.console.out(f"{seconds:6.1f} s  {title}. {act.said}", highlight=False)
