"""Renders docker/kubernetes as `kubectl apply -k` does, for tests that look at the result or apply it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

KUBERNETES = Path(__file__).resolve().parents[1] / "docker" / "kubernetes"
Manifest = dict[str, Any]


def render(folder: Path) -> list[Manifest]:
    """The manifests that the kustomization in `folder` makes; the test is skipped without a kubectl that can."""
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The manifest of that kind and name."""
    (found,) = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name]
    return found


def kubectl() -> str:
    """A kubectl with kustomize 5, whose own the oldest is 1.27's."""
    path = shutil.which("kubectl")
    said = path and subprocess.run([path, "version", "--client"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"Kustomize Version: v(\d+)", said or "")
    if path is None or found is None or int(found[1]) < 5:
        pytest.skip("no kubectl 1.27 or newer on the PATH: manifests cannot be rendered")
    return path
