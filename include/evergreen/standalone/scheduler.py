"""Airflow's scheduler with the libraries of our tasks already imported.

LocalExecutor forks a process for every task. What is imported here, before the first fork, no task imports again:
measured, Great Expectations alone costs each validation 3 to 8 CPU seconds. Polars, Arrow and ONNX Runtime are left
out: they are quick to import and start threads, which do not live on in a fork.
"""

from __future__ import annotations

import sys
from importlib import import_module
from runpy import run_module

PRELOADED = (
    "great_expectations",
    "evergreen.features.kernels",
    "evergreen.ledger.ledger",
    "airflow.providers.cncf.kubernetes.operators.pod",
)


def main() -> None:
    """Imports, then becomes `airflow scheduler`."""
    become_airflow("scheduler", "--skip-serve-logs")


def become_airflow(*words: str) -> None:
    """Runs an Airflow command in this process, after importing what its tasks will need."""
    for name in PRELOADED:
        import_module(name)
    sys.argv = ["airflow", *words]
    run_module("airflow", run_name="__main__")


if __name__ == "__main__":
    main()
