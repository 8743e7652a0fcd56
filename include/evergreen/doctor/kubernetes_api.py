"""The cluster's API as the doctor asks it: quickly, and with every refusal turned into a finding."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from evergreen.deployment.connection import TIMEOUT, connect
from evergreen.doctor.check import Check, failed, warning
from evergreen.errors import ConfigurationError, TemporaryError

LOCAL = "+evergreen.local"
"""What the local cluster's version ends with."""


@dataclass(frozen=True)
class KubernetesApi:
    """One cluster as one user."""

    api: client.ApiClient

    @classmethod
    def connect(cls, kubeconfig: Path | None) -> KubernetesApi:
        """The cluster of `kubeconfig`, or the one this process runs in; ConfigurationError without either."""
        return cls(connect(kubeconfig))

    @property
    def where(self) -> str:
        return str(self.api.configuration.host)

    @cached_property
    def core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.api)

    @cached_property
    def version(self) -> str:
        """Its release; TemporaryError when it does not answer, ConfigurationError when it does not know us."""
        try:
            return str(client.VersionApi(self.api).get_code(_request_timeout=TIMEOUT).git_version)
        except ApiException as error:
            raise ConfigurationError(
                f"Kubernetes at {self.where}",
                found=f"status {error.status}: {message_of(error)}",
                wanted="an answer",
                remedy="Renew the credentials in the kubeconfig of EVERGREEN_KUBECONFIG.",
            ) from error
        except HTTPError as error:
            raise TemporaryError(
                f"Kubernetes at {self.where}",
                found=f"no answer ({reason_of(error)})",
                wanted="a running API server",
                remedy="See whether the cluster runs and can be reached from here; check EVERGREEN_KUBECONFIG.",
            ) from error

    @property
    def is_local(self) -> bool:
        """Whether it is Evergreen's own local cluster."""
        return self.version.endswith(LOCAL)

    def ask(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """What `call` of the client gives, within the doctor's patience."""
        return call(*arguments, _request_timeout=TIMEOUT, **options)


def looked(name: str, look: Callable[[], Check]) -> Check:
    """What `look` finds, or why it could not look: an account with least rights may not see everything."""
    try:
        return look()
    except ApiException as error:
        said = message_of(error)
        if error.status == 403:
            return warning(name, f"not looked at: {said}", "Run the doctor once as an account that may look.")
        if error.status == 401:
            return failed(name, said, "Renew the credentials in the kubeconfig of EVERGREEN_KUBECONFIG.")
        return failed(name, f"status {error.status}: {said}", "See what the API server's log says.")
    except HTTPError as error:
        return failed(name, f"no answer ({reason_of(error)})", "See whether the cluster still runs.")


def message_of(error: ApiException) -> str:
    """The API server's own sentence."""
    try:
        body = json.loads(error.body or "")
    except ValueError:
        body = None
    said = body.get("message") if isinstance(body, dict) else None
    return str(said or error.reason)[:300]


def reason_of(error: HTTPError) -> str:
    """The cause in one line, without the pool and the URL around it."""
    return str(getattr(error, "reason", None) or error).rpartition(": ")[2][:200]
