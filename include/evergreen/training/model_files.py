"""The folder a model is stored as, and its digest. Knows nothing of torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from evergreen.artifacts import Model
from evergreen.lake.lake import Lake
from evergreen.lake.objects import file_digest, require_digest

REQUIRED_FILES = ("model.onnx", "signature.json")
MANIFEST = "manifest.json"


def store_model(
    lake: Lake, folder: Path, *, pipeline: str, as_of: datetime, training_set: str, seed: int, backfill: bool = False
) -> Model:
    """The model whose files were made in `folder`, now immutable in the lake; the same bytes give the same version."""
    missing = [name for name in REQUIRED_FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"a model folder needs {missing}")
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
