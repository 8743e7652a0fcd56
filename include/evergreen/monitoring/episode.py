"""Since when days look unlike anything the champion learned: one cause, one episode."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from evergreen.artifacts import DriftReport, Model
from evergreen.lake.lake import Lake
from evergreen.lake.tables import days_between
from evergreen.monitoring.comparison import SCORE, compare
from evergreen.monitoring.kept_sketches import built, day_scores, day_sketch, holdout_scores
from evergreen.monitoring.sketch import Sketch, merge
from evergreen.monitoring.training_folder import TrainingFolder
from evergreen.pipeline import Pipeline

ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A run of drifted days, held against the newest days the champion learned from."""

    began: date | None
    """The first day of the unbroken run on which the drift was seen; None when the champion knows such days."""
    learned_day: date
    """The champion's last training day."""


def find_episode(pipeline: Pipeline, model: Model, report: DriftReport, lake: Lake) -> Episode:
    """Since when the columns that drifted in `report` look unlike the champion's newest training day.

    The whole training set stays a mixture of old and new for weeks after a retrain; its newest day tells
    whether the retrain has seen the change, so that one cause asks once and a second one is noticed.
    """
    names = [column.column for column in report.columns if column.drifted and report.drifted]
    learned_day = TrainingFolder.of(model, lake).train_days[1]
    if not names:
        return Episode(began=None, learned_day=learned_day)
    reference = _newest_learned(pipeline, model, learned_day, names, lake)
    length = report.last_day - report.first_day
    last = report.last_day
    if not _unlike(pipeline, model, reference, last - length, last, lake):
        return Episode(began=None, learned_day=learned_day)
    written = {d.day for d in lake.table("features", pipeline.pipeline).days(learned_day, last)}
    while (
        last - ONE_DAY - length > learned_day
        and written.issuperset(days_between(last - ONE_DAY - length, last - ONE_DAY))
        and _unlike(pipeline, model, reference, last - ONE_DAY - length, last - ONE_DAY, lake)
    ):
        last -= ONE_DAY
    return Episode(began=last, learned_day=learned_day)


def _newest_learned(pipeline: Pipeline, model: Model, learned_day: date, names: list[str], lake: Lake) -> Sketch:
    """The named columns on the newest training days, as many as give `min_rows` rows, and the holdout's scores."""
    folder = TrainingFolder.of(model, lake)
    days: list[Sketch] = []
    rows, day = 0, learned_day
    while day >= folder.train_days[0] and rows < pipeline.monitoring.min_rows:
        days.append(day_sketch(pipeline, day, lake))
        rows += built(pipeline, day, lake).rows
        day -= ONE_DAY
    sketch = dict(merge(days)) | (dict(holdout_scores(pipeline, model, lake)) if SCORE in names else {})
    return {name: sketch[name] for name in names}


def _unlike(pipeline: Pipeline, model: Model, reference: Sketch, first: date, last: date, lake: Lake) -> bool:
    days = days_between(first, last)
    looked = merge([day_sketch(pipeline, day, lake) for day in days])
    if SCORE in reference:
        looked = {**looked, **merge([day_scores(pipeline, model, day, lake) for day in days])}
    return compare(reference, {name: looked[name] for name in reference}, pipeline.monitoring).drifted
