"""Namespaces of the real cluster, made for a test and deleted after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import yaml
from kubernetes.client import CoreV1Api, V1ObjectReference
from kubernetes.client.exceptions import ApiException
from tenacity import retry, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed
from urllib3.exceptions import HTTPError


@contextmanager
def namespace_for(core: CoreV1Api, what: str) -> Iterator[str]:
    """Name of a new namespace that takes pods; it and all in it are deleted at the end."""
    name = f"{what}-{uuid4().hex[:8]}"
    core.create_namespace({"metadata": {"name": name}})
    try:
        wait_for_token(core, name)
        yield name
    finally:
        core.delete_namespace(name, grace_period_seconds=0)


@retry(
    stop=stop_after_delay(240),
    wait=wait_fixed(0.1),
    retry=retry_if_exception_type((ApiException, HTTPError)) | retry_if_result(lambda secrets: not secrets),
)
def wait_for_token(core: CoreV1Api, namespace: str, account: str = "default") -> list[V1ObjectReference]:
    """Secrets of a service account. The cluster makes them a moment later, and refuses its pods before."""
    secrets: list[V1ObjectReference] = core.read_namespaced_service_account(account, namespace).secrets
    return secrets


def kubeconfig_of(core: CoreV1Api, namespace: str, account: str, path: Path, admin: Path) -> Path:
    """A kubeconfig at `path` with the rights of a new service account; the cluster's address is that of `admin`."""
    core.create_namespaced_service_account(namespace, {"metadata": {"name": account}})
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
    token = core.create_namespaced_service_account_token(account, namespace, request).status.token
    config = yaml.safe_load(admin.read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path.write_text(yaml.safe_dump(config))
    return path
