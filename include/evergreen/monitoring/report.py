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
    """What a check found, and a report says."""

    pipeline: Pipeline
    version: str
    days: tuple[date, date]
    """First and last, inclusive."""
    without_rows: tuple[date, ...] = ()
    """Those of them that are left out, as nothing of them is clean."""
    rows: int
    scores_from: str
    """Whose scores the current ones are, in plain words."""
    reference: Sketch
    """Features the model learned from, and its scores on the holdout."""
    current: Sketch
    comparison: Comparison
    reason: str

    @property
    def unmeasured(self) -> list[str]:
        """The columns that only one side has, by name."""
        return sorted(self.comparison.unjudged.keys() - {column.column for column in self.comparison.columns})


def publish_report(findings: Findings, lake: Lake) -> ObjectRef:
    """The page, now at reports/<pipeline>/drift/<last day>.html; the same findings give the same bytes."""
    page = render_report(findings)
    path = f"reports/{findings.pipeline.pipeline}/drift/{findings.days[1].isoformat()}.html"
    return lake.objects.put(path, page.encode())


def render_report(findings: Findings) -> str:
    """The page as HTML: verdict, columns from most to least moved, and pictures of the most moved."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(TEMPLATE.read_text()).render(
        found=findings,
        comparison=findings.comparison,
        monitoring=findings.pipeline.monitoring,
        pictures=_pictures(findings),
        scores=_scores(findings.reference, findings.current),
    )


def _pictures(findings: Findings) -> Mapping[str, object]:
    """Column -> SVG of the most moved columns, judged ones first."""
    from markupsafe import Markup

    from evergreen.monitoring.pictures import bars

    names = [c.column for c in findings.comparison.columns if findings.current[c.column].rows][:MOST_PICTURES]
    return {
        name: Markup(bars(findings.reference[name], findings.current[name]))  # noqa: S704 matplotlib escapes text
        for name in names
    }


def _scores(reference: Sketch, current: Sketch) -> object:
    from markupsafe import Markup

    from evergreen.monitoring.pictures import score_curves

    before, now = reference.get(SCORE), current.get(SCORE)
    if not isinstance(before, NumericSketch) or not isinstance(now, NumericSketch) or not now.rows:
        return None
    return Markup(score_curves(before, now))  # noqa: S704 matplotlib escapes text
