"""docker/compose.yaml as compose would read it: merged, with variables of the test's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "docker"
TEXT = (FOLDER / "compose.yaml").read_text()
VARIABLE = re.compile(r"\$\{(\w+)(:\?[^}]*)?\}")


def compose(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The file's content; without `variables` each reference stays as it is written."""
    text = TEXT if variables is None else VARIABLE.sub(lambda found: variables[found[1]], TEXT)
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def example_variables() -> dict[str, str]:
    """Variables of the example file, in its order."""
    lines = (FOLDER / "compose.env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def environment_of(service: Mapping[str, Any]) -> dict[str, str]:
    """What the service's container gets: its env_file, then its own variables."""
    settings: dict[str, str] = {}
    if "env_file" in service:
        lines = (FOLDER / service["env_file"]).read_text().splitlines()
        settings = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return settings | {name: str(value) for name, value in service["environment"].items()}
