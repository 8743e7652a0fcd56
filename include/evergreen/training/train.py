"""From a training set to a stored model: the stage this room is for."""

from __future__ import annotations

import copy
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from evergreen.artifacts import Model, TrainingSet
from evergreen.errors import ConfigurationError
from evergreen.features.training_set import fetch_part
from evergreen.lake.lake import Lake
from evergreen.pipeline import Pipeline, Training
from evergreen.provenance import code_digest
from evergreen.settings import Rendezvous
from evergreen.training.card import model_card
from evergreen.training.checkpoint import Checkpoints, WholeCheckpoints
from evergreen.training.checkpoint_folder import forget_checkpoints
from evergreen.training.dataset import Examples
from evergreen.training.devices import (
    DTYPES,
    choose_device,
    memory_errors,
    repeatable,
    warn_of_few_cpus,
    warn_of_slow_products,
)
from evergreen.training.encoders import warn_of_constants
from evergreen.training.fitted import Fitted, FittedNetwork, write_model
from evergreen.training.interruption import Interruption, interruptible
from evergreen.training.loop import Fit
from evergreen.training.micro_batch import rows_at_once
from evergreen.training.model_files import store_model
from evergreen.training.network import TabularNetwork
from evergreen.training.parallel.job import Job
from evergreen.training.prepared import Facts, Prepared, encode_shards, larger_than_memory, open_shards, prepare
from evergreen.training.recipe import Recipe
from evergreen.training.rows import drawn_share, num_drawn
from evergreen.training.state import EpochResult, TrainingState, fingerprint
from evergreen.training.strategy import Alone, Strategy
from evergreen.training.team import ALONE, Team
from evergreen.training.trees import fit_trees

logger = logging.getLogger(__name__)

Progress = Callable[[EpochResult], None]


@dataclass(frozen=True, kw_only=True)
class Run:
    """How this process trains, with whom, and whom it tells."""

    recipe: Recipe
    device: torch.device
    team: Team
    checkpoints: Callable[[Recipe], Checkpoints]
    """Those of a network's recipe."""
    interruption: Interruption
    on_progress: Progress | None

    @property
    def members(self) -> list[Run]:
        """How each network of the model trains; none for a model of trees alone."""
        return [replace(self, recipe=recipe) for recipe in self.recipe.members]


def train(
    pipeline: Pipeline,
    training_set: TrainingSet,
    lake: Lake,
    *,
    seed: int | None = None,
    work: Path,
    micro_batch_rows: int | None = None,
    halvings: int = 0,
    afresh: bool = False,
    expected_device: str | None = None,
    rendezvous: Rendezvous | None = None,
    on_progress: Progress | None = None,
) -> Model:
    """The model that `training_set` teaches, stored in the lake; the same inputs and seed give the same version.

    `work` is a folder for files on the way; `halvings` how often memory ran out before, which halves the rows that a
    process takes at once; `afresh` leaves aside what an earlier run left to resume from; `expected_device` is the kind
    of device that must be there; `rendezvous` where other machines that train the same model are met.
    Raises ConfigurationError when they would each train the whole of it, DataError for data nothing can be learned
    from, OutOfMemory, and TemporaryError on SIGTERM: the next call resumes from the last checkpoint. Checkpoints stay
    until `clear_checkpoints`, so that nothing is trained again before the model is proven. A run in several processes
    tells its progress in the log alone, not by `on_progress`.
    """
    if pipeline.training.parallel.strategy != "none":
        from evergreen.training.parallel.launch import train_in_processes

        job = Job(
            pipeline=pipeline,
            training_set=training_set,
            lake_url=lake.url,
            seed=seed,
            micro_batch_rows=micro_batch_rows,
            halvings=halvings,
            afresh=afresh,
            expected_device=expected_device,
            work=work,
        )
        return train_in_processes(job, lake.options, rendezvous)
    _require_alone(rendezvous)
    device = choose_device(expected=expected_device)
    recipe = Recipe.of(pipeline, seed=seed, micro_batch_rows=micro_batch_rows, device=device.type).halved(halvings)
    if afresh:
        forget_checkpoints(lake, training_set.digest, recipe)
    with _training(recipe, device, ALONE) as interruption:
        run = Run(
            recipe=recipe,
            device=device,
            team=ALONE,
            checkpoints=lambda member: WholeCheckpoints(lake.objects, training_set, member, work),
            interruption=interruption,
            on_progress=on_progress,
        )
        return _train(pipeline, training_set, lake, run, work)


def _require_alone(rendezvous: Rendezvous | None) -> None:
    """Nothing, when this machine trains alone; ConfigurationError otherwise: each would train the whole model."""
    if rendezvous is not None and rendezvous.nodes > 1:
        raise ConfigurationError(
            "training.parallel.strategy",
            found=f"none in a Job of {rendezvous.nodes} pods",
            wanted="a strategy by which pods share one training",
            remedy="Name one (see docs/parallel-training.md), or train in one pod, without EVERGREEN_RENDEZVOUS.",
        )


def train_together(job: Job, lake: Lake, *, team: Team, device: torch.device) -> Model:
    """The same model, as one process of `team`; the leading one stores it, and every one is told of it."""
    from evergreen.training.parallel.checkpoint import ShardedCheckpoints

    recipe = Recipe.of(job.pipeline, seed=job.seed, micro_batch_rows=job.micro_batch_rows, device=device.type)
    recipe = recipe.halved(job.halvings, processes=team.size)
    with _training(recipe, device, team) as interruption:
        run = Run(
            recipe=recipe,
            device=device,
            team=team,
            checkpoints=lambda member: ShardedCheckpoints(lake.objects, job.training_set, member, job.work, team),
            interruption=interruption,
            on_progress=None,
        )
        return _train(job.pipeline, job.training_set, lake, run, job.work)


@contextmanager
def _training(recipe: Recipe, device: torch.device, team: Team) -> Iterator[Interruption]:
    """Inside, arithmetic repeats itself, and SIGTERM and lack of memory are our errors."""
    training = recipe.training
    warn_of_slow_products(device, DTYPES[training.precision])
    if team.size == 1:
        warn_of_few_cpus(training.threads)
    with (
        interruptible() as interruption,
        memory_errors(batch_rows=rows_at_once(training, processes=team.size)),
        repeatable(seed=training.seed, threads=training.threads, device=device, tf32=training.precision == "tf32"),
    ):
        yield interruption


def _train(pipeline: Pipeline, training_set: TrainingSet, lake: Lake, run: Run, work: Path) -> Model:
    prepared = _prepare(lake, training_set, run, work)
    fitted = _fit(prepared, run)
    model = None
    if fitted is not None:
        model = _store(pipeline, training_set, lake, fitted, prepared.facts.checked, run, work / "model")
        logger.info("stored %s: validation AP %.4f", model.uri, fitted.metrics.average_precision)
    told: Model = run.team.told(model)
    return told


def _store(
    pipeline: Pipeline,
    training_set: TrainingSet,
    lake: Lake,
    fitted: Fitted,
    checked: Examples,
    run: Run,
    folder: Path,
) -> Model:
    shutil.rmtree(folder, ignore_errors=True)  # what a process that was killed here had begun
    write_model(folder, fitted, checked, run.recipe)
    (folder / "card.md").write_text(model_card(pipeline, training_set, run.recipe, fitted.metrics))
    run.interruption.check()
    return store_model(
        lake,
        folder,
        pipeline=pipeline.pipeline,
        as_of=training_set.as_of,
        training_set=training_set.digest,
        seed=run.recipe.training.seed,
    )


def _prepare(lake: Lake, training_set: TrainingSet, run: Run, work: Path) -> Prepared:
    """Sources for this process; one process of each machine fetches and encodes for all there."""
    recipe, team, facts = run.recipe, run.team, None
    if team.local_rank == 0:
        train = fetch_part(lake, training_set, "train", work)
        validation = fetch_part(lake, training_set, "validation", work)
        if team.size == 1 and not larger_than_memory((train, validation), recipe.training):
            return prepare(train, validation, recipe.features, run.device)
        facts = encode_shards(train, validation, recipe.features, recipe.training, work / "shards")
        train.unlink()
        validation.unlink()
    told: Facts = team.told(facts.to_tell if facts is not None else None)
    team.gather(None)  # the shards of every machine are written
    return open_shards(
        facts if team.leads and facts is not None else told, work / "shards", recipe.training, run.device
    )


def _fit(prepared: Prepared, run: Run) -> Fitted | None:
    """The fitted model, in the leading process; None elsewhere."""
    training, facts = run.recipe.training, prepared.facts
    logger.info("training on %d rows (%d positive)", facts.negatives + facts.positives, facts.positives)
    networks = [_fit_network(prepared, member) for member in run.members]
    if not run.team.leads:
        return None
    warn_of_constants(facts.encoders, run.recipe.features.numeric)
    trees = None
    if training.family != "network":
        check = run.interruption.check
        trees = fit_trees(facts.encoders, prepared.train, prepared.validation, training, check=check)
    return Fitted.of(facts.encoders, networks, trees, prepared.validation, training)


def _fit_network(prepared: Prepared, run: Run) -> FittedNetwork:
    """One network, which in the leading process has the best weights."""
    training = run.recipe.training
    torch.manual_seed(training.seed)
    network = _start(prepared.facts, training, run.device)
    whole = copy.deepcopy(network).requires_grad_(False)
    strategy = _strategy(network, prepared.facts, run)
    state = TrainingState(strategy.network, training, architecture=f"{code_digest()}-{fingerprint(whole)}")
    checkpoints = run.checkpoints(run.recipe)
    checkpoints.resume(state)
    state.go_on(rows_at_once=rows_at_once(training, processes=run.team.size), processes=run.team.size)
    Fit(
        state=state,
        network=whole if run.team.leads else whole.to("meta"),
        device=run.device,
        strategy=strategy,
        train=prepared.train,
        validation=prepared.validation,
        training=training,
        checkpoints=checkpoints,
        interruption=run.interruption,
        on_progress=run.on_progress,
    ).run()
    weights = strategy.whole(state.best)
    if run.team.leads:
        whole.load_state_dict(weights, strict=False)
    stretches = tuple(stretch for stretch in state.stretches if stretch.first_step < state.steps)
    return FittedNetwork(network=whole, curve=tuple(state.curve), best_epoch=state.best_epoch, stretches=stretches)


def _strategy(network: TabularNetwork, facts: Facts, run: Run) -> Strategy:
    training = run.recipe.training
    if run.team.size == 1 and training.parallel.strategy == "none":
        return Alone(network, precision=DTYPES[training.precision])
    from evergreen.training.parallel.choice import choose_strategy, require_rows

    require_rows(facts.positives + num_drawn(facts.negatives, training.negative_share), run.team)
    return choose_strategy(network, training, run.team, run.device)


def _start(facts: Facts, training: Training, device: torch.device) -> TabularNetwork:
    """The untrained network on `device`."""
    network = TabularNetwork(facts.encoders, hidden=training.hidden, dropout=training.dropout)
    positives = float(facts.positives)
    drawn = facts.negatives * drawn_share(facts.negatives, training.negative_share)
    network.start_from(positives / (positives + drawn))
    return network.to(device)
