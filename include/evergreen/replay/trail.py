"""The receipts that led to a model version: what was read, with which spec, code and seed."""

from __future__ import annotations

from dataclasses import dataclass

from evergreen.artifacts import Model, Receipt, TrainingSet
from evergreen.errors import NotFound
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline


@dataclass(frozen=True, kw_only=True)
class Trail:
    """Everything a version was made from, as its receipts have it."""

    pipeline: Pipeline
    """The spec as it was then."""
    model: Model
    trained: Receipt
    frozen: Receipt
    """Of the task that froze the training set."""
    training_set: TrainingSet
    inputs: tuple[str, ...]
    """Paths of the receipts the training step was given."""

    @property
    def spec(self) -> str:
        """Path of the resolved spec in the lake."""
        return _spec_path(self.pipeline.pipeline, self.trained.spec_digest)


def find_trail(lake: Lake, pipeline: str, version: str) -> Trail:
    """The trail of `version`; NotFound when no receipt of a training names it."""
    for path in lake.objects.list(f"receipts/{pipeline}"):
        if "/train/" not in path or path.endswith(".failure.json"):
            continue
        receipt = Receipt.from_json(lake.objects.get(path))
        if receipt.reused is None and _version(receipt) == version:
            return _trail(lake, receipt)
    raise NotFound(
        f"Version {version} of {pipeline}",
        found="no receipt of a training that made it",
        wanted="a version from `evergreen history` or the model registry",
        remedy="Correct the version, or the lake's URL: receipts are kept there.",
    )


def _trail(lake: Lake, trained: Receipt) -> Trail:
    upstream = [Receipt.from_json(lake.objects.get(path)) for path in trained.inputs]
    frozen = next(receipt for receipt in upstream if "TrainingSet" in receipt.result)
    spec = lake.objects.get(_spec_path(trained.pipeline, trained.spec_digest))
    return Trail(
        pipeline=Pipeline.model_validate_json(spec),
        model=Model.model_validate(trained.result["Model"]),
        trained=trained,
        frozen=frozen,
        training_set=TrainingSet.model_validate(frozen.result["TrainingSet"]),
        inputs=tuple(trained.inputs),
    )


def _version(receipt: Receipt) -> str | None:
    model = receipt.result.get("Model")
    return str(model["version"]) if isinstance(model, dict) else None


def _spec_path(pipeline: str, digest: str) -> str:
    return f"specs/{pipeline}/{digest}.json"
