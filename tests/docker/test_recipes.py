"""The images' recipes: locked within the lock of everything, of one version, as a user without rights."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from evergreen.settings import VERSION

PROJECT = Path(__file__).resolve().parents[2]
IMAGES = {"trainer": "10001:10001", "keras": "10001:10001", "serving": "10001:10001", "airflow": "50000:0"}
"""Image -> its user and group."""
OF_THE_LOCK = ["trainer", "serving", "airflow"]
"""Keras has a lock of its own beside: TensorFlow and torch in one environment would fight."""


def _pins(path: Path) -> set[str]:
    return {line for line in path.read_text().splitlines() if line and not line.startswith(("#", "--"))}


@pytest.mark.parametrize("image", OF_THE_LOCK)
def test_an_images_lock_is_part_of_the_lock_of_everything(image: str) -> None:
    lock = PROJECT / "docker" / image / "requirements.txt"
    assert _pins(lock) - _pins(PROJECT / "requirements.txt") == set()


def test_cuda_is_held_at_one_release_and_never_asked_for() -> None:
    assert (PROJECT / "requirements.txt").read_text().startswith("--constraint docker/trainer/cuda.txt\n")
    held = {pin.split("==")[0] for pin in _pins(PROJECT / "docker/trainer/cuda.txt")}
    assert "nvidia-cublas" in held
    for lock in ("requirements.txt", "docker/trainer/requirements.txt"):
        assert held & {pin.split("==")[0] for pin in _pins(PROJECT / lock)} == set()


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_a_fixed_user_with_version_and_revision(image: str) -> None:
    recipe = (PROJECT / "docker" / image / "Dockerfile").read_text()
    assert re.findall(r"^USER (.+)$", recipe, re.MULTILINE) == [IMAGES[image]]
    assert 'org.opencontainers.image.version="${VERSION}"' in recipe
    assert 'org.opencontainers.image.revision="${COMMIT}"' in recipe
    assert re.search(r"^HEALTHCHECK ", recipe, re.MULTILINE)
    assert ":latest" not in recipe


def test_kernels_are_compiled_with_the_release_they_run_with() -> None:
    assert _pins(PROJECT / "docker/kernels/requirements.txt") <= _pins(PROJECT / "requirements.txt")


def test_what_keras_shares_with_the_lock_of_everything_is_the_same_release() -> None:
    releases = dict(pin.split("==") for pin in _pins(PROJECT / "requirements.txt"))
    shared = {pin for pin in _pins(PROJECT / "docker" / "keras" / "requirements.txt") if pin.split("==")[0] in releases}
    assert len(shared) > 20
    assert {pin for pin in shared if releases[pin.split("==")[0]] != pin.split("==")[1]} == set()


def test_dags_of_the_airflow_image_are_not_paused() -> None:
    recipe = (PROJECT / "docker" / "airflow" / "Dockerfile").read_text()
    assert re.findall(r"AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION=(\w+)", recipe) == ["False"]


def test_the_release_has_one_number() -> None:
    assert tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"] == VERSION
