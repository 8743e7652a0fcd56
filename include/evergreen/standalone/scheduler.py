"""Airflow's scheduler with the libraries of our tasks already imported.

LocalExecutor forks a process for every task. What is imported here, before the first fork, no task imports again:
measured, Great Expectations alone costs each validation 3 to 8 CPU seconds. Polars, Arrow and ONNX Runtime are left
out: they are quick to import and start threads, which do not live on in a fork.
"""

from __future__ import annotations

import sys
from importlib import import_module

PRELOADED = (
    "great_expectations",
    "evergreen.features.kernels",
    "evergreen.ledger.ledger",
    "airflow.providers.cncf.kubernetes.operators.pod",
)


def main() -> None:
    """Imports, then becomes `airflow scheduler`."""
    for name in PRELOADED:
        import_module(name)
    from airflow.__main__ import main as airflow

    sys.argv = ["airflow", "scheduler", "--skip-serve-logs"]
    airflow()


if __name__ == "__main__":
    main()
