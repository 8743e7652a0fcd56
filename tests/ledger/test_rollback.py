"""Where rollbacks lead: worked examples, then random stories against a plain model in memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from evergreen.ledger.ledger import Ledger
from evergreen.ledger.rollback import rollback_target

START = datetime(2026, 11, 1, tzinfo=UTC)
NAMES = ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("served", "target"),
    [
        ("", None),
        ("a", None),
        ("ab", "a"),
        ("abc", "b"),
        ("abcb", "a"),  # rolled back once: the next rollback goes further, not to c again
        ("abcba", None),
        ("abcbad", "a"),  # a new version on top of a leads back to a, not to the abandoned b and c
        ("aba", None),
        ("abab", "a"),
        ("abca", None),
    ],
)
def test_rollback_walks_back_and_never_forth(served: str, target: str | None) -> None:
    assert rollback_target(served) == target


class Story(RuleBasedStateMachine):
    """Deployments and rollbacks in any order; the model is a list of what served and the way here."""

    ledger: Ledger
    judged: Callable[..., Any]
    stories = count()

    @initialize()
    def begin(self) -> None:
        self.pipeline = f"story_{next(self.stories)}"  # rows cannot be taken away, so each story has its own
        self.served: list[tuple[datetime, str]] = []
        self.way: list[str] = []

    @rule(name=st.sampled_from(NAMES), minutes=st.integers(0, 2))
    def deploy(self, name: str, minutes: int) -> None:
        self._go(name, minutes)
        if name in self.way:
            self.way = self.way[: self.way.index(name) + 1]
        else:
            self.way.append(name)

    @rule(minutes=st.integers(0, 2))
    def roll_back(self, minutes: int) -> None:
        target = self.ledger.previous(self.pipeline)
        assert (target.to_version if target else None) == (self.way[-2] if len(self.way) > 1 else None)
        if target is not None:
            self._go(target.to_version, minutes)
            self.way.pop()

    @rule(minutes=st.integers(-1, 30))
    def ask_what_served(self, minutes: int) -> None:
        at = START + timedelta(minutes=minutes)
        wanted = [name for since, name in self.served if since <= at]
        found = self.ledger.serving_at(self.pipeline, at)
        assert (found.to_version if found else None) == (wanted[-1] if wanted else None)

    @invariant()
    def history_is_what_happened(self) -> None:
        history = self.ledger.history(self.pipeline)
        assert [(d.at, d.to_version) for d in history] == self.served
        current = self.ledger.current(self.pipeline)
        assert (current.to_version if current else None) == (self.way[-1] if self.way else None)

    def teardown(self) -> None:
        assert self.ledger.verify(None) == []

    def _go(self, name: str, minutes: int) -> None:
        at = (self.served[-1][0] if self.served else START) + timedelta(minutes=minutes)
        model = self.judged(name, pipeline=self.pipeline).register(self.ledger)
        deployment = self.ledger.deploy(model, actor="story", reason="told", at=at)
        if not self.served or self.served[-1][1] != name:
            self.served.append((at, name))
        assert deployment.to_version == name


def test_ledger_agrees_with_a_model_in_memory(ledger: Ledger, judged: Callable[..., Any]) -> None:
    story = type("LedgerStory", (Story,), {"ledger": ledger, "judged": staticmethod(judged)})
    run_state_machine_as_test(
        story,
        settings=settings(
            max_examples=20,
            stateful_step_count=12,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
