"""What a task wrote, from the artifact it returned: the tables and objects its receipt must prove."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from evergreen.artifacts import Artifact, Evaluation, Model, ObjectRef, TableDay, TrainingSet, Trial
from evergreen.lake.lake import Lake


def tables_of(artifact: Artifact) -> list[TableDay]:
    """Every table day named anywhere in `artifact`."""
    return [part for part in _parts(artifact) if isinstance(part, TableDay)]


def objects_of(artifact: Artifact, lake: Lake) -> list[ObjectRef]:
    """Every object that `artifact` stands for; a folder stands for all the files of its manifest."""
    if isinstance(artifact, Model):
        files: dict[str, str] = json.loads(lake.objects.get(f"{artifact.uri}/manifest.json"))
        return _folder(artifact.uri, artifact.digest, files)
    if isinstance(artifact, Trial):
        return objects_of(artifact.model, lake)
    if isinstance(artifact, TrainingSet):
        parts = json.loads(lake.objects.get(f"{artifact.uri}/manifest.json"))["parts"]
        return _folder(artifact.uri, artifact.digest, {f"{name}.parquet": p["digest"] for name, p in parts.items()})
    found = [part for part in _parts(artifact) if isinstance(part, ObjectRef)]
    if isinstance(artifact, Evaluation):
        path = evaluation_path(artifact)
        return [ObjectRef(path=path, digest=lake.objects.digest(path)), *found]
    return found


def evaluation_path(evaluation: Evaluation) -> str:
    """Where an evaluation lies: another one of the same version, training set and champion lies beside it."""
    digest = hashlib.sha256(evaluation.to_json().encode()).hexdigest()
    name = f"{evaluation.training_set[:16]}-{evaluation.champion or 'alone'}-{digest[:16]}"
    return f"evaluations/{evaluation.pipeline}/{evaluation.version}/{name}.json"


def _folder(uri: str, digest: str, files: dict[str, str]) -> list[ObjectRef]:
    manifest = ObjectRef(path=f"{uri}/manifest.json", digest=digest)
    return [manifest, *(ObjectRef(path=f"{uri}/{name}", digest=files[name]) for name in sorted(files))]


def _parts(value: object) -> Iterator[object]:
    yield value
    if isinstance(value, Artifact):
        for name in type(value).model_fields:
            yield from _parts(getattr(value, name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _parts(item)
