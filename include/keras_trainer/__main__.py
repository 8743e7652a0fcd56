"""The container's door; the options, the receipt and the exit codes are those of evergreen.step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import click

from evergreen.artifacts import Artifact, Model, Receipt, TrainingSet
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline
from evergreen.step import Step, run_step, trained_model, training_options, trial, trial_options

LIBRARIES = ("keras", "tensorflow", "tensorflow-cpu", "tf2onnx")
"""Those whose release can change a number in a model, beside the ones of every step."""


@click.group()
def main() -> None:
    """Train with Keras."""


@main.command()
@training_options
def train(seed: str, run_type: str, halvings: int, **options: Any) -> None:
    """Training set in, model out."""

    def work(step: Step) -> Artifact:
        return _train(step, step.configured_pipeline(), seed=seed, halvings=halvings)

    _run(work, decided_by={"seed": seed}, backfill=run_type == "backfill", halvings=halvings, **options)


@main.command("try")
@trial_options
def try_configuration(configuration: str, epochs: int, halvings: int, **options: Any) -> None:
    """Training set in, trial out: one configuration of a search."""

    def work(step: Step) -> Artifact:
        return trial(step, configuration, epochs, lambda pipeline: _train(step, pipeline, halvings=halvings))

    _run(work, decided_by={"configuration": configuration, "epochs": epochs}, halvings=halvings, **options)


def _train(step: Step, pipeline: Pipeline, *, seed: str = "", halvings: int = 0) -> Model:
    from keras_trainer.train import train as train_model

    with TemporaryDirectory(prefix="evergreen-keras-") as folder:
        return train_model(
            pipeline,
            step.take(TrainingSet),
            step.lake,
            seed=int(seed) if seed else pipeline.training.seed,
            halvings=halvings,
            work=Path(folder),
            afresh=step.afresh,
            expected_device=step.settings.expected_device,
            code=step.code_digest,
        )


def _clear(lake: Lake, receipt: Receipt) -> None:
    """Remove what the tries of a training, or of a trial, left to resume from."""
    from keras_trainer.checkpoint import clear_checkpoints

    clear_checkpoints(lake, receipt.pipeline, trained_model(receipt))


def _run(work: Callable[[Step], Artifact], *, decided_by: Mapping[str, object], **options: Any) -> NoReturn:
    trainer = Path(__file__).resolve().parent
    decided_by = {"trainer": "keras", **decided_by}
    run_step(work, decided_by=decided_by, trainer=trainer, libraries=LIBRARIES, clear=_clear, **options)


if __name__ == "__main__":
    main()
