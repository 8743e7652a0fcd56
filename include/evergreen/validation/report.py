"""What a day's validation leaves for people and machines: a page and GX's result as JSON.

Both are made of the day's data alone, without a clock, so the same day gives the same bytes. The
data subject's column is masked in everything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from importlib.resources import files

import polars as pl

from evergreen.pipeline import Pipeline
from evergreen.validation.suite import MASK, Outcome

SAMPLE_ROWS = 20
VALUES_SHOWN = 200
"""Characters of an observed value on the page."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything there is to tell about one day."""

    pipeline: Pipeline
    day: date
    rows: Mapping[str, int]
    """raw, clean, quarantined, duplicates; raw is the sum of the others."""
    problems: tuple[str, ...]
    quarantined: Mapping[str, int]
    """Rows by reason."""
    cleaned: Mapping[str, int]
    """Values by cleaning rule."""
    outcomes: Sequence[Outcome]
    quarantine: pl.DataFrame
    """Rows as they lie in quarantine."""

    @property
    def passed(self) -> bool:
        """Whether the day may go on."""
        return not self.problems

    def to_json(self) -> bytes:
        """The verdict with GX's result for each expectation, indented."""
        content = {
            "pipeline": self.pipeline.pipeline,
            "day": self.day.isoformat(),
            "passed": self.passed,
            "problems": self.problems,
            "rows": self.rows,
            "quarantined": self.quarantined,
            "cleaned": self.cleaned,
            "great_expectations": {
                "version": version("great-expectations"),
                "results": [_result(outcome) for outcome in self.outcomes],
            },
        }
        return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"

    def to_html(self) -> bytes:
        """One self-contained page; values are escaped, nothing is loaded from elsewhere."""
        from jinja2 import Environment

        environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        environment.filters["number"] = _number
        template = files("evergreen.validation").joinpath("report.html").read_text(encoding="utf-8")
        page = environment.from_string(template).render(
            report=self,
            spec=self.pipeline.validation,
            expectations=[(outcome, _state(outcome), _seen(outcome)) for outcome in self.outcomes],
            sample=self._sample(),
        )
        return page.encode()

    def _sample(self) -> pl.DataFrame:
        rows = self.quarantine.head(SAMPLE_ROWS).with_columns(pl.col("event_time", "known_at").dt.to_string("iso"))
        subject = self.pipeline.contract.subject
        return rows if subject is None else rows.with_columns(pl.lit(MASK).alias(subject))


def _result(outcome: Outcome) -> dict[str, object]:
    return {
        "expectation": outcome.expectation,
        "arguments": outcome.arguments,
        "success": outcome.success,
        "result": _finite(outcome.result),
        "raised": outcome.raised,
    }


def _seen(outcome: Outcome) -> str:
    if outcome.raised is not None:
        return outcome.raised
    result = outcome.result
    if "element_count" in result:
        return f"{_number(result['unexpected_count'])} of {_number(result['element_count'])} rows unexpected"
    return str(result.get("observed_value", ""))[:VALUES_SHOWN]


def _number(count: int) -> str:
    """The count with its thousands apart."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _state(outcome: Outcome) -> str:
    if outcome.problem is not None:
        return "stops the day"
    return "holds" if outcome.success else "rows to quarantine"


def _finite(value: object) -> object:
    """The value as JSON can say it; not-a-number and infinities by name."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
