"""Resource profiles: what a pod may ask of the cluster, as data in include/profiles.yaml."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from evergreen.errors import ConfigurationError
from evergreen.settings import Settings


class Profile(BaseModel):
    """What one pod asks for, in Kubernetes' own quantities."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: dict[str, str]
    limits: dict[str, str]
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, str], ...] = ()
    priority_class: str | None = None
    schedule_timeout_seconds: int = Field(gt=0)
    """How long a pod may wait for a node; fit it to how long a node takes to be scaled up."""
    deadline_seconds: int = Field(gt=0)
    deferrable: bool = False
    """Wait in the triggerer instead of a worker; for pods that run longer than a few seconds."""


def read_profile(name: str) -> Profile:
    """The profile called `name`; ConfigurationError when the file has none."""
    profiles = _profiles()
    if name not in profiles:
        raise ConfigurationError(
            f"Resource profile {name}",
            found=f"profiles {sorted(profiles)} in {_file().name}",
            wanted="one of them",
            remedy=f"Correct training.profile, or add {name} to {_file().name}.",
        )
    return profiles[name]


def profile_names() -> list[str]:
    """Names of all profiles, for trigger forms."""
    return sorted(_profiles())


def _file() -> Path:
    return Settings.from_environment().profiles


def _profiles() -> dict[str, Profile]:
    return _read(_file())


@cache
def _read(path: Path) -> dict[str, Profile]:
    try:
        return TypeAdapter(dict[str, Profile]).validate_python(yaml.safe_load(path.read_text()))
    except (OSError, ValidationError, yaml.YAMLError) as error:
        raise ConfigurationError(
            str(path),
            found=str(error).replace("\n", " "),
            wanted="profiles with requests, limits and timeouts",
            remedy="Correct the file.",
        ) from error
