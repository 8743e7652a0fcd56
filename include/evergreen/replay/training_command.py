"""The command that trains a version again: the recorded one, where this machine can run it."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec

from evergreen.errors import ConfigurationError
from evergreen.provenance import LIBRARIES, environment
from evergreen.replay.trail import Trail

PYTHONS = ("python", "python3")
"""In first place these are this very interpreter, as they are where pods run as processes."""


def training_command(trail: Trail) -> list[str]:
    """The words of the spec's `training.command`.

    Raises ConfigurationError where its program, its module or a library of its own is not here: what another trainer
    makes would differ, and tell nothing of this version.
    """
    program, *words = trail.pipeline.training.command
    absent = _absent(trail, program, words)
    if absent:
        raise ConfigurationError(
            f"Replay of {trail.model.version}",
            found=f"no {', '.join(absent)} here",
            wanted=f"what its trainer ran with: `{' '.join((program, *words))}` in the image {trail.trained.image}",
            remedy="Replay in an environment that has the trainer's libraries beside Evergreen (docs/replay.md).",
        )
    return [sys.executable if program in PYTHONS else program, *words]


def _absent(trail: Trail, program: str, words: list[str]) -> list[str]:
    """The program; of a Python, its module and the libraries that only a trainer of one's own has."""
    if program not in PYTHONS:
        return [] if shutil.which(program) else [program]
    modules = [words[1].partition(".")[0]] if words[:1] == ["-m"] else []
    own = [name for name in trail.trained.environment if name not in LIBRARIES]
    here = environment(*own)
    return [name for name in modules if find_spec(name) is None] + [name for name in own if name not in here]
