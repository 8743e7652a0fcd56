"""Free text reaches the terminal as it was written, and a pasted line gets in where serving asks for a token."""

from __future__ import annotations

import subprocess
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from evergreen.pipeline import Pipeline
from evergreen.settings import Settings
from evergreen.standalone.progress import Progress
from evergreen.standalone.screen import curl_line, show_status, show_ways_in

FREE_TEXT = "scores [nan, nan] at 12:100:30; see [/incident-42] and [bold]"
TOKEN = "tok3n-long"


@pytest.fixture
def console() -> Console:
    """A wide screen whose words can be read."""
    return Console(file=StringIO(), width=200)


def _shown(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def _settings(tmp_path: Path, **variables: str) -> Settings:
    return Settings.from_environment({"EVERGREEN_HOME": str(tmp_path), **variables})


@pytest.mark.parametrize("place", ["drift", "retrain"])
def test_status_shows_reasons_as_they_are(console: Console, place: str) -> None:
    one = {"days": 1, "rows": 2, "quarantined": {FREE_TEXT: 3}, "champion": None, "serving": None}
    sentence = {"as_of": "2026-11-01", "reason": FREE_TEXT}
    show_status(console, {"pipelines": {"fraud": one | {"drift": None, "retrain": None, place: sentence}}})
    assert f"3  {FREE_TEXT}" in _shown(console)
    assert f"2026-11-01: {FREE_TEXT}" in _shown(console)


def test_status_says_of_how_many_days_the_quarantine_is(console: Console) -> None:
    one = {"days": 60, "rows": 2, "quarantined": {"amount: missing": 3}, "champion": None, "serving": None}
    show_status(console, {"pipelines": {"fraud": one | {"drift": None, "retrain": None}}})
    assert "quarantined in 30 days" in _shown(console)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_words_as_they_are(terminal: bool) -> None:
    console = Console(file=StringIO(), width=200, force_terminal=terminal, color_system=None)
    with Progress(console).act(FREE_TEXT) as act:
        act.say(FREE_TEXT)
    assert f"{FREE_TEXT}. {FREE_TEXT}" in _shown(console)


def test_ways_in_show_every_address_as_it_is(console: Console, tmp_path: Path, fraud: Pipeline) -> None:
    settings = _settings(tmp_path, EVERGREEN_SERVING_URL="http://[fe80::1]:8000")
    show_ways_in(console, settings, fraud, "secret")
    assert "Predictions  http://[fe80::1]:8000/v1/fraud/predict\n" in _shown(console)
    assert f"{curl_line(settings, fraud)}\n" in _shown(console)


def test_curl_line_takes_the_token_from_the_shell(tmp_path: Path, fraud: Pipeline) -> None:
    line = curl_line(_settings(tmp_path, EVERGREEN_SERVING_TOKEN=TOKEN), fraud)
    assert TOKEN not in line
    typed = subprocess.run(
        ["/bin/sh", "-c", f"curl() {{ printf '%s\\n' \"$@\"; }}; {line}"],
        env={"EVERGREEN_SERVING_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"Authorization: Bearer {TOKEN}" in typed.stdout.splitlines()


def test_curl_line_needs_no_token_where_none_is_set(tmp_path: Path, fraud: Pipeline) -> None:
    assert "Authorization" not in curl_line(_settings(tmp_path), fraud)
