"""Keys that a pod's own role gives for a while (IRSA, pod identity), asked from the service that has them."""

from __future__ import annotations

import logging
import os
import re

import urllib3
from minio.credentials.credentials import Credentials
from minio.credentials.providers import IamAwsProvider, Provider
from urllib3.exceptions import HTTPError

from evergreen.errors import ConfigurationError, EvergreenError, LakeUnavailable

VARIABLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Any of these says that there is such a service; the cluster sets them."""
LOGGERS = ("urllib3.connectionpool", "urllib3.util.retry")
"""They name the address of a request, and the token of a web identity is part of that address."""
FORBIDDEN = 403


def role_provider(pool: urllib3.PoolManager) -> Provider:
    """Asks the service of the pod's role where there is one, else the machine's."""
    provider = IamAwsProvider(http_client=pool)
    return _RoleOfPod(provider) if any(os.environ.get(name) for name in VARIABLES) else provider


class _RoleOfPod(Provider):
    """Tells a service that is away from one that refuses; the client would call both a wrong value."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        for name in LOGGERS:
            logging.getLogger(name).addFilter(_mask)  # a second time is as once

    def retrieve(self) -> Credentials:
        try:
            return self._provider.retrieve()
        except (ValueError, HTTPError, OSError) as error:
            failure = _failure(error)
        raise failure  # outside the handler: the client's error has the token in its text


def _failure(error: Exception) -> EvergreenError:
    answered = re.search(r"HTTP status code (\d+)", str(error))
    if answered and int(answered[1]) == FORBIDDEN:
        return ConfigurationError(
            "The pod's role",
            found="status 403 of the service that gives its keys",
            wanted="keys to the lake",
            remedy="Let the role trust the pod's service account; see docs/kubernetes.md.",
        )
    return LakeUnavailable(
        "The pod's role",
        found=f"status {answered[1]} of the service that gives its keys" if answered else type(error).__name__,
        wanted="keys to the lake",
        remedy="See that the pod reaches the service of its cloud that gives keys, then run the task again.",
    )


def _mask(record: logging.LogRecord) -> bool:
    """Cuts the pod's token out of what the HTTP library says of its connections."""
    if isinstance(record.args, tuple):
        record.args = tuple(_masked(value) for value in record.args)
    return True


def _masked(value: object) -> object:
    text = str(value)
    return re.sub(r"(WebIdentityToken=)[^&\s'\")]+", r"\1***", text) if "WebIdentityToken=" in text else value
