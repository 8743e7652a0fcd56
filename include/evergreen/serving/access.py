"""Who may ask for predictions: whoever has the token; without one, everybody on this machine and nobody elsewhere."""

from __future__ import annotations

import hmac
import ipaddress
from http import HTTPStatus

from evergreen.errors import ConfigurationError
from evergreen.serving.refusal import Refused


def require_safe_binding(host: str, token: str | None) -> None:
    """Nothing, when only this machine can reach `host` or a token is asked for; ConfigurationError otherwise."""
    if token is None and not _is_loopback(host):
        raise ConfigurationError(
            f"Serving on {host}",
            found="no token",
            wanted="a token, since other machines can reach that address",
            remedy="Set EVERGREEN_SERVING_TOKEN to a long random text, or serve on 127.0.0.1.",
        )


def require_token(header: str | None, token: str | None) -> None:
    """Nothing, when no token is asked for or the Authorization `header` bears it; Refused with 401 otherwise."""
    if token is None:
        return
    scheme, _, given = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise Refused(
            HTTPStatus.UNAUTHORIZED,
            "Header Authorization",
            found="another token" if header else "nothing",
            wanted="Bearer and the service's token",
            remedy="Send the value of EVERGREEN_SERVING_TOKEN that the service was started with.",
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
