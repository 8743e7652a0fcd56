"""What the features of a model mean: they are computed as it learned them, also when the spec says otherwise by now."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping

from pydantic import ValidationError

from evergreen.artifacts import Deployment
from evergreen.errors import ConfigurationError, IntegrityError
from evergreen.features.definitions import feature_digests
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.serving.history import Needs
from evergreen.training.model_files import read_definitions
from evergreen.training.scorer import Signature

logger = logging.getLogger(__name__)
TAKEN = ("features", "gate")
"""Sections taken from another spec; the gate, which serving does not read, names features."""


def as_learned(pipeline: Pipeline, lake: Lake, deployment: Deployment, signature: Signature) -> Pipeline:
    """`pipeline`, with the features of an earlier or later spec where the model learned its own by that one.

    A model that does not say by which definitions it learned goes by names alone. Raises IntegrityError naming the
    features when there is no such spec, or its windows look at events that are not held for this one.
    """
    definitions = read_definitions(lake, deployment.model_uri, deployment.model_digest)
    if not definitions:
        _require_names(pipeline, deployment, signature)
        return pipeline
    learned = {name: definitions.get(name, "") for name in (*signature.numeric, *signature.categorical)}
    now, needs = feature_digests(pipeline), Needs.of(pipeline)
    other = {name for name, digest in learned.items() if now.get(name) != digest}
    if not other:
        return pipeline
    for spec in _specs(pipeline, lake):
        if learned.items() <= _digests(spec).items() and needs.cover(Needs.of(spec)):
            logger.info("%s takes %s as it learned them, not as the spec is here", deployment.to_version, sorted(other))
            return spec
    raise _unknown(pipeline, deployment, other)


def _specs(pipeline: Pipeline, lake: Lake) -> Iterator[Pipeline]:
    """`pipeline` with the features of each spec that training sets were built by, as far as its contract has them."""
    own = pipeline.model_dump(mode="json")
    for path in lake.objects.list(f"specs/{pipeline.pipeline}"):
        said = json.loads(lake.objects.get(path))
        try:
            yield Pipeline.model_validate(own | {section: said[section] for section in TAKEN})
        except ValidationError:
            logger.debug("%s does not fit the contract as it is here", path)


def _digests(spec: Pipeline) -> Mapping[str, str]:
    try:
        return feature_digests(spec)
    except ConfigurationError:  # an expression over a column that is gone, or of another type
        return {}


def _require_names(pipeline: Pipeline, deployment: Deployment, signature: Signature) -> None:
    features = pipeline.features
    unknown = {*signature.numeric} - {*features.numeric} | {*signature.categorical} - {*features.categorical}
    if unknown:
        raise IntegrityError(
            f"Model {deployment.to_version}",
            found=f"inputs {sorted(unknown)}",
            wanted="only features that the pipeline's spec has",
            remedy="Train a model on the spec as it is now, or bring the features back.",
        )


def _unknown(pipeline: Pipeline, deployment: Deployment, other: set[str]) -> IntegrityError:
    return IntegrityError(
        f"Model {deployment.to_version}",
        found=f"inputs {sorted(other)} that it learned by another definition than serving's spec has",
        wanted=f"one of that spec, or of one in specs/{pipeline.pipeline} of the lake whose windows look no further",
        remedy="Bring the old definition back, beside the new one under another name, until a model that learned the "
        "new one serves; where serving's spec is the old one, start it with the new one.",
    )
