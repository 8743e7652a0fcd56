"""Sketches of the lake's days, training sets and scores; each is made once and kept.

sketches/<pipeline>/
    <features day digest>.arrow                     features of one day, as known at its end
    learned-<training set digest>.arrow             features the model learned from
    scores-<version>-holdout.arrow                  scores on rows it never learned from
    scores-<version>-<features day digest>.arrow    scores on one day
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta

import polars as pl
import pyarrow as pa

from evergreen.artifacts import Model, TableDay
from evergreen.errors import NotFound
from evergreen.features.build import refresh_features
from evergreen.lake.lake import Lake, end_of, start_of
from evergreen.monitoring.comparison import SCORE
from evergreen.monitoring.dependencies import looks_back
from evergreen.monitoring.sketch import Sketch, merge, sketch_frames, sketch_numbers
from evergreen.monitoring.sketch_file import read_sketch, write_sketch
from evergreen.monitoring.training_folder import TrainingFolder, frames_of
from evergreen.pipeline import Pipeline
from evergreen.training.scorer import Scorer

logger = logging.getLogger(__name__)

MOST_SCORED_ROWS = 50_000


def day_sketch(pipeline: Pipeline, built: TableDay, lake: Lake) -> Sketch:
    """The features of one day as they were known at its end."""
    features = pipeline.features
    names = (*features.numeric, *features.categorical)

    def make() -> Sketch:
        frames = day_frames("features", pipeline, built.day, lake, names)
        return sketch_frames(frames, numeric=features.numeric, categorical=features.categorical)

    return _kept(lake, pipeline, built.digest, names, make)


def training_sketch(pipeline: Pipeline, model: Model, lake: Lake) -> Sketch:
    """Those of the pipeline's features that `model` learned from, of each only the rows whose windows history filled.

    After the first day of history, or after a gap, a seven-day count is small because history is short; such
    rows are left out of that feature's reference, or recent days would seem to have drifted away from them.
    """
    folder = TrainingFolder.of(model, lake)
    names = folder.shared(pipeline)
    path = f"learned-{model.training_set}"
    return _kept(lake, pipeline, path, names, lambda: _sketch_training(pipeline, folder, lake))


def holdout_scores(pipeline: Pipeline, model: Model, lake: Lake) -> Sketch:
    """The model's scores on its holdout, at most 50,000 rows evenly spaced; columns: SCORE."""

    def make() -> Sketch:
        folder = TrainingFolder.of(model, lake)
        scorer = Scorer.load(lake, model.uri, model.digest)
        with folder.fetched("holdout", lake) as file:
            return _scored(scorer, frames_of(file, _inputs(scorer)), rows=folder.parts["holdout"].rows)

    return _kept(lake, pipeline, f"scores-{model.version}-holdout", (SCORE,), make)


def day_scores(pipeline: Pipeline, model: Model, built: TableDay, lake: Lake) -> Sketch:
    """The model's scores on one day's features, at most 50,000 rows evenly spaced; columns: SCORE."""

    def make() -> Sketch:
        scorer = Scorer.load(lake, model.uri, model.digest)
        frames = day_frames("features", pipeline, built.day, lake, _inputs(scorer))
        return _scored(scorer, frames, rows=built.rows)

    return _kept(lake, pipeline, f"scores-{model.version}-{built.digest}", (SCORE,), make)


def served_scores(pipeline: Pipeline, model: Model, days: Sequence[date], lake: Lake) -> Sketch:
    """The scores that `model` gave to customers on `days`; columns: SCORE, empty when it served none."""
    table = lake.table("predictions", pipeline.pipeline)
    written = {d.day for d in table.days(days[0], days[-1])}
    parts = [
        {SCORE: sketch_numbers(frame.filter(pl.col("version") == model.version)["score"])}
        for day in days
        if day in written
        for frame in day_frames("predictions", pipeline, day, lake, ("version", "score"))
    ]
    return merge([{SCORE: sketch_numbers(pl.Series([], dtype=pl.Float64))}, *parts])


def day_frames(zone: str, pipeline: Pipeline, day: date, lake: Lake, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The rows of one day as they were known at its end, batch by batch."""
    reader = lake.read(
        zone, pipeline.pipeline, as_of=end_of(day), since=start_of(day), until=end_of(day), columns=columns
    )
    for batch in reader:
        yield pl.DataFrame(batch)


def built_days(pipeline: Pipeline, days: Sequence[date], lake: Lake) -> list[TableDay]:
    """Those of `days` that were ever clean, in order, stale ones rebuilt; NotFound when the last one never was."""
    built = refresh_features(pipeline, lake, days[0], days[-1])
    if not built or built[-1].day != days[-1]:
        raise NotFound(
            f"Features of {pipeline.pipeline}",
            found=f"none for {days[-1]}",
            wanted="those of the last day that is checked",
            remedy=f"Run or backfill {pipeline.pipeline}.ingest_data for {days[-1]}.",
        )
    return built


def _sketch_training(pipeline: Pipeline, folder: TrainingFolder, lake: Lake) -> Sketch:
    back = looks_back(pipeline.features)
    shared = folder.shared(pipeline)
    history_from = folder.history_from(lake.table("features", pipeline.pipeline).days())
    with folder.fetched("train", lake) as file:
        parts: dict[timedelta, Sketch] = {}
        for span in sorted({back[name] for name in shared}):
            names = [name for name in shared if back[name] == span]
            settled = history_from + span if span else None
            parts[span] = sketch_frames(
                _settled(frames_of(file, ["event_time", *names]), settled),
                numeric=[name for name in names if name in folder.numeric],
                categorical=[name for name in names if name in folder.categorical],
            )
    return merge(list(parts.values()))


def _settled(frames: Iterable[pl.DataFrame], start: datetime | None) -> Iterator[pl.DataFrame]:
    for frame in frames:
        yield frame if start is None else frame.filter(pl.col("event_time") >= start)


def _inputs(scorer: Scorer) -> tuple[str, ...]:
    return (*scorer.signature.numeric, *scorer.signature.categorical)


def _scored(scorer: Scorer, frames: Iterable[pl.DataFrame], *, rows: int) -> Sketch:
    stride = max(1, -(-rows // MOST_SCORED_ROWS))
    parts: list[Sketch] = [{SCORE: sketch_numbers(pl.Series([], dtype=pl.Float64))}]
    seen = 0
    for frame in frames:
        sample = frame.gather_every(stride, offset=-seen % stride)
        seen += frame.height
        if sample.height:
            parts.append({SCORE: sketch_numbers(pl.Series(scorer.score(sample)))})
    return merge(parts)


def _kept(lake: Lake, pipeline: Pipeline, name: str, columns: Sequence[str], make: Callable[[], Sketch]) -> Sketch:
    """The sketch kept under `name`, made and kept first when there is none that holds `columns`."""
    path = f"sketches/{pipeline.pipeline}/{name}.arrow"
    if lake.objects.exists(path):
        try:
            found = read_sketch(lake.objects.get(path))
        except pa.ArrowInvalid as error:
            logger.warning("%s cannot be read (%s) and is made again", path, error)
        else:
            if found.keys() >= set(columns):
                return {column: found[column] for column in columns}
    made = make()
    lake.objects.put(path, write_sketch(made))
    logger.info("Sketched %s: %d columns", path, len(made))
    return made
