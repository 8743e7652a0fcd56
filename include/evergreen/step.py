"""The one door into a container: `python -m evergreen.step train --inputs RECEIPT --output RECEIPT`.

A step reads the artifacts its upstream tasks proved (by the paths of their receipts in the lake), does its
work, and writes its own receipt last. Its exit code says what happened (see evergreen.errors).
"""

from __future__ import annotations

import json
import logging
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn, TypeVar

import click

from evergreen.artifacts import Artifact, Configuration, Model, Receipt, TrainingSet, Trial, artifact_kind
from evergreen.errors import EXIT_MEANING, ConfigurationError, EvergreenError, TemporaryError
from evergreen.lake.lake import Lake
from evergreen.lake.outputs import objects_of, tables_of
from evergreen.lake.receipts import write_receipt
from evergreen.lake.reuse import Result, find_result, remember_result, result_key
from evergreen.pipeline import Pipeline, Training
from evergreen.provenance import code_digest, environment, hardware
from evergreen.settings import Settings

logger = logging.getLogger(__name__)
A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One try of one step: where it reads and what identifies its receipt."""

    pipeline: Pipeline
    lake: Lake
    settings: Settings
    proven: dict[str, object]
    """Artifacts of the upstream receipts, by name."""
    run: str
    task: str
    attempt: int
    started_at: datetime

    def take(self, kind: type[A], name: str | None = None) -> A:
        """The upstream artifact called `name`; ConfigurationError when no input holds it."""
        name = name or kind.__name__
        if name not in self.proven:
            raise ConfigurationError(
                f"Inputs of {self.task}",
                found=f"artifacts {sorted(self.proven)}",
                wanted=name,
                remedy="Give the receipt of the task that makes it with --inputs.",
            )
        return kind.model_validate(self.proven[name])


@click.group()
def main() -> None:
    """Run one step of a pipeline inside its container."""


def step_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that every step takes."""
    for option in (
        click.option("--pipeline", required=True, help="Path of the resolved spec in the lake."),
        click.option("--inputs", multiple=True, help="Path of an upstream receipt in the lake; repeatable."),
        click.option("--run", required=True, help="DAG run this step belongs to."),
        click.option("--task", required=True, help="Task this step is."),
        click.option("--attempt", type=int, required=True, help="Try of the task, from 1."),
        click.option("--fresh", type=bool, default=False, help="Work again even if nothing that decides it changed."),
    ):
        command = option(command)
    return command


def training_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that every trainer takes, of whatever framework."""
    backfill = "`backfill` marks the model as never to be deployed by itself."
    halvings = "How often to halve the rows on the device at once: memory ran out before."
    for option in (
        click.option("--seed", default="", help="Seed instead of the spec's; empty: the spec's."),
        click.option("--run-type", default="ordinary", help=backfill),
        click.option("--halvings", type=click.IntRange(min=0), default=0, help=halvings),
    ):
        command = option(command)
    return step_options(command)


@main.command()
@training_options
@click.option("--micro-batch-rows", type=int, default=None, help="Rows on the device at once.")
def train(seed: str, run_type: str, micro_batch_rows: int | None, halvings: int, **options: Any) -> None:
    """Training set in, model out."""

    def work(step: Step) -> Artifact:
        from evergreen.training.train import train as train_model

        with TemporaryDirectory(prefix="evergreen-train-") as folder:
            model = train_model(
                _configured(step),
                step.take(TrainingSet),
                step.lake,
                seed=int(seed) if seed else None,
                work=Path(folder),
                micro_batch_rows=_halved(step.pipeline.training, micro_batch_rows, halvings),
                expected_device=step.settings.expected_device,
                rendezvous=step.settings.rendezvous,
            )
        return model.model_copy(update={"backfill": run_type == "backfill"})

    run_step(work, decided_by={"seed": seed, "run_type": run_type}, **options)


@main.command("try")
@step_options
@click.option("--configuration", required=True, help="JSON: field of the spec's training section -> value to try.")
@click.option("--epochs", type=int, required=True, help="Epochs to train for at most.")
def try_configuration(configuration: str, epochs: int, **options: Any) -> None:
    """Training set in, trial out: one configuration of a search."""

    def work(step: Step) -> Artifact:
        from evergreen.training.search import configured
        from evergreen.training.train import train as train_model

        tried = json.loads(configuration)
        pipeline = configured(step.pipeline, tried, epochs=epochs)
        with TemporaryDirectory(prefix="evergreen-try-") as folder:
            model = train_model(
                pipeline,
                step.take(TrainingSet),
                step.lake,
                work=Path(folder),
                expected_device=step.settings.expected_device,
            )
        metrics = json.loads(step.lake.objects.get(f"{model.uri}/metrics.json"))
        return Trial(configuration=tried, epochs=epochs, average_precision=metrics["average_precision"], model=model)

    run_step(work, decided_by={"configuration": configuration, "epochs": epochs}, **options)


@main.command()
@step_options
def evaluate(**options: Any) -> None:
    """Model, training set and perhaps a champion in, evaluation out."""

    def work(step: Step) -> Artifact:
        from evergreen.evaluation.evaluate import evaluate as evaluate_model

        return evaluate_model(
            step.pipeline,
            step.take(Model),
            step.take(TrainingSet),
            step.lake,
            champion=step.take(Model, "Champion") if "Champion" in step.proven else None,
            trained=_training_receipt(step.lake, options["inputs"]),
        )

    run_step(work, **options)


def _training_receipt(lake: Lake, inputs: tuple[str, ...]) -> Receipt | None:
    """The receipt of the training among the inputs."""
    receipts = (Receipt.from_json(lake.objects.get(path)) for path in inputs)
    return next((receipt for receipt in receipts if "Model" in receipt.result), None)


def _halved(training: Training, rows: int | None, halvings: int) -> int | None:
    """Rows on the device at once; the batch they add up to stays what it was."""
    if not halvings:
        return rows
    return max(1, (rows or training.micro_batch_rows or training.batch_rows) >> halvings)


def _configured(step: Step) -> Pipeline:
    """The spec, with what a search chose where there was one."""
    from evergreen.training.search import configured

    chosen = step.take(Configuration).chosen if "Configuration" in step.proven else {}
    return configured(step.pipeline, chosen) if chosen else step.pipeline


def run_step(
    work: Callable[[Step], Artifact],
    *,
    pipeline: str,
    inputs: tuple[str, ...],
    run: str,
    task: str,
    attempt: int,
    fresh: bool,
    decided_by: Mapping[str, object] | None = None,
) -> NoReturn:
    """Does `work` under the step's options and ends the process: receipt last, exit code as evergreen.errors has it.

    `decided_by` names what, beside the inputs, decides the result, so that it is only reused under the same. A
    trainer of another framework calls this from a door of its own.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    signal.signal(signal.SIGTERM, _terminated)
    settings = Settings.from_environment()
    lake = Lake(settings.lake_url, settings.lake_options)
    started_at = datetime.now(UTC)
    try:
        step = Step(
            pipeline=Pipeline.model_validate_json(lake.objects.get(pipeline)),
            lake=lake,
            settings=settings,
            proven=_proven(lake, inputs),
            run=run,
            task=task,
            attempt=attempt,
            started_at=started_at,
        )
        key = _result_key(step, decided_by or {})
        found = None if fresh else find_result(lake, step.pipeline.pipeline, task, key)
        if settings.rendezvous and settings.rendezvous.index:  # the pod of index 0 writes the receipt for all
            if not found:
                work(step)
            sys.exit(0)
        path = _reuse(step, found, inputs) if found else _work(step, work, inputs, key)
    except EvergreenError as error:
        # The operator's retry policy reads this last line from the pod's termination message.
        meaning = EXIT_MEANING.get(error.exit_code, "error")
        logger.error("exit %d (%s): %s", error.exit_code, meaning, error)
        sys.exit(error.exit_code)
    logger.info("Receipt %s written", path)
    sys.exit(0)


def _work(step: Step, work: Callable[[Step], Artifact], inputs: tuple[str, ...], key: str) -> str:
    """Path of the receipt after the work was done."""
    artifact = work(step)
    path = write_receipt(step.lake, _receipt(step, {type(artifact).__name__: artifact}, inputs))
    remember_result(step.lake, step.pipeline.pipeline, step.task, key, path)
    return path


def _reuse(step: Step, found: Result, inputs: tuple[str, ...]) -> str:
    """Path of the receipt that says the earlier result still holds."""
    logger.info("Nothing changed in inputs, spec, code, libraries or hardware: reusing the result of %s", found.receipt)
    artifacts = {name: artifact_kind(name).model_validate(value) for name, value in found.artifacts.items()}
    return write_receipt(step.lake, _receipt(step, artifacts, inputs, reused=found.receipt))


def _result_key(step: Step, decided_by: Mapping[str, object]) -> str:
    return result_key(
        inputs=step.proven,
        spec=step.pipeline.digest,
        code=code_digest(),
        libraries=environment(),
        hardware=hardware(),
        **decided_by,
    )


def _proven(lake: Lake, inputs: tuple[str, ...]) -> dict[str, object]:
    proven: dict[str, object] = {}
    for path in inputs:
        proven |= json.loads(lake.objects.get(path))["result"]
    return proven


def _receipt(
    step: Step, artifacts: Mapping[str, Artifact], inputs: tuple[str, ...], reused: str | None = None
) -> Receipt:
    seconds = (datetime.now(UTC) - step.started_at).total_seconds()
    return Receipt(
        pipeline=step.pipeline.pipeline,
        run=step.run,
        task=step.task,
        attempt=step.attempt,
        inputs={path: step.lake.objects.digest(path) for path in inputs},
        tables=tuple(table for artifact in artifacts.values() for table in tables_of(artifact)),
        objects=tuple(ref for artifact in artifacts.values() for ref in objects_of(artifact, step.lake)),
        result={name: artifact.model_dump(mode="json") for name, artifact in artifacts.items()},
        spec_digest=step.pipeline.digest,
        code_version=step.settings.code_version,
        code_digest=code_digest(),
        environment=dict(environment()),
        hardware=hardware(),
        image=step.settings.trainer_image,
        seed=next((artifact.seed for artifact in artifacts.values() if isinstance(artifact, Model)), None),
        started_at=step.started_at,
        seconds=seconds,
        cost=seconds / 3600 * step.settings.price_per_hour,
        energy_watt_hours=seconds / 3600 * step.settings.watts,
        peak_memory_bytes=_peak_memory_bytes(),
        reused=reused,
    )


def _peak_memory_bytes() -> int:
    """Of this process, or of the largest one it started."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return 1024 * max(resource.getrusage(who).ru_maxrss for who in whose)


def _terminated(signum: int, frame: object) -> NoReturn:
    raise TemporaryError(
        "This step", found="a request to stop", wanted="time to finish", remedy="It resumes on the next try."
    )


if __name__ == "__main__":
    main()
