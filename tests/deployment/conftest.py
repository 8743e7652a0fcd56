"""A real ledger, and models registered in it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from evergreen.artifacts import Evaluation, Model, Verdict
from evergreen.lake.lake import Lake
from evergreen.ledger.ledger import Ledger
from evergreen.pipeline import Pipeline


@pytest.fixture(scope="session")
def socket_folder(start_postgres: Callable[[], Any]) -> Path:
    """Where a running PostgreSQL listens."""
    return Path(start_postgres().get_postmaster_info().socket_dir)


@pytest.fixture
def ledger(socket_folder: Path) -> Ledger:
    """An empty, migrated ledger in a database of its own."""
    connection = psycopg2.connect(dbname="postgres", user="postgres", host=str(socket_folder))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS rollouts WITH (FORCE)")
        cursor.execute("CREATE DATABASE rollouts")
    connection.close()
    made = Ledger(f"postgresql+psycopg2://postgres@/rollouts?host={socket_folder}")
    made.migrate()
    return made


@pytest.fixture
def registered(make_model: Callable[..., Model], lake: Lake, fraud: Pipeline, ledger: Ledger) -> Callable[..., Model]:
    """Makes a real model of the given day of November, stored in the lake and registered in the ledger."""

    def make(day: int) -> Model:
        model = make_model(lake, fraud, slope=1 + day / 10, as_of=datetime(2026, 11, day, tzinfo=UTC))
        names = {"pipeline": "fraud", "version": model.version}
        holdout = (date(2026, 11, 1), date(2026, 11, 1))
        evaluation = Evaluation(
            **names, training_set="0" * 64, holdout_days=holdout, rows=9, positives=3, metrics={}, slices={}
        )
        verdict = Verdict(**names, approved=True, judged="absolute", champion=None, reasons=("good",))
        ledger.register(model, evaluation, verdict)
        return model

    return make
