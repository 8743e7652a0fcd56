"""What an installation needs once before its parts work: the ledger's tables, and the pool that training pods share."""

from __future__ import annotations

import subprocess
import sys

from evergreen.errors import ConfigurationError
from evergreen.ledger.ledger import Ledger
from evergreen.settings import Settings

POOL = "gpu"
"""Airflow's pool of training pods; without it they would wait for ever."""


def prepare(settings: Settings, *, training_pods: int) -> None:
    """Returns when both are there; doing it again changes nothing but the number of training pods at once.

    Airflow's own database must be migrated and named by `AIRFLOW__DATABASE__SQL_ALCHEMY_CONN`. Raises what the ledger
    raises, ConfigurationError when Airflow refuses.
    """
    Ledger(settings.database_url).migrate()
    words = ["pools", "set", "--include-deferred", POOL, str(training_pods), "Training pods at once"]
    done = subprocess.run([sys.executable, "-m", "airflow", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ConfigurationError(
            f"Pool {POOL} of Airflow",
            found=(done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1],
            wanted=f"{training_pods} slots, deferred tasks included",
            remedy="Run this where Airflow runs, after `airflow db migrate`.",
        )
