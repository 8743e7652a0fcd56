"""The cluster's token and the kubeconfig that carries it: made once, readable by their owner only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import yaml

from evergreen.localcluster.wire import Json

CONTEXT = "evergreen-local"
KUBECONFIG = "kubeconfig"


def cluster_token(directory: Path) -> str:
    """The token of the cluster in that directory; a new one the first time."""
    path = directory / "token"
    if not path.exists():
        _write_private(path, secrets.token_urlsafe(32))
    return path.read_text().strip()


def write_kubeconfig(directory: Path, url: str, token: str) -> Path:
    """The file that Kubernetes clients read to reach the cluster."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "clusters": [{"name": CONTEXT, "cluster": {"server": url}}],
        "users": [{"name": CONTEXT, "user": {"token": token}}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT, "namespace": "default"}}],
    }
    path = directory / KUBECONFIG
    _write_private(path, yaml.safe_dump(config, sort_keys=False))
    return path


def read_kubeconfig(path: Path) -> tuple[str, str]:
    """The URL and the token in a kubeconfig that `write_kubeconfig` made."""
    config: Json = yaml.safe_load(path.read_text())
    return config["clusters"][0]["cluster"]["server"], config["users"][0]["user"]["token"]


def _write_private(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
    draft.replace(path)
