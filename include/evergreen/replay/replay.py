"""Makes a version again from what its receipts name, in the same two steps that made it."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from evergreen.artifacts import Model, Receipt
from evergreen.errors import ConfigurationError, DataError, TemporaryError
from evergreen.features.training_set import build_training_set
from evergreen.lake.lake import Lake
from evergreen.lake.receipts import require_receipt
from evergreen.replay.comparison import Comparison, Origin, changes, compare
from evergreen.replay.trail import Trail
from evergreen.replay.training_command import training_command
from evergreen.settings import Settings
from evergreen.training.model_files import METRICS, read_manifest, read_model_file
from evergreen.training.stretch import Stretch

LEARNED_FROM = ("train", "validation")
"""Parts of the training set that decide the weights."""
NOT_REPEATABLE = "neither data, code, environment, hardware nor steps changed: the step itself does not repeat"


def replay(trail: Trail, lake: Lake, settings: Settings) -> list[Comparison]:
    """One comparison for each thing made again, in order; the training starts from the recorded training set.

    Nothing that others read is touched: features are built anew apart from the pipeline's, and what is made of them
    lies in the lake under its own digest, unregistered. Raises ConfigurationError, before anything is made, where the
    trainer of this version cannot run here.
    """
    command = training_command(trail)
    return [*_data(trail, lake), *_model(trail, command, lake, settings)]


def first_difference(comparisons: list[Comparison]) -> Comparison | None:
    """The first comparison that is not identical; None when all are."""
    return next((c for c in comparisons if not c.identical), None)


def _data(trail: Trail, lake: Lake) -> list[Comparison]:
    """The training set frozen once more from history as it was known then, features built anew on a scratch disk."""
    recorded = _parts(lake, trail.training_set.uri)
    span = trail.training_set.train_days
    as_of_day = (trail.training_set.as_of - timedelta(microseconds=1)).date()
    window_days = (span[1] - span[0]).days + 1
    try:
        with TemporaryDirectory(prefix="evergreen-replay-") as scratch:
            apart = Lake(Path(scratch).as_uri())
            again = build_training_set(trail.pipeline, as_of_day, lake, window_days=window_days, features=apart)
    except (DataError, ConfigurationError) as error:  # what passes by itself is no difference
        return [Comparison(thing="training set", recorded=trail.training_set.digest, found=str(error), why="data")]
    changed = changes(Origin.of(trail.frozen), Origin.here())
    why = " or ".join(["data (history as of that day reads otherwise now)", *changed])
    return compare("training set", recorded, _parts(lake, again.uri), why)


def _parts(lake: Lake, uri: str) -> dict[str, str]:
    parts = json.loads(lake.objects.get(f"{uri}/manifest.json"))["parts"]
    return {part: parts[part]["digest"] for part in LEARNED_FROM}


def _model(trail: Trail, command: list[str], lake: Lake, settings: Settings) -> list[Comparison]:
    """The model trained once more on the recorded training set."""
    recorded = read_manifest(lake, trail.model.uri, trail.model.digest)
    trained = _train(trail, command, lake, settings)
    again = Model.model_validate(trained.result["Model"])
    found = read_manifest(lake, again.uri, again.digest)
    changed = changes(Origin.of(trail.trained), Origin.of(trained))
    then, now = _steps(lake, trail.model, recorded), _steps(lake, again, found)
    if then != now:
        changed.append(f"steps ({then} then, {now} now)")
    return compare("model", recorded, found, " and ".join(changed) or NOT_REPEATABLE)


def _steps(lake: Lake, model: Model, manifest: Mapping[str, str]) -> str:
    """How the steps of the model's networks were taken, which decides the order of sums; empty where it is not told."""
    if METRICS not in manifest:
        return ""
    members = json.loads(read_model_file(lake, model.uri, METRICS, manifest)).get("members", [])
    stretches = [Stretch(**stretch) for member in members for stretch in member.get("stretches", [])]
    return ", ".join(f"from {s.first_step} by {s.processes} x {s.rows_at_once} rows at once" for s in stretches)


def _train(trail: Trail, command: list[str], lake: Lake, settings: Settings) -> Receipt:
    """The receipt that the training step writes in a process of its own, as it did in its pod."""
    run = f"replay.{trail.model.version}.{uuid.uuid4().hex[:8]}"
    variables = os.environ | {"EVERGREEN_LAKE_URL": settings.lake_url, **settings.lake_options}
    done = subprocess.run(
        [*command, "train", *_options(trail, run)],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise TemporaryError(
            f"Training {trail.model.version} again",
            found=done.stdout.strip().splitlines()[-1] if done.stdout.strip() else f"exit {done.returncode}",
            wanted="a model",
            remedy="Mend what the last line names and replay again.",
            details=done.stdout,
        )
    return require_receipt(lake, trail.pipeline.pipeline, run, "train", 1)


def _options(trail: Trail, run: str) -> list[str]:
    """What the step is told; a replay's model is, like a backfill's, never to be deployed by itself."""
    options = ["--pipeline", trail.spec, "--run", run, "--task", "train", "--attempt", "1", "--fresh", "True"]
    options += ["--seed", str(trail.model.seed), "--run-type", "backfill"]
    options += ["--halvings", str(trail.trained.halvings)] if trail.trained.halvings else []
    return options + [word for path in trail.inputs for word in ("--inputs", path)]
