"""The search before a training: rounds of mapped pods, each round trying fewer configurations for longer."""

from __future__ import annotations

import json
import logging

from airflow.sdk import TaskGroup, task

from evergreen.artifacts import Configuration, Trial
from evergreen.errors import ConfigurationError
from evergreen.orchestration.pods import pod_steps, receipt_of
from evergreen.orchestration.proof import Proven, Stage, pod_results, proof, taken
from evergreen.pipeline import Pipeline, Search

logger = logging.getLogger(__name__)
CHOSEN = "choose_configuration"
SOME_TRIED = "all_done_min_one_success"
"""A configuration that cannot be trained, as one whose loss is not finite, is no candidate; the search goes on."""


def search(pipeline: Pipeline, wanted: Search) -> TaskGroup:
    """The task group that tries what is `wanted`; its last task's receipt names the best configuration."""
    from evergreen.training.search import plan_rounds

    rounds = plan_rounds(wanted)
    with TaskGroup("search", prefix_group_id=False) as group:
        words = draw_trials(pipeline.pipeline, rounds[0].epochs)
        for number, following in enumerate([*rounds[1:], None], start=1):
            tried = pod_steps(
                pipeline, "try", f"try_round_{number}", inputs=[receipt_of("build_training_set")], options=words
            )
            if following is None:
                tried >> choose_configuration(pipeline.pipeline, [f"try_round_{n + 1}" for n in range(len(rounds))])
            else:
                keep = keep_best.override(task_id=f"keep_best_{number}")
                words = keep(pipeline.pipeline, f"try_round_{number}", following.epochs)
                tried >> words
    return group


@task
def draw_trials(pipeline: str, epochs: int) -> list[list[str]]:
    """Draw the configurations of the first round."""
    with proof(pipeline) as stage:
        from evergreen.training.search import draw_configurations

        drawn = draw_configurations(_search(stage))
        stage.finish()
        return [_words(stage, configuration, epochs) for configuration in drawn]


@task(trigger_rule=SOME_TRIED)
def keep_best(pipeline: str, round_task: str, epochs: int) -> list[list[str]]:
    """Pass the best configurations of a round on to the next."""
    with proof(pipeline) as stage:
        from evergreen.training.search import survivors

        kept = survivors(_search(stage), _trials(_tried(round_task, stage)))
        _show(kept)
        stage.finish()
        return [_words(stage, trial.configuration, epochs) for trial in kept]


@task(task_id=CHOSEN, trigger_rule=SOME_TRIED)
def choose_configuration(pipeline: str, round_tasks: list[str]) -> Proven:
    """Choose the best configuration of the last round; what was tried before it is recorded with it."""
    with proof(pipeline) as stage:
        from evergreen.training.search import best_first

        rounds = [_tried(name, stage) for name in round_tasks]
        last = best_first(_trials(rounds[-1]))
        earlier = best_first([trial for results in rounds[:-1] for trial in _trials(results)])
        _show(last)
        chosen = Configuration(pipeline=pipeline, chosen=last[0].configuration, trials=(*last, *earlier))
        return stage.finish(chosen)


def _search(stage: Stage) -> Search:
    """The spec's search; ConfigurationError when it was taken out while this run was under way."""
    if stage.pipeline.search is None:
        raise ConfigurationError(
            f"Search of {stage.pipeline.pipeline}",
            found="a spec without a search",
            wanted="the search this run began with",
            remedy="Trigger a new run.",
        )
    return stage.pipeline.search


def _tried(round_task: str, stage: Stage) -> list[Proven]:
    """What the trials of a round that ended well finished with."""
    results = pod_results(round_task, stage.context)
    stage.inputs += tuple(result["receipt"] for result in results)
    return results


def _trials(results: list[Proven]) -> list[Trial]:
    return [taken(result, Trial) for result in results]


def _show(trials: list[Trial]) -> None:
    for trial in trials:
        logger.info(
            "validation AP %.4f after %d epochs: %s", trial.average_precision, trial.epochs, trial.configuration
        )


def _words(stage: Stage, configuration: dict[str, object], epochs: int) -> list[str]:
    """A trial's own options; what the trigger form says is no template here, as mapped pods render none."""
    fresh = str(stage.params["fresh"])
    return ["--configuration", json.dumps(configuration, sort_keys=True), "--epochs", str(epochs), "--fresh", fresh]
