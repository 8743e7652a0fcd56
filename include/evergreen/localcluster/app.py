"""The HTTP face of the cluster: the calls of the Kubernetes API that running pods needs, and the fault switches."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
from collections.abc import AsyncIterator
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from evergreen.localcluster.admission import admit_data, unsupported, with_encoded_strings
from evergreen.localcluster.api_failure import (
    ApiFailure,
    bad_request,
    conflict,
    method_not_allowed,
    no_such_path,
    not_found,
)
from evergreen.localcluster.cluster import Cluster
from evergreen.localcluster.faults import Fault
from evergreen.localcluster.guard import Guard
from evergreen.localcluster.log_response import TRUE, pod_log
from evergreen.localcluster.patching import apply_patch
from evergreen.localcluster.resources import RESOURCES, VERSION, Resource, resource_list
from evergreen.localcluster.selectors import Matcher, field_selector, label_selector
from evergreen.localcluster.watch import WatchRequest, watch
from evergreen.localcluster.wire import Json

_EXIT_LOOP_BROKEN = 70


def build_app(cluster: Cluster, token: str) -> Starlette:
    """The ASGI application; while it is up, the cluster moves."""
    api = Api(cluster)
    named = "/api/v1/namespaces/{namespace}/{plural}/{name}"
    routes = [
        Route("/version", api.version),
        Route("/version/", api.version),  # as the official Python client asks for it
        Route("/livez", api.live),
        Route("/readyz", api.live),
        Route("/api", api.api_versions),
        Route("/apis", api.api_groups),
        Route("/api/v1", api.resources),
        Route("/evergreen/faults", api.faults, methods=["GET", "POST", "DELETE"]),
        Route("/evergreen/faults/{id}", api.faults, methods=["DELETE"]),
        Route("/api/v1/namespaces/{namespace}/pods/{name}/log", api.log),
        Route("/api/v1/namespaces/{namespace}/pods/{name}/status", api.one_pod_status),
        Route("/api/v1/namespaces/{namespace}/pods/{name}/{call}", api.no_such_call, methods=["GET", "POST"]),
        Route("/api/v1/{plural}", api.everywhere, methods=["GET", "POST"]),
        Route("/api/v1/{plural}/{name}", api.cluster_wide),
        Route("/api/v1/namespaces/{namespace}/{plural}", api.many, methods=["GET", "POST", "DELETE"]),
        Route(named, api.one, methods=["GET", "PATCH", "DELETE"]),
    ]
    handlers: dict[Any, Any] = {ApiFailure: _refuse, HTTPException: _refuse_http, Exception: _admit_defeat}
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, token=token)],
        exception_handlers=handlers,
        lifespan=lambda _: _moving(cluster),
    )


@contextlib.asynccontextmanager
async def _moving(cluster: Cluster) -> AsyncIterator[None]:
    loop = asyncio.create_task(cluster.run())
    loop.add_done_callback(_die_loudly)
    yield
    loop.cancel()
    await cluster.shut_down()


def _die_loudly(loop: asyncio.Task[None]) -> None:
    """A server whose loop has ended would answer, and run nothing: better that it is seen dead and restarted."""
    if not loop.cancelled() and (error := loop.exception()) is not None:
        loop.get_loop().call_exception_handler({"message": "the local cluster's loop broke", "exception": error})
        os._exit(_EXIT_LOOP_BROKEN)


async def _refuse(_: Request, failure: ApiFailure) -> Response:
    return JSONResponse(failure.as_status(), failure.code)


async def _refuse_http(_: Request, error: HTTPException) -> Response:
    known = {404: no_such_path(), 405: method_not_allowed()}
    failure = known.get(error.status_code) or ApiFailure(error.status_code, "BadRequest", error.detail)
    return JSONResponse(failure.as_status(), failure.code)


async def _admit_defeat(_: Request, error: Exception) -> Response:
    """500 as Kubernetes words it; starlette raises the error again, so that it is logged with its trace."""
    failure = ApiFailure(500, "InternalError", f"Internal error occurred: {type(error).__name__}: {error}")
    return JSONResponse(failure.as_status(), failure.code)


class Api:
    """One method a route."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._store = cluster.store

    async def version(self, _: Request) -> Response:
        """What the cluster claims to be."""
        return JSONResponse(VERSION)

    async def live(self, _: Request) -> Response:
        """That it answers."""
        return Response("ok", media_type="text/plain")

    async def api_versions(self, _: Request) -> Response:
        """The core API, in its one version."""
        return JSONResponse({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})

    async def api_groups(self, _: Request) -> Response:
        """No other API groups."""
        return JSONResponse({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})

    async def resources(self, _: Request) -> Response:
        """The kinds served."""
        return JSONResponse(resource_list())

    async def everywhere(self, request: Request) -> Response:
        """All objects of a kind, in every namespace; or a new namespace."""
        resource = _resource(request)
        if request.method == "GET":
            return self._list(request, resource, None)
        if resource.plural != "namespaces":
            raise method_not_allowed()
        name = (await _body(request)).get("metadata", {}).get("name")
        return JSONResponse(self._cluster.create_namespace(str(name)), 201)

    async def cluster_wide(self, request: Request) -> Response:
        """One namespace or node."""
        resource, name = _resource(request), request.path_params["name"]
        if resource.plural == "nodes":
            return JSONResponse(self._node(name))
        return JSONResponse(self._store.get(resource.plural, "", name))

    async def many(self, request: Request) -> Response:
        """List, watch, create, or delete all that are selected."""
        resource, namespace = _resource(request), request.path_params["namespace"]
        if request.method == "GET":
            return self._list(request, resource, namespace)
        if request.method == "POST":
            return JSONResponse(self._create(resource, namespace, await _body(request)), 201)
        return await self._delete_many(request, resource, namespace)

    def _create(self, resource: Resource, namespace: str, body: Json) -> Json:
        _require_verb(resource, "create")
        if resource.plural == "pods":
            return self._cluster.create_pod(namespace, body)
        self._cluster.require_namespace(namespace)
        return self._store.create(resource.plural, admit_data(resource.kind, namespace, body))

    def _list(self, request: Request, resource: Resource, namespace: str | None) -> Response:
        query = request.query_params
        matches = _selection(request, resource)
        if query.get("watch") in TRUE:
            _require_verb(resource, "watch")
            return self._watch(request, resource, namespace, matches)
        items = self._nodes() if resource.plural == "nodes" else self._store.all(resource.plural, namespace)
        content = {
            "kind": f"{resource.kind}List",
            "apiVersion": "v1",
            "metadata": {"resourceVersion": str(self._store.revision)},
            "items": [item for item in items if matches(item)],
        }
        return JSONResponse(content)

    def _watch(self, request: Request, resource: Resource, namespace: str | None, matches: Matcher) -> Response:
        query = request.query_params
        wanted = WatchRequest(
            plural=resource.plural,
            namespace=namespace,
            matches=matches,
            since=_revision(query.get("resourceVersion")),
            timeout_seconds=_number("timeoutSeconds", query.get("timeoutSeconds")),
        )
        stream = watch(self._store, wanted, lambda: self._cluster.closing)
        return StreamingResponse(stream, media_type="application/json")

    async def one(self, request: Request) -> Response:
        """Read, patch or delete one object."""
        resource = _resource(request)
        item = self._store.get(resource.plural, request.path_params["namespace"], request.path_params["name"])
        if request.method == "GET":
            return JSONResponse(item)
        body = await _body(request)
        # Awaiting the body let others act meanwhile.
        item = self._store.get(resource.plural, request.path_params["namespace"], request.path_params["name"])
        if request.method == "PATCH":
            return JSONResponse(self._patch(request, resource, item, body))
        return JSONResponse(self._delete(request, resource, item, body))

    def _patch(self, request: Request, resource: Resource, item: Json, body: Any) -> Json:
        _require_verb(resource, "patch")
        patched = apply_patch(item, body, request.headers.get("content-type", ""))
        if resource.plural == "pods":
            return self._cluster.update_pod(item, patched)
        return self._store.update(resource.plural, with_encoded_strings(resource.kind, patched))

    def _delete(self, request: Request, resource: Resource, item: Json, body: Json) -> Json:
        _require_verb(resource, "delete")
        _check_preconditions(resource, item, body)
        if resource.plural != "pods":
            self._store.remove(resource.plural, item)
            details = {"name": item["metadata"]["name"], "kind": resource.plural, "uid": item["metadata"]["uid"]}
            return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        return self._cluster.delete_pod(item, _grace_seconds(request, body))

    async def _delete_many(self, request: Request, resource: Resource, namespace: str) -> Response:
        body = await _body(request)
        matches = _selection(request, resource)
        chosen = [item for item in self._store.all(resource.plural, namespace) if matches(item)]
        gone = [self._delete(request, resource, item, body) for item in chosen]
        return JSONResponse({"kind": f"{resource.kind}List", "apiVersion": "v1", "metadata": {}, "items": gone})

    async def one_pod_status(self, request: Request) -> Response:
        """One pod; its status is part of it."""
        return JSONResponse(self._store.get("pods", request.path_params["namespace"], request.path_params["name"]))

    async def no_such_call(self, request: Request) -> Response:
        """501 for exec, attach, portforward, eviction: results leave a pod through the lake, not through these."""
        raise unsupported(f"pods/{request.path_params['call']}")

    async def log(self, request: Request) -> Response:
        """One container's log."""
        return await pod_log(self._cluster, request)

    async def faults(self, request: Request) -> Response:
        """The faults that are on; POST switches one on, DELETE one or all off."""
        book = self._cluster.faults
        if request.method == "POST":
            book.add(_fault(await _body(request)))
        if request.method == "DELETE":
            book.clear(request.path_params.get("id"))
        self._cluster.wake()
        return JSONResponse({"faults": [fault.model_dump(mode="json") for fault in book.all()]})

    def _nodes(self) -> list[Json]:
        return self._cluster.nodes.objects(self._store.revision)

    def _node(self, name: str) -> Json:
        for node in self._nodes():
            if node["metadata"]["name"] == name:
                return node
        raise not_found("nodes", name)


def _resource(request: Request) -> Resource:
    resource = RESOURCES.get(request.path_params["plural"])
    if resource is None or resource.namespaced < ("namespace" in request.path_params):
        raise HTTPException(404)
    return resource


def _require_verb(resource: Resource, verb: str) -> None:
    if verb not in resource.verbs:
        raise method_not_allowed()


def _selection(request: Request, resource: Resource) -> Matcher:
    labels = label_selector(request.query_params.get("labelSelector", ""))
    fields = field_selector(request.query_params.get("fieldSelector", ""), resource.fields)
    return lambda item: labels(item) and fields(item)


def _revision(text: str | None) -> int | None:
    if text in (None, "", "0"):
        return None
    try:
        return int(str(text))
    except ValueError as error:
        raise bad_request(f"resourceVersion: Invalid value: {text!r}") from error


async def _body(request: Request) -> Any:
    if request.query_params.get("dryRun"):
        raise unsupported("dryRun")
    raw = await request.body()
    if not raw and request.method == "POST":
        raise bad_request("the object provided is unrecognized: couldn't get version/kind; json parse error (<empty>)")
    try:
        return json.loads(raw) if raw else {}
    except ValueError as error:
        problem = "the object provided is unrecognized: couldn't get version/kind; json parse error"
        raise bad_request(f"{problem}: {error}") from error


def _fault(body: Json) -> Fault:
    try:
        return Fault.model_validate(body)
    except ValidationError as error:
        raise ApiFailure(422, "Invalid", f"the fault is invalid: {error}") from error


def _grace_seconds(request: Request, body: Json) -> float | None:
    given = body.get("gracePeriodSeconds")
    if given is None:
        given = request.query_params.get("gracePeriodSeconds")
    return _number("gracePeriodSeconds", given)


def _number(name: str, given: object) -> float | None:
    if given is None:
        return None
    try:
        number = float(str(given))
    except ValueError as error:
        raise bad_request(f"{name} is not a number: {given!r}") from error
    if not -math.inf < number < math.inf:
        raise bad_request(f"{name} is not a number of seconds: {given!r}")
    return max(0.0, number)


def _check_preconditions(resource: Resource, item: Json, body: Json) -> None:
    metadata = item["metadata"]
    for field, told, meanwhile in (
        ("uid", "UID", "deleted and then recreated"),
        ("resourceVersion", "ResourceVersion", "modified"),
    ):
        wanted = (body.get("preconditions") or {}).get(field)
        if wanted is not None and metadata.get(field) != wanted:
            found = f"the {told} in the precondition ({wanted}) does not match the {told} in record ({metadata[field]})"
            raise conflict(resource.kind, metadata["name"], f"{found}. The object might have been {meanwhile}")
