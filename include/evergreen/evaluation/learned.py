"""What a model learned from, as the manifest of its training set has it."""

from __future__ import annotations

from datetime import date
from typing import Self

from pydantic import BaseModel, ConfigDict

from evergreen.artifacts import ObjectRef
from evergreen.lake.lake import Lake
from evergreen.lake.objects import get_verified


class Learned(BaseModel):
    """The days a training set lets a model learn from, first and last, inclusive, and what its features mean."""

    model_config = ConfigDict(frozen=True)

    train_days: tuple[date, date]
    validation_days: tuple[date, date]
    definitions: dict[str, str] = {}
    """Feature -> digest of its definition; empty where the set was made before it was noted."""

    @classmethod
    def of(cls, pipeline: str, training_set: str, lake: Lake) -> Self | None:
        """That of the training set with this digest; None where it is gone, IntegrityError when it was altered."""
        path = f"training_sets/{pipeline}/{training_set}/manifest.json"
        if not lake.objects.exists(path):
            return None
        return cls.model_validate_json(get_verified(lake.objects, ObjectRef(path=path, digest=training_set)))

    def redefined(self, other: Learned) -> frozenset[str]:
        """Features that both define, each otherwise."""
        shared = self.definitions.keys() & other.definitions.keys()
        return frozenset(name for name in shared if self.definitions[name] != other.definitions[name])
