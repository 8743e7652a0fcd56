"""What a training process is told by the step that starts it, and how it says why it failed.

<work>/job.json         what to train
<work>/model.json       the model, once it is stored
<work>/failure.json     the error that ended it
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from evergreen.artifacts import Model, TrainingSet
from evergreen.errors import EvergreenError, TemporaryError
from evergreen.pipeline import Pipeline


class Job(BaseModel):
    """One training run; secrets of the lake travel in the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pipeline: Pipeline
    training_set: TrainingSet
    lake_url: str
    seed: int | None
    micro_batch_rows: int | None
    halvings: int
    """How often memory ran out before."""
    afresh: bool = False
    """Whether to leave aside what an earlier run left to resume from."""
    expected_device: str | None
    work: Path

    @property
    def path(self) -> Path:
        """Where the job itself is written."""
        return self.work / "job.json"

    def write(self) -> Path:
        """The file the processes are told of."""
        self.path.write_text(self.model_dump_json())
        return self.path

    def forget_results(self) -> None:
        """Remove what an earlier run left in `work`."""
        for path in (self._model, self._failure):
            path.unlink(missing_ok=True)

    def write_model(self, model: Model) -> None:
        """Leave the result."""
        _replace(self._model, model.to_json())

    @property
    def has_model(self) -> bool:
        """Whether the processes came to their end: the model is stored."""
        return self._model.exists()

    def read_model(self) -> Model:
        """The result that the processes left."""
        return Model.from_json(self._model.read_text())

    def write_failure(self, error: EvergreenError) -> None:
        """Leave the reason; the first that a new start cannot mend stays."""
        if not self.failed_for_good:
            parts = {name: getattr(error, name) for name in ("thing", "found", "wanted", "remedy", "details")}
            _replace(self._failure, json.dumps({"kind": type(error).__name__, **parts}))

    def read_failure(self) -> EvergreenError | None:
        """The reason that was left, if any was."""
        if not self._failure.exists():
            return None
        parts = json.loads(self._failure.read_text())
        return _kinds()[parts.pop("kind")](**parts)

    @property
    def failed_for_good(self) -> bool:
        """Whether starting the processes again here could not help."""
        failure = self.read_failure()
        return failure is not None and not isinstance(failure, TemporaryError)

    @property
    def _model(self) -> Path:
        return self.work / "model.json"

    @property
    def _failure(self) -> Path:
        return self.work / "failure.json"


def _kinds() -> dict[str, type[EvergreenError]]:
    """Every error of our tree by name."""
    found, left = {}, [EvergreenError]
    while left:
        kind = left.pop()
        found[kind.__name__] = kind
        left += kind.__subclasses__()
    return found


def _replace(path: Path, text: str) -> None:
    """Write whole or not at all, also when two processes do it at once."""
    staged = path.with_name(f"{path.name}.{os.getpid()}")
    staged.write_text(text)
    staged.replace(path)
