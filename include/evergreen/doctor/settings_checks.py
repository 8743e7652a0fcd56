"""Specs and resource profiles: whether every file can be read and fits the others."""

from __future__ import annotations

from collections.abc import Iterator

from evergreen.doctor.check import Check, failed, ok, refused, warning
from evergreen.errors import ConfigurationError
from evergreen.features.definitions import check_features
from evergreen.orchestration.profiles import Profile, read_profiles
from evergreen.pipeline import Pipeline
from evergreen.pipeline_file import read_pipelines
from evergreen.settings import Settings


def examine_settings(settings: Settings) -> Iterator[Check]:
    """One check for the profiles and one for each spec."""
    yield _profiles(settings)
    pipelines, errors = read_pipelines(settings.pipelines)
    for error in errors:
        yield refused("spec", error)
    for pipeline in pipelines:
        yield _spec(pipeline, settings)
    if not pipelines and not errors:
        yield warning(
            "specs", f"none in {settings.pipelines}", "Write one (docs/pipeline-spec.md), or set EVERGREEN_PIPELINES."
        )


def profiles_in_use(settings: Settings) -> dict[str, Profile]:
    """The resource profiles that a sound spec names, by name."""
    profiles = read_profiles(settings.profiles)
    names = {pipeline.training.profile for pipeline in read_pipelines(settings.pipelines)[0]}
    return {name: profiles[name] for name in sorted(names) if name in profiles}


def _profiles(settings: Settings) -> Check:
    try:
        names = sorted(read_profiles(settings.profiles))
    except ConfigurationError as error:
        return refused("resource profiles", error)
    return ok("resource profiles", ", ".join(names))


def _spec(pipeline: Pipeline, settings: Settings) -> Check:
    name, profile = f"spec {pipeline.pipeline}", pipeline.training.profile
    try:
        check_features(pipeline)
        known = read_profiles(settings.profiles)
    except ConfigurationError as error:
        return refused(name, error)
    if profile not in known:
        remedy = f"Correct training.profile, or add {profile} to {settings.profiles}."
        return failed(name, f"resource profile {profile}, which is none of {', '.join(sorted(known))}", remedy)
    return ok(name, f"sound; trains as {profile}")
