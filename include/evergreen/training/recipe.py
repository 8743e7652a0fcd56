"""The resolved configuration of one training run: what, beside the data, decides the weights."""

from __future__ import annotations

import hashlib
from importlib.metadata import version

import numpy as np
from pydantic import BaseModel, ConfigDict

from evergreen.pipeline import Pipeline, Training
from evergreen.training.micro_batch import halved_rows
from evergreen.training.scorer import Signature

LIBRARIES = ("lightgbm", "numpy", "onnx", "polars", "torch")


class Recipe(BaseModel):
    """A frozen value; saved with the model as config.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pipeline: str
    training: Training
    """The spec's section, with the seed and micro-batch of this run."""
    features: Signature
    device: str
    libraries: dict[str, str]

    @classmethod
    def of(cls, pipeline: Pipeline, *, seed: int | None, micro_batch_rows: int | None, device: str) -> Recipe:
        """The recipe of `pipeline`, where `seed` and `micro_batch_rows` stand before the spec's if given."""
        given = {"seed": seed, "micro_batch_rows": micro_batch_rows}
        training = pipeline.training.model_dump() | {k: v for k, v in given.items() if v is not None}
        return cls(
            pipeline=pipeline.pipeline,
            training=Training.model_validate(training),
            features=Signature(numeric=pipeline.features.numeric, categorical=pipeline.features.categorical),
            device=device,
            libraries={name: version(name) for name in LIBRARIES},
        )

    def halved(self, halvings: int, *, processes: int = 1) -> Recipe:
        """The recipe after memory ran out `halvings` times: its micro-batch is what each process then takes at once."""
        if halvings == 0:
            return self
        rows = halved_rows(self.training, halvings, processes=processes)
        return self.model_copy(update={"training": self.training.model_copy(update={"micro_batch_rows": rows})})

    @property
    def members(self) -> tuple[Recipe, ...]:
        """The recipe of each network of the model; none for a model of trees alone."""
        count = 0 if self.training.family == "trees" else self.training.members
        return tuple(self.member(number) for number in range(count))

    def member(self, number: int) -> Recipe:
        """The recipe of one network of several: the first has the run's seed, the others one drawn from it."""
        if number == 0:
            return self
        seed = int(np.random.SeedSequence([self.training.seed, number]).generate_state(1)[0] >> 1)
        return self.model_copy(update={"training": self.training.model_copy(update={"seed": seed})})

    @property
    def digest(self) -> str:
        """SHA-256 of all that changes the weights by more than rounding.

        The micro-batch and the number of processes do not, so a retry with less memory or fewer devices resumes.
        """
        parallel = self.training.parallel.model_copy(update={"processes": None})
        training = self.training.model_copy(update={"micro_batch_rows": None, "parallel": parallel})
        same = self.model_copy(update={"training": training})
        return hashlib.sha256(same.model_dump_json().encode()).hexdigest()
