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
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn, TypeVar

import click
from pydantic import BaseModel, ValidationError

from evergreen.artifacts import Artifact, Configuration, Model, Receipt, TrainingSet, Trial, artifact_kind
from evergreen.errors import EXIT_MEANING, ConfigurationError, EvergreenError, TemporaryError
from evergreen.lake.lake import Lake
from evergreen.lake.outputs import objects_of, tables_of
from evergreen.lake.receipts import receipt_path, write_receipt
from evergreen.lake.reuse import Result, find_result, remember_result, result_key
from evergreen.pipeline import Pipeline
from evergreen.provenance import code_digest, environment, hardware
from evergreen.settings import VERSION, Settings

logger = logging.getLogger(__name__)
A = TypeVar("A", bound=Artifact)
RECEIPT_SECONDS = 300
"""How long pods that trained together wait for the one that writes the receipt."""


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
    code_digest: str
    """Of the sources that do the work."""
    environment: Mapping[str, str]
    """Library -> release."""
    backfill: bool
    """Whether the run is one, whose model never moves production."""
    halvings: int
    """How often memory ran out before."""
    afresh: bool
    """Whether this is the first try of a run that was told to work again, which has nothing of its own to go on from.

    Never in a Job of several pods, all of whose tries have one number.
    """

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

    def configured_pipeline(self) -> Pipeline:
        """The spec, with what a search chose where there was one."""
        from evergreen.training.search import configured

        chosen = self.take(Configuration).chosen if "Configuration" in self.proven else {}
        return configured(self.pipeline, chosen) if chosen else self.pipeline


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
    command = click.option("--seed", default="", help="Seed instead of the spec's; empty: the spec's.")(command)
    command = click.option("--run-type", default="ordinary", help=backfill)(command)
    return _memory_options(command)


def trial_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that every trainer takes for one configuration of a search."""
    tried = "JSON: field of the spec's training section -> value to try."
    command = click.option("--configuration", required=True, help=tried)(command)
    command = click.option("--epochs", type=int, required=True, help="Epochs to train for at most.")(command)
    return _memory_options(command)


def _memory_options(command: Callable[..., None]) -> Callable[..., None]:
    halvings = "How often to halve the rows on the device at once: memory ran out before."
    command = click.option("--halvings", type=click.IntRange(min=0), default=0, help=halvings)(command)
    return step_options(command)


@main.command()
@training_options
@click.option("--micro-batch-rows", type=int, default=None, help="Rows on the device at once.")
def train(seed: str, run_type: str, micro_batch_rows: int | None, halvings: int, **options: Any) -> None:
    """Training set in, model out."""

    def work(step: Step) -> Artifact:
        from evergreen.training.train import train as train_model

        with TemporaryDirectory(prefix="evergreen-train-") as folder:
            return train_model(
                step.configured_pipeline(),
                step.take(TrainingSet),
                step.lake,
                seed=int(seed) if seed else None,
                work=Path(folder),
                micro_batch_rows=micro_batch_rows,
                halvings=halvings,
                afresh=step.afresh,
                expected_device=step.settings.expected_device,
                rendezvous=step.settings.rendezvous,
            )

    run_step(
        work,
        decided_by={"seed": seed},
        backfill=run_type == "backfill",
        halvings=halvings,
        clear=_clear_checkpoints,
        **options,
    )


@main.command("try")
@trial_options
def try_configuration(configuration: str, epochs: int, halvings: int, **options: Any) -> None:
    """Training set in, trial out: one configuration of a search."""

    def work(step: Step) -> Artifact:
        from evergreen.training.train import train as train_model

        with TemporaryDirectory(prefix="evergreen-try-") as folder:
            return trial(
                step,
                configuration,
                epochs,
                lambda pipeline: train_model(
                    pipeline,
                    step.take(TrainingSet),
                    step.lake,
                    work=Path(folder),
                    halvings=halvings,
                    afresh=step.afresh,
                    expected_device=step.settings.expected_device,
                ),
            )

    decided_by = {"configuration": configuration, "epochs": epochs}
    run_step(work, decided_by=decided_by, halvings=halvings, clear=_clear_checkpoints, **options)


def trial(step: Step, configuration: str, epochs: int, train: Callable[[Pipeline], Model]) -> Trial:
    """What `train` makes of the spec with `configuration`, the option's JSON, in its training section."""
    from evergreen.training.search import configured

    tried = json.loads(configuration)
    model = train(configured(step.pipeline, tried, epochs=epochs))
    metrics = json.loads(step.lake.objects.get(f"{model.uri}/metrics.json"))
    return Trial(configuration=tried, epochs=epochs, average_precision=metrics["average_precision"], model=model)


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


def _clear_checkpoints(lake: Lake, receipt: Receipt) -> None:
    """Remove what the tries of a training, or of a trial, left to resume from."""
    from evergreen.training.checkpoint_folder import clear_checkpoints

    clear_checkpoints(lake, trained_model(receipt))


def trained_model(receipt: Receipt) -> Model:
    """The model of a training, or of a trial, by its receipt."""
    made = receipt.result
    return Trial.model_validate(made["Trial"]).model if "Trial" in made else Model.model_validate(made["Model"])


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
    backfill: bool = False,
    halvings: int = 0,
    clear: Callable[[Lake, Receipt], None] | None = None,
    trainer: Path | None = None,
    libraries: tuple[str, ...] = (),
) -> NoReturn:
    """Does `work` under the step's options and ends the process: receipt last, exit code as evergreen.errors has it.

    `decided_by` names what, beside the inputs, decides the result, so that it is only reused under the same. A
    trainer of another framework calls this from a door of its own, and gives the folder of its package as `trainer` and
    the distributions whose release can change a number as `libraries`: edited, it trains again. A model made or reused
    in a `backfill` says so; it is the run, and not the training, that decides it. `clear` removes what tries left to
    resume from, once the result is remembered and not sooner.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    signal.signal(signal.SIGTERM, _terminated)
    started_at = datetime.now(UTC)
    try:
        settings = Settings.from_environment()
        lake = Lake(settings.lake_url, settings.lake_options)
        with _understood(settings):
            step = Step(
                pipeline=Pipeline.model_validate_json(lake.objects.get(pipeline)),
                lake=lake,
                settings=settings,
                proven=_proven(lake, inputs),
                run=run,
                task=task,
                attempt=attempt,
                started_at=started_at,
                code_digest=code_digest(trainer),
                environment=environment(*libraries),
                backfill=backfill,
                halvings=halvings,
                afresh=fresh and attempt == 1 and settings.rendezvous is None,
            )
            path = _do(step, work, inputs, decided_by or {}, fresh=fresh)
            if path is not None and clear is not None:
                clear(lake, Receipt.from_json(lake.objects.get(path)))
    except EvergreenError as error:
        # The operator's retry policy reads this last line from the pod's termination message.
        meaning = EXIT_MEANING.get(error.exit_code, "error")
        logger.error("exit %d (%s): %s", error.exit_code, meaning, error)
        sys.exit(error.exit_code)
    sys.exit(0)


@contextmanager
def _understood(settings: Settings) -> Iterator[None]:
    """Inside, a spec, receipt or option that this version's classes refuse is a ConfigurationError."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigurationError(
            f"{error.title} that this step was given",
            found=f"{place}: {first['msg']}" if place else first["msg"],
            wanted=f"what Evergreen {VERSION}, the image's, takes",
            remedy=f"Evergreen {settings.code_version} wrote it: where that is another version, give the step an image "
            "of that version, else correct it.",
            details=str(error),
        ) from error


def _do(
    step: Step,
    work: Callable[[Step], Artifact],
    inputs: tuple[str, ...],
    decided_by: Mapping[str, object],
    *,
    fresh: bool,
) -> str | None:
    """Path of the receipt, after the work or for an earlier result that still holds; None in a pod that writes none."""
    key = _result_key(step, decided_by)
    if step.settings.rendezvous:
        return _do_together(step, work, inputs, key, leads=step.settings.rendezvous.index == 0)
    found = None if fresh else find_result(step.lake, step.pipeline.pipeline, step.task, key)
    path = _reuse(step, found, inputs) if found else _work(step, work, inputs, key)
    logger.info("Receipt %s written", path)
    return path


def _do_together(
    step: Step, work: Callable[[Step], Artifact], inputs: tuple[str, ...], key: str, *, leads: bool
) -> str | None:
    """The same in one of several pods, of which that of index 0 writes the receipt for all.

    None reuses an earlier result, which the others might not find. A pod lost after the receipt was written has nothing
    left to do but to tidy up.
    """
    written = _written(step, inputs)
    if written is None and leads:
        return _work(step, work, inputs, key)
    if written is None:
        work(step)
        _await_receipt(step, inputs)
        return None
    logger.info("Receipt %s of this very try is written already", written)
    if leads:
        remember_result(step.lake, step.pipeline.pipeline, step.task, key, written)
    return written if leads else None


def _written(step: Step, inputs: tuple[str, ...]) -> str | None:
    """Path of this try's receipt, if it is there and of the same inputs, spec, code and libraries."""
    path = receipt_path(step.pipeline.pipeline, step.run, step.task, step.attempt)
    if not step.lake.objects.exists(path):
        return None
    found = Receipt.from_json(step.lake.objects.get(path))
    wanted = (_digests(step, inputs), step.pipeline.digest, step.code_digest, dict(step.environment))
    return path if (found.inputs, found.spec_digest, found.code_digest, found.environment) == wanted else None


def _await_receipt(step: Step, inputs: tuple[str, ...]) -> None:
    """Returns when the pod of index 0 has written it; lost before that, it cannot train again without this one."""
    give_up_at = time.monotonic() + RECEIPT_SECONDS
    while _written(step, inputs) is None:
        if time.monotonic() > give_up_at:
            raise TemporaryError(
                "Receipt of the pods that train together",
                found=f"none from the pod of index 0, {RECEIPT_SECONDS} seconds after the model was stored",
                wanted="the receipt, before the others end",
                remedy="All meet again on the next try, which makes the same model from the checkpoints.",
            )
        time.sleep(1)


def _digests(step: Step, inputs: tuple[str, ...]) -> dict[str, str]:
    return {path: step.lake.objects.digest(path) for path in inputs}


def _work(step: Step, work: Callable[[Step], Artifact], inputs: tuple[str, ...], key: str) -> str:
    """Path of the receipt after the work was done."""
    artifact = _marked(work(step), step)
    path = write_receipt(step.lake, _receipt(step, {type(artifact).__name__: artifact}, inputs))
    remember_result(step.lake, step.pipeline.pipeline, step.task, key, path)
    return path


def _reuse(step: Step, found: Result, inputs: tuple[str, ...]) -> str:
    """Path of the receipt that says the earlier result still holds."""
    logger.info("Nothing changed in inputs, spec, code, libraries or hardware: reusing the result of %s", found.receipt)
    artifacts = {n: _marked(artifact_kind(n).model_validate(value), step) for n, value in found.artifacts.items()}
    return write_receipt(step.lake, _receipt(step, artifacts, inputs, reused=found.receipt))


def _marked(artifact: Artifact, step: Step) -> Artifact:
    """A model says of this run, whoever trained it, whether it is a backfill; all else stays as it is."""
    return artifact.model_copy(update={"backfill": step.backfill}) if isinstance(artifact, Model) else artifact


def _result_key(step: Step, decided_by: Mapping[str, object]) -> str:
    return result_key(
        inputs=step.proven,
        spec=step.pipeline.digest,
        code=step.code_digest,
        libraries=step.environment,
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
        inputs=_digests(step, inputs),
        tables=tuple(table for artifact in artifacts.values() for table in tables_of(artifact)),
        objects=tuple(ref for artifact in artifacts.values() for ref in objects_of(artifact, step.lake)),
        result={name: artifact.model_dump(mode="json") for name, artifact in artifacts.items()},
        spec_digest=step.pipeline.digest,
        code_version=step.settings.code_version,
        code_digest=step.code_digest,
        environment=dict(step.environment),
        hardware=hardware(),
        image=step.settings.trainer_image,
        seed=next((artifact.seed for artifact in artifacts.values() if isinstance(artifact, Model)), None),
        halvings=step.halvings,
        device=_trained_on(artifacts.values(), step.lake),
        started_at=step.started_at,
        seconds=seconds,
        cost=seconds / 3600 * step.settings.price_per_hour,
        energy_watt_hours=seconds / 3600 * step.settings.watts,
        peak_memory_bytes=_peak_memory_bytes(),
        reused=reused,
    )


class _ModelConfig(BaseModel):
    """What a receipt takes from a model's config.json, in which a trainer of one's own may say what it likes."""

    device: str = "cpu"


def _trained_on(artifacts: Iterable[Artifact], lake: Lake) -> str:
    """The device that a model or trial among `artifacts` says it was trained on; without either, the CPU."""
    models = (artifact.model if isinstance(artifact, Trial) else artifact for artifact in artifacts)
    paths = [f"{model.uri}/config.json" for model in models if isinstance(model, Model)]
    if not paths or not lake.objects.exists(paths[0]):
        return _ModelConfig().device
    try:
        return _ModelConfig.model_validate_json(lake.objects.get(paths[0])).device
    except ValidationError:
        return _ModelConfig().device


def _peak_memory_bytes() -> int:
    """Of this process, or of the largest one it started; the memory of an accelerator is not in it."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return 1024 * max(resource.getrusage(who).ru_maxrss for who in whose)


def _terminated(signum: int, frame: object) -> NoReturn:
    raise TemporaryError(
        "This step", found="a request to stop", wanted="time to finish", remedy="It resumes on the next try."
    )


if __name__ == "__main__":
    main()
