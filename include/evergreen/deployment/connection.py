"""The way to a Kubernetes API: of a kubeconfig, or of the pod this process runs in."""

from __future__ import annotations

from pathlib import Path

import yaml
from kubernetes import client
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config

from evergreen.errors import ConfigurationError

TIMEOUT = (3.0, 8.0)
"""Seconds to connect to the API server, and to wait for what it says."""
UNREADABLE = (ConfigException, OSError, KeyError, TypeError, ValueError, yaml.YAMLError)


def connect(kubeconfig: Path | None) -> client.ApiClient:
    """A client of the cluster of `kubeconfig`, or of the one this process runs in; ConfigurationError without either.

    It asks once: whoever waits for something asks again by itself, until its own time is up.
    """
    configuration = client.Configuration()
    try:
        if kubeconfig is None:
            load_incluster_config(client_configuration=configuration)
        else:
            load_kube_config(str(kubeconfig), client_configuration=configuration, persist_config=False)
    except UNREADABLE as error:
        raise ConfigurationError(
            f"Kubeconfig {kubeconfig or 'of this pod'}",
            found=str(error).strip() or type(error).__name__,
            wanted="a cluster and a user to reach it as",
            remedy="Correct EVERGREEN_KUBECONFIG: a kubeconfig's path, or `in-cluster` inside a pod.",
        ) from error
    configuration.retries = 0
    return client.ApiClient(configuration)
