"""The HTTP face of the service: routes, limits, and which error is which status."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import cast

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from evergreen.errors import EvergreenError, TemporaryError
from evergreen.serving.access import require_token
from evergreen.serving.config import ServingConfig
from evergreen.serving.metrics import Metrics
from evergreen.serving.predictor import Predictions
from evergreen.serving.refusal import Refused
from evergreen.serving.service import Service

Endpoint = Callable[[Request], Awaitable[Response]]
HEADERS = {
    HTTPStatus.UNAUTHORIZED: {"www-authenticate": "Bearer"},
    HTTPStatus.SERVICE_UNAVAILABLE: {"retry-after": "1"},
}
"""What a refusal tells the client's library, by status."""


class Endpoints:
    """The routes' functions. Scoring runs on one thread of its own, so that probes are answered meanwhile."""

    def __init__(self, services: Mapping[str, Service], config: ServingConfig, token: str | None) -> None:
        self._services = services
        self._config = config
        self._token = token
        self._metrics = Metrics(services.values())
        self._scoring = ThreadPoolExecutor(1, "scoring")
        self._requests = 0

    async def livez(self, request: Request) -> Response:
        """200 whenever the process answers."""
        return JSONResponse({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        """200 when every pipeline with a published deployment serves that very version, else 503."""
        pipelines = {
            name: {
                "ready": service.ready,
                "version": service.follower.live.version if service.follower.live else None,
                "published": service.follower.wanted.to_version if service.follower.wanted else None,
                "errors": service.errors,
            }
            for name, service in self._services.items()
        }
        ready = all(service.ready for service in self._services.values())
        return JSONResponse({"ready": ready, "pipelines": pipelines}, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        """The numbers in Prometheus' text format."""
        return Response(self._metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    async def describe(self, request: Request) -> Response:
        """What serves, since when, and what a row looks like."""
        return JSONResponse(self._service(request).describe())

    async def probe(self, request: Request) -> Response:
        """Scores built-in example rows; leaves no trace."""
        return _answer(await self._on_scoring_thread(self._service(request).predictor.probe))

    async def predict(self, request: Request) -> Response:
        """Scores the rows in the body; see the module `request_rows`."""
        started = time.perf_counter()
        service = self._service(request)
        status, rows = HTTPStatus.INTERNAL_SERVER_ERROR, 0
        try:
            require_token(request.headers.get("authorization"), self._token)
            with self._place():
                body = await self._body_in_time(request)
                predictions = await self._on_scoring_thread(
                    lambda: service.predictor.predict(body, datetime.now(UTC)),
                )
            status, rows = HTTPStatus.OK, predictions.rows.height
            return _answer(predictions)
        except EvergreenError as error:
            status = _status(error)
            raise
        finally:
            seconds = time.perf_counter() - started
            self._metrics.observe(service.pipeline.pipeline, status, seconds, rows)

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Starts the services, and stops them once no request runs any more."""
        for service in self._services.values():
            service.start()
        yield
        self._scoring.shutdown()
        for service in self._services.values():
            await asyncio.to_thread(service.stop)

    async def _on_scoring_thread(self, work: Callable[[], Predictions]) -> Predictions:
        return await asyncio.get_running_loop().run_in_executor(self._scoring, work)

    def _service(self, request: Request) -> Service:
        name = request.path_params["pipeline"]
        service = self._services.get(name)
        if service is None:
            raise Refused(
                HTTPStatus.NOT_FOUND,
                f"Pipeline {name}",
                found="no such pipeline here",
                wanted=f"one of {sorted(self._services)}",
                remedy="Correct the path. Specs are read at the start; `evergreen up` starts serving when they change.",
            )
        return service

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Inside, the request is one of those at hand; Refused with 503 when these are too many already."""
        limit = self._config.max_requests
        if self._requests >= limit:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "Predict requests at hand",
                found=f"{limit}",
                wanted=f"fewer than {limit}",
                remedy="Try again in a second; if it lasts, send several rows a request or run more replicas.",
            )
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    async def _body_in_time(self, request: Request) -> bytes:
        """The request's body; Refused with 408 when it does not come, and as `_body` says."""
        seconds = self._config.body_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._body(request)
        except TimeoutError as error:
            raise Refused(
                HTTPStatus.REQUEST_TIMEOUT,
                "Request body",
                found=f"no end of it after {seconds:g} s",
                wanted="a whole body",
                remedy="Send it at once.",
            ) from error

    async def _body(self, request: Request) -> bytes:
        """The request's body; Refused with 413 as soon as it is known to be too large."""
        limit = self._config.max_body_bytes
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
            raise _too_large(limit, f"{declared} bytes")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise _too_large(limit, "more")
        return bytes(body)


def create_app(services: Mapping[str, Service], config: ServingConfig, *, token: str | None = None) -> Starlette:
    """The ASGI application that serves `services` by pipeline name; it starts and stops them in its lifespan."""
    ends = Endpoints(services, config, token)
    return Starlette(
        routes=[
            Route("/livez", ends.livez),
            Route("/readyz", ends.readyz),
            Route("/metrics", ends.metrics),
            Route("/v1/{pipeline}", ends.describe),
            Route("/v1/{pipeline}/predict", ends.predict, methods=["POST"]),
            Route("/v1/{pipeline}/probe", ends.probe, methods=["POST"]),
        ],
        lifespan=ends.lifespan,
        exception_handlers={EvergreenError: _refusal},
    )


def _answer(predictions: Predictions) -> Response:
    return Response(predictions.to_json(), media_type="application/json")


async def _refusal(request: Request, error: Exception) -> Response:
    error = cast(EvergreenError, error)  # the only class this handler is registered for
    status = _status(error)
    body = error.as_json() if isinstance(error, Refused) else {"error": {"message": str(error)}}
    return JSONResponse(body, status, HEADERS.get(status))


def _status(error: EvergreenError) -> HTTPStatus:
    if isinstance(error, Refused):
        return error.status
    temporary = isinstance(error, TemporaryError)
    return HTTPStatus.SERVICE_UNAVAILABLE if temporary else HTTPStatus.INTERNAL_SERVER_ERROR


def _too_large(limit: int, found: str) -> Refused:
    return Refused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "Request body",
        found=found,
        wanted=f"at most {limit} bytes",
        remedy="Send several smaller requests.",
    )
