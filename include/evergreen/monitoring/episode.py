"""Since when days look unlike anything the champion learned: one cause, one episode."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from evergreen.artifacts import DriftReport, Model, TableDay
from evergreen.lake.lake import Lake
from evergreen.lake.tables import days_between
from evergreen.monitoring.comparison import SCORE, Comparison, compare
from evergreen.monitoring.kept_sketches import day_scores, day_sketch, holdout_scores
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
    comparable: bool = True
    """Whether the days after `learned_day` hold enough to tell."""


def find_episode(pipeline: Pipeline, model: Model, report: DriftReport, lake: Lake) -> Episode:
    """Since when the columns that drifted in `report` look unlike the champion's newest training day.

    The whole training set stays a mixture of old and new for weeks after a retrain; its newest day tells
    whether the retrain has seen the change, so that one cause asks once and a second one is noticed.
    """
    names = [column.column for column in report.columns if column.drifted and report.drifted]
    learned_day = TrainingFolder.of(model, lake).train_days[1]
    if not names:
        return Episode(began=None, learned_day=learned_day)
    reference = _newest_learned(pipeline, model, names, lake)
    built = lake.table("features", pipeline.pipeline).days(learned_day + ONE_DAY, report.last_day)
    days = (report.last_day - report.first_day).days + 1
    began, comparable = None, True
    for window in _windows(built, report.last_day, days):
        found = _compared(pipeline, model, reference, window, lake)
        if not found.drifted:
            comparable = began is not None or bool(found.judged)
            break
        began = window[-1].day
    return Episode(began=began, learned_day=learned_day, comparable=comparable)


def _windows(built: list[TableDay], last: date, days: int) -> Iterator[list[TableDay]]:
    """Those of up to `days` days that were built, the first window ending on `last`, each a day with rows earlier.

    `built` begins after the days the champion learned from, so windows grow shorter towards them: a longer one would
    always mix in days that it knows.
    """
    by_day = {table_day.day: table_day for table_day in built}
    for end in sorted((day for day in by_day if day <= last), reverse=True):
        yield [by_day[day] for day in days_between(end - ONE_DAY * (days - 1), end) if day in by_day]


def _newest_learned(pipeline: Pipeline, model: Model, names: list[str], lake: Lake) -> Sketch:
    """The named columns on the newest training days, as many as give `min_rows` rows, and the holdout's scores.

    No scores where the champion takes features that the pipeline no longer has as it learned them.
    """
    folder = TrainingFolder.of(model, lake)
    learned = lake.table("features", pipeline.pipeline).days(*folder.train_days)
    days: list[Sketch] = []
    rows = 0
    while learned and rows < pipeline.monitoring.min_rows:
        newest = learned.pop()
        days.append(day_sketch(pipeline, newest, lake))
        rows += newest.rows
    scored = SCORE in names and not folder.lacking(pipeline)
    sketch = {**merge(days), **(holdout_scores(pipeline, model, lake) if scored else {})}
    return {name: sketch[name] for name in names if name in sketch}


def _compared(pipeline: Pipeline, model: Model, reference: Sketch, window: list[TableDay], lake: Lake) -> Comparison:
    """The days of `window` against `reference`, in its columns."""
    looked = merge([day_sketch(pipeline, built, lake) for built in window])
    if SCORE in reference:
        looked = {**looked, **merge([day_scores(pipeline, model, built, lake) for built in window])}
    return compare(reference, {name: looked[name] for name in reference}, pipeline.monitoring)
