"""The folder a model is stored as, and its digest. Knows nothing of torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from evergreen.artifacts import Model, ObjectRef
from evergreen.lake.lake import Lake
from evergreen.lake.objects import file_digest, get_verified, require_digest

REQUIRED_FILES = ("model.onnx", "signature.json")
MANIFEST = "manifest.json"
METRICS = "metrics.json"
DEFINITIONS = "definitions.json"
"""Feature -> digest of its definition, as the training set has them."""


def store_model(
    lake: Lake, folder: Path, *, pipeline: str, as_of: datetime, training_set: str, seed: int, backfill: bool = False
) -> Model:
    """The model whose files were made in `folder`, now immutable in the lake; the same bytes give the same version."""
    missing = [name for name in REQUIRED_FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"a model folder needs {missing}")
    definitions = _definitions_of(lake, pipeline, training_set)
    if definitions:
        (folder / DEFINITIONS).write_text(json.dumps(definitions, sort_keys=True))
    names = sorted(p.name for p in folder.iterdir())
    manifest = json.dumps({name: file_digest(folder / name) for name in names}, sort_keys=True).encode()
    digest = hashlib.sha256(manifest).hexdigest()
    last_day = (as_of - timedelta(microseconds=1)).date()
    version = f"{last_day.isoformat()}-{digest[:8]}"
    uri = f"models/{pipeline}/{version}"
    for name in names:
        lake.objects.put_file(f"{uri}/{name}", folder / name)
    lake.objects.put(f"{uri}/{MANIFEST}", manifest)
    return Model(
        pipeline=pipeline,
        version=version,
        as_of=as_of,
        digest=digest,
        uri=uri,
        training_set=training_set,
        seed=seed,
        backfill=backfill,
    )


def _definitions_of(lake: Lake, pipeline: str, training_set: str) -> dict[str, str]:
    """What the features of the training set mean; nothing where it is gone, or was made before that was noted."""
    path = f"training_sets/{pipeline}/{training_set}/{MANIFEST}"
    if not lake.objects.exists(path):
        return {}
    data = get_verified(lake.objects, ObjectRef(path=path, digest=training_set))
    definitions: dict[str, str] = json.loads(data).get("definitions", {})
    return definitions


def read_definitions(lake: Lake, uri: str, digest: str) -> Mapping[str, str]:
    """Feature -> digest of its definition when the model at `uri` learned it; nothing of a model that does not say."""
    manifest = read_manifest(lake, uri, digest)
    if DEFINITIONS not in manifest:
        return {}
    definitions: dict[str, str] = json.loads(read_model_file(lake, uri, DEFINITIONS, manifest))
    return definitions


def read_manifest(lake: Lake, uri: str, digest: str) -> Mapping[str, str]:
    """File name -> digest of the model at `uri`; IntegrityError when the manifest is not the recorded one."""
    data = lake.objects.get(f"{uri}/{MANIFEST}")
    require_digest(f"{uri}/{MANIFEST}", found=hashlib.sha256(data).hexdigest(), wanted=digest)
    manifest: dict[str, str] = json.loads(data)
    return manifest


def read_model_file(lake: Lake, uri: str, name: str, manifest: Mapping[str, str]) -> bytes:
    """The bytes of one file of the model; IntegrityError when they differ from the manifest."""
    data = lake.objects.get(f"{uri}/{name}")
    require_digest(f"{uri}/{name}", found=hashlib.sha256(data).hexdigest(), wanted=manifest[name])
    return data
