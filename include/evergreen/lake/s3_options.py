"""What the `AWS_*` variables say about an S3 server, for both of its clients: objects and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from evergreen.errors import ConfigurationError

ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")
OWN = ("AWS_TIMEOUT_SECONDS", "AWS_CONNECT_TIMEOUT_SECONDS", "AWS_MAX_ATTEMPTS")
BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 2.0
SILENT_ATTEMPTS = 2
"""Requests that were sent and never answered are sent once more, not oftener: each costs a whole timeout."""


@dataclass(frozen=True, kw_only=True)
class S3Options:
    """One S3 server and how to speak to it; see docs/lake.md for the variables."""

    endpoint: str | None = None
    """None: Amazon's own, of `region`."""
    access_key: str | None = None
    """None: whatever the environment offers (shared credentials file, web identity, instance role)."""
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str = "us-east-1"
    ca_bundle: str | None = None
    """File of the certificate authorities to trust; None: the system's."""
    encryption: str | None = None
    kms_key: str | None = None
    bucket_key: bool = False
    connect_timeout_seconds: float = 2.0
    timeout_seconds: float = 10.0
    """Longest silence of a server that was asked something."""
    max_attempts: int = 4

    @classmethod
    def from_variables(cls, variables: Mapping[str, str]) -> S3Options:
        """The options in `variables`; ConfigurationError for one that cannot be meant."""
        given = {name: value for name, value in variables.items() if value}
        options = cls(
            endpoint=_endpoint(given),
            access_key=given.get("AWS_ACCESS_KEY_ID"),
            secret_key=given.get("AWS_SECRET_ACCESS_KEY"),
            session_token=given.get("AWS_SESSION_TOKEN"),
            region=given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION") or cls.region,
            ca_bundle=_ca_bundle(given),
            encryption=_encryption(given),
            kms_key=given.get("AWS_SSE_KMS_KEY_ID"),
            bucket_key=_is_true(given.get("AWS_SSE_BUCKET_KEY_ENABLED")),
            connect_timeout_seconds=_positive(given, "AWS_CONNECT_TIMEOUT_SECONDS", cls.connect_timeout_seconds),
            timeout_seconds=_positive(given, "AWS_TIMEOUT_SECONDS", cls.timeout_seconds),
            max_attempts=int(_positive(given, "AWS_MAX_ATTEMPTS", cls.max_attempts)),
        )
        if (options.access_key is None) != (options.secret_key is None):
            raise _wrong("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "one of the two", "both, or neither")
        return options

    @property
    def longest_request_seconds(self) -> float:
        """Bound on the time until one request of either client has failed for good."""
        waits = [min(BACKOFF_SECONDS * 2.0**n, LONGEST_BACKOFF_SECONDS) for n in range(self.max_attempts)]
        return self.connect_timeout_seconds * self.max_attempts + self.timeout_seconds * SILENT_ATTEMPTS + sum(waits)

    def for_tables(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Storage options of deltalake: `variables` as they are, with the same bounds on time."""
        passed = {name: value for name, value in variables.items() if value and name not in OWN}
        return passed | {
            "AWS_REGION": self.region,
            "timeout": _milliseconds(self.timeout_seconds),
            "connect_timeout": _milliseconds(self.connect_timeout_seconds),
            "max_retries": str(self.max_attempts - 1),
            "retry_timeout": _milliseconds(self.timeout_seconds * (SILENT_ATTEMPTS - 0.5)),
        }


def _endpoint(given: Mapping[str, str]) -> str | None:
    endpoint = given.get("AWS_ENDPOINT_URL") or given.get("AWS_ENDPOINT")
    if endpoint is None:
        return None
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.username:
        raise _wrong("AWS_ENDPOINT_URL", "something else", "https://host or https://host:port")
    if parts.scheme == "http" and not _is_true(given.get("AWS_ALLOW_HTTP")):
        raise ConfigurationError(
            "AWS_ENDPOINT_URL",
            found=f"plain http to {parts.netloc}",
            wanted="https",
            remedy="Use an https endpoint; on a network you trust, set AWS_ALLOW_HTTP=true.",
        )
    return endpoint.rstrip("/")


def _ca_bundle(given: Mapping[str, str]) -> str | None:
    bundle = given.get("AWS_CA_BUNDLE")
    if bundle is not None and not Path(bundle).is_file():
        raise _wrong("AWS_CA_BUNDLE", f"no file at {bundle}", "a file of PEM certificates")
    return bundle


def _encryption(given: Mapping[str, str]) -> str | None:
    encryption = given.get("AWS_SERVER_SIDE_ENCRYPTION")
    if encryption is not None and encryption not in ENCRYPTIONS:
        raise _wrong("AWS_SERVER_SIDE_ENCRYPTION", repr(encryption), f"one of {', '.join(ENCRYPTIONS)}")
    return encryption


def _positive(given: Mapping[str, str], name: str, default: float) -> float:
    try:
        number = float(given.get(name, default))
    except ValueError:
        number = 0.0
    if not 0 < number < 3600 or (isinstance(default, int) and number < 1):
        raise _wrong(name, repr(given[name]), "a number above zero and below 3600")
    return number


def _is_true(text: str | None) -> bool:
    return (text or "").lower() in ("true", "1", "yes", "on")


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def _wrong(name: str, found: str, wanted: str) -> ConfigurationError:
    return ConfigurationError(name, found=found, wanted=wanted, remedy="Correct the variable; see docs/lake.md.")
