"""What the step before training leaves behind."""

from __future__ import annotations

from datetime import UTC, datetime

from evergreen.artifacts import ObjectRef, Receipt, TrainingSet
from evergreen.lake.lake import Lake
from evergreen.lake.receipts import write_receipt
from evergreen.pipeline import Pipeline
from evergreen.settings import VERSION


def write_upstream_receipt(lake: Lake, pipeline: Pipeline, training_set: TrainingSet) -> str:
    """Path of the receipt by which a training step finds `training_set`."""
    receipt = Receipt(
        pipeline=pipeline.pipeline,
        run="r",
        task="build_training_set",
        attempt=1,
        inputs={},
        objects=(ObjectRef(path=f"{training_set.uri}/manifest.json", digest=training_set.digest),),
        spec_digest=pipeline.digest,
        result={"TrainingSet": training_set.model_dump(mode="json")},
        code_version=VERSION,
        started_at=datetime(2026, 11, 2, tzinfo=UTC),
        seconds=0,
        peak_memory_bytes=0,
    )
    return write_receipt(lake, receipt)
