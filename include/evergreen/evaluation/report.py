"""The evaluation that people read: one self-contained HTML page."""

from __future__ import annotations

import hashlib
from pathlib import Path

from evergreen.artifacts import Evaluation, ObjectRef
from evergreen.evaluation.gate import decide
from evergreen.evaluation.holdout import Holdout
from evergreen.evaluation.learning import Learning
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline

TEMPLATE = Path(__file__).with_name("report.html")


def publish_report(
    pipeline: Pipeline, evaluation: Evaluation, holdout: Holdout, learning: Learning, lake: Lake
) -> ObjectRef:
    """The page, now below reports/<pipeline>/evaluation/ under its own digest: it tells of one run's training."""
    page = render_report(pipeline, evaluation, holdout, learning).encode()
    compared = f"{evaluation.training_set[:16]}-{evaluation.champion or 'alone'}"
    name = f"{evaluation.version}-{compared}-{hashlib.sha256(page).hexdigest()[:16]}"
    return lake.objects.put(f"reports/{evaluation.pipeline}/evaluation/{name}.html", page)


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
