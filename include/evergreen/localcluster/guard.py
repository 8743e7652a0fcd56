"""Stands before every call: the right token, and a body of bounded size, or a refusal."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evergreen.localcluster.api_failure import ApiFailure, too_large, unauthorized

LARGEST_BODY_BYTES = 3 * 1024 * 1024
"""As the real API server's limit."""


class Guard:
    """ASGI middleware; nothing behind it is reached without the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on, or answer 401 or 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, self._expected):
            await _refuse(unauthorized(), scope, receive, send)
            return
        if int(headers.get("content-length") or 0) > LARGEST_BODY_BYTES:
            await _discard(receive)
            await _refuse(too_large(LARGEST_BODY_BYTES), scope, receive, send)
            return
        await self._app(scope, _bounded(receive), send)


async def _discard(receive: Receive) -> None:
    """Read on for a while: a client that is still sending would see a broken pipe instead of the answer."""
    left = 10 * LARGEST_BODY_BYTES
    more = True
    while more and left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        more = message.get("more_body", False)


async def _refuse(failure: ApiFailure, scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse(failure.as_status(), failure.code)(scope, receive, send)


def _bounded(receive: Receive) -> Receive:
    """The same body, refused as soon as it grows too large: not every client says its length."""
    left = LARGEST_BODY_BYTES

    async def bounded() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise too_large(LARGEST_BODY_BYTES)
        return message

    return bounded
