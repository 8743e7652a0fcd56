"""An intruder with every right in the database leaves traces that name the row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evergreen.errors import IntegrityError
from evergreen.lake.lake import Lake
from evergreen.ledger.anchor import ANCHOR, read_anchor, write_anchor
from evergreen.ledger.anchor import anchored as anchoring
from evergreen.ledger.chain import Anchor, Finding
from evergreen.ledger.ledger import Ledger


@pytest.fixture
def anchored(ledger: Ledger, judged: Callable[..., Any], lake: Lake) -> Ledger:
    """A ledger with four registrations and four deployments, its anchor in the lake."""
    for name in ("one", "two", "three", "four"):
        ledger.deploy(judged(name).register(ledger), actor="ann", reason=f"deploys {name}")
    write_anchor(ledger, lake)
    return ledger


def _found(findings: list[Finding]) -> list[tuple[str, str, int, int]]:
    return [(f.table, f.kind, f.first, f.last) for f in findings]


def test_untouched_ledger_is_whole(anchored: Ledger, lake: Lake) -> None:
    assert anchored.verify(read_anchor(lake)) == []


def test_anchor_is_absent_before_the_first_and_the_same_for_the_same_ledger(
    ledger: Ledger, judged: Callable[..., Any], lake: Lake
) -> None:
    assert read_anchor(lake) is None
    empty = write_anchor(ledger, lake)
    judged("one").register(ledger)
    first = write_anchor(ledger, lake)
    assert first.digest != empty.digest
    assert write_anchor(ledger, lake) == first
    assert read_anchor(lake) == ledger.heads()


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        ("UPDATE evergreen.deployments SET reason = 'better' WHERE sequence = 2", ("deployments", "edited", 2, 2)),
        (
            "UPDATE evergreen.deployments SET at = at + interval '1 us' WHERE sequence = 4",
            ("deployments", "edited", 4, 4),
        ),
        ("UPDATE evergreen.deployments SET from_version = NULL WHERE sequence = 3", ("deployments", "edited", 3, 3)),
        (
            "UPDATE evergreen.model_versions SET verdict = replace(verdict::text, 'true', 'false')::json "
            "WHERE sequence = 1",
            ("model_versions", "edited", 1, 1),
        ),
        ("DELETE FROM evergreen.deployments WHERE sequence = 1", ("deployments", "missing", 1, 1)),
        ("DELETE FROM evergreen.deployments WHERE sequence IN (2, 3)", ("deployments", "missing", 2, 3)),
        ("DELETE FROM evergreen.deployments WHERE sequence >= 3", ("deployments", "missing", 3, 4)),
        ("TRUNCATE evergreen.model_versions", ("model_versions", "missing", 1, 4)),
    ],
)
def test_intruders_change_is_named(
    statement: str, wanted: tuple[str, str, int, int], anchored: Ledger, database: Any, lake: Lake
) -> None:
    database.tamper(statement)
    assert _found(anchored.verify(read_anchor(lake))) == [wanted]


def test_anchor_does_not_follow_a_ledger_that_lost_its_tail(anchored: Ledger, database: Any, lake: Lake) -> None:
    before = lake.objects.get(ANCHOR)
    database.tamper("DELETE FROM evergreen.deployments WHERE sequence = 4")
    with pytest.raises(IntegrityError, match="deployments row 4: missing"):
        write_anchor(anchored, lake)
    assert lake.objects.get(ANCHOR) == before


class Overtaken(Ledger):
    """A ledger whose reader is held up, once, between verifying and writing the anchor."""

    meanwhile: Callable[[], object] | None = None

    def verify(self, anchor: Anchor | None) -> list[Finding]:
        found = super().verify(anchor)
        if self.meanwhile:
            now, self.meanwhile = self.meanwhile, None
            now()
        return found


def test_what_a_failing_step_appended_is_anchored_too(anchored: Ledger, judged: Callable[..., Any], lake: Lake) -> None:
    def fail() -> None:
        with anchoring(anchored, lake):
            anchored.deploy(judged("one").model, actor="bob", reason="a rollout that fails")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert read_anchor(lake) == anchored.heads()


def test_slower_process_does_not_put_the_anchor_back(
    anchored: Ledger, database: Any, judged: Callable[..., Any], lake: Lake
) -> None:
    def another_process() -> None:
        anchored.deploy(judged("one").model, actor="bob", reason="meanwhile")
        write_anchor(anchored, lake)

    slow = Overtaken(database.url)
    slow.meanwhile = another_process
    written = write_anchor(slow, lake)
    assert read_anchor(lake) == anchored.heads()
    assert written.digest == lake.objects.digest(ANCHOR)
    database.tamper("DELETE FROM evergreen.deployments WHERE sequence = 5")
    assert _found(anchored.verify(read_anchor(lake))) == [("deployments", "missing", 5, 5)]


def test_rows_written_over_a_lost_tail_do_not_hide_it(
    anchored: Ledger, database: Any, judged: Callable[..., Any], lake: Lake
) -> None:
    database.tamper("DELETE FROM evergreen.deployments WHERE sequence = 4")
    for name in ("one", "two"):
        anchored.deploy(judged(name).model, actor="eve", reason="nothing happened")
    assert _found(anchored.verify(read_anchor(lake))) == [("deployments", "edited", 4, 4)]
