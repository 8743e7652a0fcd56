"""The container's door; the options, the receipt and the exit codes are those of evergreen.step."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from evergreen.artifacts import Artifact, TrainingSet
from evergreen.step import Step, run_step, training_options


@click.group()
def main() -> None:
    """Train with Keras."""


@main.command()
@training_options
def train(seed: str, run_type: str, halvings: int, **options: Any) -> None:
    """Training set in, model out."""

    def work(step: Step) -> Artifact:
        from keras_trainer.train import train as train_model

        spec = step.pipeline.training
        with TemporaryDirectory(prefix="evergreen-keras-") as folder:
            model = train_model(
                step.pipeline,
                step.take(TrainingSet),
                step.lake,
                seed=int(seed) if seed else spec.seed,
                batch_rows=max(2, spec.batch_rows >> halvings),
                work=Path(folder),
            )
        return model.model_copy(update={"backfill": run_type == "backfill"})

    run_step(work, decided_by={"trainer": "keras", "seed": seed, "run_type": run_type}, **options)


if __name__ == "__main__":
    main()
