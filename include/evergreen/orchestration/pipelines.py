"""The pipelines a DAG file makes DAGs of. Light: it is imported on every parse."""

from __future__ import annotations

from evergreen.errors import ConfigurationError
from evergreen.features.definitions import FeatureMistake, check_features
from evergreen.orchestration.profiles import read_profile
from evergreen.pipeline import Pipeline
from evergreen.pipeline_file import located, read_pipelines
from evergreen.settings import Settings


def pipelines() -> list[Pipeline]:
    """Every pipeline whose spec is sound, by name. Broken ones are `broken_pipelines`' business."""
    return _checked()[0]


def broken_pipelines() -> list[ConfigurationError]:
    """One error for each spec that cannot be used."""
    return _checked()[1]


def pipeline_named(name: str) -> Pipeline:
    """The sound pipeline called `name`; ConfigurationError when there is none."""
    for pipeline in pipelines():
        if pipeline.pipeline == name:
            return pipeline
    raise ConfigurationError(
        f"Pipeline {name}",
        found=f"pipelines {[p.pipeline for p in pipelines()]}",
        wanted=f"a sound file {name}.yaml in {Settings.from_environment().pipelines}",
        remedy="Add or correct the file.",
    )


def _checked() -> tuple[list[Pipeline], list[ConfigurationError]]:
    folder = Settings.from_environment().pipelines
    read, errors = read_pipelines(folder)
    sound = []
    for pipeline in read:
        try:
            check_features(pipeline)
            read_profile(pipeline.training.profile)
        except ConfigurationError as error:
            at = error.at if isinstance(error, FeatureMistake) else ("training", "profile")
            errors.append(located(folder / f"{pipeline.pipeline}.yaml", at, error))
        else:
            sound.append(pipeline)
    return sound, errors
