"""The page for people: complete, self-contained, small, escaped, and the same bytes every time."""

from __future__ import annotations

import re
from datetime import date
from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl
import pytest

from evergreen.monitoring.comparison import SCORE, compare
from evergreen.monitoring.report import Findings, render_report
from evergreen.monitoring.sketch import Sketch, sketch_numbers, sketch_values
from evergreen.pipeline import Pipeline

VOID = {"meta", "br"}


class Balanced(HTMLParser):
    """Fails on a tag that is closed in the wrong order or not at all; collects what would be loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [
            str(value) for name, value in attrs if name in ("src", "href") and not str(value).startswith("#")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()


def _sketch(rng: np.random.Generator, shift: float) -> Sketch:
    numbers = {f"x{index:02d}": sketch_numbers(pl.Series(rng.normal(shift, 1, 4000))) for index in range(30)}
    values = pl.Series(
        rng.choice(
            ["<script>alert(1)</script>", "$a_1$", "plain"], 4000, p=[0.9, 0.05, 0.05] if shift else [0.1, 0.3, 0.6]
        )
    )
    scores = sketch_numbers(pl.Series(rng.beta(1 + shift, 20, 4000)))
    return {**numbers, "channel": sketch_values(values), SCORE: scores}


def _findings(pipeline: Pipeline, **changes: Any) -> Findings:
    rng = np.random.default_rng(1)
    reference, current = _sketch(rng, 0.0), _sketch(rng, 1.0)
    found: dict[str, Any] = {
        "pipeline": pipeline,
        "version": "2026-10-26-abcdef01",
        "days": (date(2026, 11, 1), date(2026, 11, 1)),
        "rows": 4000,
        "scores_from": "scores as they were served",
        "reference": reference,
        "current": current,
        "comparison": compare(reference, current, pipeline.monitoring, unjudged={"x29": "for a reason"}),
        "reason": "Because of this & that.",
    }
    return Findings(**found | changes)


@pytest.fixture(scope="module")
def page(fraud: Pipeline) -> str:
    return render_report(_findings(fraud))


def test_page_is_whole_loads_nothing_and_is_small(page: str) -> None:
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert parser.loads == []
    assert len(page) < 1_000_000
    assert not re.search(r"url\(\s*['\"]?http|@import", page)


def test_values_from_data_are_escaped(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script" in page
    assert "Because of this &amp; that." in page


def test_page_names_every_column_and_draws_eight_and_the_scores(page: str) -> None:
    assert all(f"<td>x{index:02d}</td>" in page for index in range(30))
    assert page.count("<svg") == 9
    assert "not judged: for a reason" in page


def test_same_findings_give_the_same_bytes(page: str, fraud: Pipeline) -> None:
    assert render_report(_findings(fraud)) == page


def test_no_verdict_is_said_as_such(fraud: Pipeline) -> None:
    empty = {name: sketch_numbers(pl.Series([], dtype=pl.Float64)) for name in ("amount", SCORE)}
    comparison = compare(empty, empty, fraud.monitoring)
    page = render_report(_findings(fraud, reference=empty, current=empty, comparison=comparison, rows=0))
    assert "<b>No verdict</b>" in page
    assert "<svg" not in page
