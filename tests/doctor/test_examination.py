"""Parts are looked at side by side; neither a dead one nor a broken check hides what the others found."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from rich.console import Console

from doctor.conftest import Make
from evergreen.doctor.check import Check, failed, not_applicable, ok, warning
from evergreen.doctor.examination import Part, examine
from evergreen.doctor.report import as_json, as_table, healthy, summary
from evergreen.doctor.secrecy import without_secrets
from evergreen.settings import Settings


def _well(settings: Settings) -> Iterator[Check]:
    yield ok("answers", "at once")


def _dead(settings: Settings) -> Iterator[Check]:
    yield ok("first", "still fine")
    time.sleep(600)
    yield ok("never", "seen")


def _broken(settings: Settings) -> Iterator[Check]:
    yield from ()  # a generator, as every examination is
    raise KeyError("surprise")


def test_dead_part_costs_its_own_time_and_is_named(settings_of: Make) -> None:
    parts = [Part(name="dead", examine=_dead, seconds=0.5, remedy="Wake it."), Part(name="well", examine=_well)]
    heard: list[list[str]] = []
    started = time.monotonic()
    found = examine(settings_of(), parts, heard.append)
    assert time.monotonic() - started < 60
    assert [check.state for check in found["well"]] == ["ok"]
    assert [check.state for check in found["dead"]] == ["ok", "failed"]
    assert "after first" in found["dead"][-1].found
    assert found["dead"][-1].remedy == "Wake it."
    assert ["dead"] in heard


def test_broken_check_is_a_finding_of_its_own(settings_of: Make) -> None:
    found = examine(settings_of(), [Part(name="broken", examine=_broken), Part(name="well", examine=_well)])
    assert found["broken"][0].state == "failed"
    assert "KeyError" in found["broken"][0].found
    assert found["well"][0].state == "ok"


def test_secrets_are_shown_by_nobody(settings_of: Make) -> None:
    settings = settings_of(
        AWS_ACCESS_KEY_ID="AKIAEXAMPLE",
        AWS_SECRET_ACCESS_KEY="s3cr3t/key",
        EVERGREEN_DATABASE_URL="postgresql+psycopg2://ann:pass%20word@db/evergreen",
        EVERGREEN_SERVING_TOKEN="tok3n-long",
    )
    said = "AKIAEXAMPLE s3cr3t/key pass%20word pass word tok3n-long"
    masked = without_secrets({"part": [failed("all", said, said)]}, settings)["part"][0]
    assert masked.found == masked.remedy == "*** *** *** *** ***"


def test_json_names_part_state_and_remedy() -> None:
    checks = {"lake": [ok("write", "an object"), warning("disk", "2 GiB", "Free it.")]}
    assert healthy(checks)
    shown = json.loads(json.dumps(as_json(checks)))
    assert shown["healthy"] is True
    assert shown["checks"][1] == {
        "part": "lake", "name": "disk", "state": "warning", "found": "2 GiB", "remedy": "Free it.",
    }  # fmt: skip


def test_table_shows_every_finding_with_its_remedy_letter_for_letter() -> None:
    checks = {
        "lake": [failed("write", "[Errno 13] refused :100:", "Mend [it].")],
        "cluster": [not_applicable("quota", "none")],
    }
    console = Console(width=100)
    with console.capture() as shown:
        console.print(as_table(checks))
    text = shown.get()
    assert all(words in text for words in ("[Errno 13] refused :100:", "-> Mend [it].", "not applicable", "failed"))
    assert summary(checks) == "1 failed, 1 not applicable"
    assert not healthy(checks)
