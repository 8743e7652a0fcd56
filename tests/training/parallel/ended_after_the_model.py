"""Stands for the worker: SIGTERM comes to the step when the model is stored and its processes have not ended yet."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from evergreen.artifacts import Model
from evergreen.training.parallel.job import Job


def main() -> None:
    job = Job.model_validate_json(Path(sys.argv[1]).read_text())
    if os.environ["LOCAL_RANK"] == "0":
        job.write_model(Model.model_validate_json(os.environ["STORED_MODEL"]))
        os.kill(int(os.environ["STEP"]), signal.SIGTERM)
    time.sleep(600)


if __name__ == "__main__":
    main()
