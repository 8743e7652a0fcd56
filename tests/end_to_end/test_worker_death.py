"""A process of Airflow that dies in the middle of training: its pod runs on, and no second one trains."""

from __future__ import annotations

import pytest

from end_to_end.deaths import kill_triggerer_in_training, kill_worker_in_training, stop_worker_in_training
from end_to_end.installation import CPU_DEFERRED, Installation

pytestmark = pytest.mark.airflow


def test_killed_worker_leaves_its_pod_to_the_next_try(serving: Installation) -> None:
    kill_worker_in_training(serving, "cpu-small")


def test_stopped_worker_takes_its_pod_along_and_the_next_try_resumes(serving: Installation) -> None:
    stop_worker_in_training(serving, "cpu-small")


def test_killed_triggerer_leaves_its_pod_to_the_next_one(serving: Installation) -> None:
    kill_triggerer_in_training(serving, CPU_DEFERRED)
