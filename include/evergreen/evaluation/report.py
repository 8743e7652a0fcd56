"""The evaluation that people read: one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path

from evergreen.artifacts import Evaluation, ObjectRef
from evergreen.evaluation.gate import decide
from evergreen.evaluation.holdout import Holdout
from evergreen.evaluation.learning import Learning
from evergreen.lake.lake import Lake
from evergreen.lake.outputs import evaluation_report_path
from evergreen.pipeline import Pipeline

TEMPLATE = Path(__file__).with_name("report.html")


def publish_report(
    pipeline: Pipeline, evaluation: Evaluation, holdout: Holdout, learning: Learning, lake: Lake
) -> ObjectRef:
    """The page, now below reports/<pipeline>/evaluation/; the same evaluation gives the same bytes."""
    page = render_report(pipeline, evaluation, holdout, learning)
    return lake.objects.put(evaluation_report_path(evaluation), page.encode())


def render_report(pipeline: Pipeline, evaluation: Evaluation, holdout: Holdout, learning: Learning) -> str:
    """The page as HTML: what the gate will say, metrics beside the champion's, how it learned and what that took."""
    import jinja2
    from markupsafe import Markup

    from evergreen.evaluation.pictures import draw_curves, draw_importance, draw_learning, draw_slices

    slices = evaluation.slice_differences or evaluation.slices
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(TEMPLATE.read_text()).render(
        evaluation=evaluation,
        verdict=decide(pipeline, evaluation),
        gate=pipeline.gate,
        trained=learning.trained,
        parts=learning.parts,
        # matplotlib escapes text in its SVG
        curves=Markup(draw_curves(holdout)) if evaluation.positives else None,  # noqa: S704
        learned=Markup(draw_learning(learning)) if learning.curve else None,  # noqa: S704
        looked_at=Markup(draw_importance(evaluation.importance)) if evaluation.importance else None,  # noqa: S704
        pictured=Markup(draw_slices(slices)) if slices else None,  # noqa: S704
    )
