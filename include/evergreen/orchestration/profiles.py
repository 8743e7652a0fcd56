"""Resource profiles: what a pod may ask of the cluster, as data in include/profiles.yaml."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from evergreen.errors import ConfigurationError
from evergreen.pipeline_file import line_of
from evergreen.settings import Settings

_QUANTITY = re.compile(r"^(\d+(?:\.\d+)?)(m|[kMGTPE]i?)?$")
_POWER: dict[str, int] = {letter: power for power, letter in enumerate("kMGTPE", start=1)}


def _amount(quantity: str) -> Decimal:
    """The number a quantity says, in cores, bytes or devices; ValueError when it is none."""
    match = _QUANTITY.match(quantity)
    if match is None:
        raise ValueError(f"{quantity!r} is no quantity such as 2, 500m or 16Gi")
    number, suffix = Decimal(match[1]), match[2] or ""
    if suffix == "m":
        return number / 1000
    base = Decimal(1024 if suffix.endswith("i") else 1000)
    return number * base ** _POWER.get(suffix[:1], 0)


def _quantity(written: object) -> str:
    """The quantity as Kubernetes writes it; YAML reads a bare 2 as a number."""
    text = str(written)
    _amount(text)
    return text


Quantity = Annotated[str, BeforeValidator(_quantity)]


class Toleration(BaseModel):
    """A taint that pods of the profile put up with, spelled as in Kubernetes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = Field(default=None, ge=0, alias="tolerationSeconds")
    """How long a running pod puts up with a NoExecute taint, such as that of a lost node; None: for ever."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("operator Exists takes no value")
        if self.operator == "Equal" and self.key is None:
            raise ValueError("operator Equal needs a key")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError("tolerationSeconds goes with effect NoExecute alone")
        return self


class Profile(BaseModel):
    """What one pod asks for, in Kubernetes' own quantities."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: dict[str, Quantity]
    """What the scheduler keeps free for the pod."""
    limits: dict[str, Quantity]
    """What it can never exceed; devices (nvidia.com/gpu, google.com/tpu) are named here alone."""
    scratch: Quantity = "10Gi"
    """Size of the volume for temporary files, home and caches; fuller than this, the pod is evicted."""
    shm: Quantity | None = None
    """Size of /dev/shm, which several GPUs and data loaders talk through; it counts against the memory limit."""
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    affinity: dict[str, Any] = {}
    """A Kubernetes Affinity, for what node_selector cannot say."""
    priority_class: str | None = None
    labels: dict[str, str] = {}
    """Labels of the pod: its service tier, a Kueue queue."""
    schedule_timeout_seconds: int = Field(gt=0)
    """How long a pod may wait for a node and its image; fit it to how long a node takes to be scaled up."""
    deadline_seconds: int = Field(gt=0)
    price_per_hour: float = Field(default=0.0, ge=0)
    """What an hour of such a pod costs, in your currency; receipts and reports multiply it by the time taken."""
    watts: float = Field(default=0.0, ge=0)
    """Power such a pod is taken to draw; reports estimate the energy from it."""
    deferrable: bool = False
    """Wait in the triggerer instead of a worker; for pods that run longer than a few seconds."""

    @model_validator(mode="after")
    def _requests_fit_limits(self) -> Self:
        for name, limit in self.limits.items():
            if _amount(self.requests.get(name, "0")) > _amount(limit):
                raise ValueError(f"requests.{name} {self.requests[name]} is more than its limit {limit}")
        memory = self.limits.get("memory")
        if memory is None:
            raise ValueError("limits.memory is missing; without one, one pod can take its node down")
        if self.shm and _amount(self.shm) >= _amount(memory):
            raise ValueError(f"shm {self.shm} leaves nothing of limits.memory {memory}, against which it counts")
        return self


def read_profile(name: str) -> Profile:
    """The profile called `name`; ConfigurationError when the file has none."""
    profiles = _profiles()
    if name not in profiles:
        raise ConfigurationError(
            f"Resource profile {name}",
            found=f"profiles {', '.join(sorted(profiles))} in {_file().name}",
            wanted="one of them",
            remedy=f"Correct training.profile or the trigger form, or add {name} to {_file().name}.",
        )
    return profiles[name]


def profile_names() -> list[str]:
    """Names of all profiles, for trigger forms."""
    return sorted(_profiles())


def _file() -> Path:
    return Settings.from_environment().profiles


def _profiles() -> dict[str, Profile]:
    return read_profiles(_file())


@cache
def read_profiles(path: Path) -> dict[str, Profile]:
    """The profiles in the file at `path` by name; ConfigurationError naming file and line of what is wrong."""
    node = _compose(path)
    try:
        return TypeAdapter(dict[str, Profile]).validate_python(yaml.safe_load(path.read_text()))
    except ValidationError as refusal:
        error = refusal.errors()[0]
        where = ".".join(str(step) for step in error["loc"])
        found = error["msg"].removeprefix("Value error, ")
        raise _wrong(f"{path.name} line {line_of(node, error['loc'])}", f"{where}: {found}") from refusal


def _compose(path: Path) -> yaml.Node:
    try:
        node = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
    except OSError as error:
        raise _wrong(str(path), str(error.strerror)) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise _wrong(f"{path.name} line {line}", f"{error.problem}") from error
    if not isinstance(node, yaml.MappingNode):
        raise _wrong(path.name, "no profiles")
    return node


def _wrong(thing: str, found: str) -> ConfigurationError:
    return ConfigurationError(thing, found=found, wanted="what docs/profiles.md allows there", remedy="Correct it.")
