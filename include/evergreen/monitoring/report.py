"""The drift report that people read: one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from evergreen.artifacts import ObjectRef
from evergreen.lake.lake import Lake
from evergreen.monitoring.comparison import SCORE, Comparison
from evergreen.monitoring.sketch import NumericSketch, Sketch
from evergreen.pipeline import Pipeline

TEMPLATE = Path(__file__).with_name("report.html")
MOST_PICTURES = 8


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a report says."""

    pipeline: Pipeline
    version: str
    days: tuple[date, date]
    """First and last, inclusive."""
    rows: int
    scores_from: str
    comparison: Comparison
    reason: str


def publish_report(findings: Findings, reference: Sketch, current: Sketch, lake: Lake) -> ObjectRef:
    """The page, now at reports/<pipeline>/drift/<last day>.html; the same findings give the same bytes."""
    page = render_report(findings, reference, current)
    path = f"reports/{findings.pipeline.pipeline}/drift/{findings.days[1].isoformat()}.html"
    return lake.objects.put(path, page.encode())


def render_report(findings: Findings, reference: Sketch, current: Sketch) -> str:
    """The page as HTML: verdict, columns from most to least moved, and pictures of the most moved."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(TEMPLATE.read_text()).render(
        found=findings,
        comparison=findings.comparison,
        monitoring=findings.pipeline.monitoring,
        pictures=_pictures(findings.comparison, reference, current),
        scores=_scores(reference, current),
    )


def _pictures(comparison: Comparison, reference: Sketch, current: Sketch) -> Mapping[str, object]:
    """Column -> SVG of the most moved columns, judged ones first; what SVG holds is already escaped."""
    from markupsafe import Markup

    from evergreen.monitoring.pictures import bars

    ranked = sorted(comparison.columns, key=lambda c: c.column in comparison.unjudged)
    names = [c.column for c in ranked if current[c.column].rows][:MOST_PICTURES]
    return {name: Markup(bars(reference[name], current[name])) for name in names}  # noqa: S704 matplotlib escapes text


def _scores(reference: Sketch, current: Sketch) -> object:
    from markupsafe import Markup

    from evergreen.monitoring.pictures import score_curves

    before, now = reference.get(SCORE), current.get(SCORE)
    if not isinstance(before, NumericSketch) or not isinstance(now, NumericSketch) or not now.rows:
        return None
    return Markup(score_curves(before, now))  # noqa: S704 matplotlib escapes text
