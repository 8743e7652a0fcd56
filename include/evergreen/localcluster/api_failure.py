"""Refusals as Kubernetes words them: a Status object with a code and a reason."""

from __future__ import annotations

from evergreen.localcluster.field_problems import Problem
from evergreen.localcluster.wire import Json


class ApiFailure(Exception):
    """An answer other than success; `as_status` is the body a client gets."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        super().__init__(message)

    def as_status(self) -> Json:
        """The Kubernetes Status object that says this refusal."""
        status: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details is not None:
            status["details"] = self.details
        return status


def not_found(plural: str, name: str) -> ApiFailure:
    """404: no such object."""
    return ApiFailure(404, "NotFound", f'{plural} "{name}" not found', {"name": name, "kind": plural})


def already_exists(plural: str, name: str) -> ApiFailure:
    """409: the name is taken."""
    return ApiFailure(409, "AlreadyExists", f'{plural} "{name}" already exists', {"name": name, "kind": plural})


def conflict(plural: str, name: str, why: str) -> ApiFailure:
    """409: the object changed meanwhile, or is another one than expected."""
    return ApiFailure(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {plural} "{name}": {why}',
        {"name": name, "kind": plural},
    )


def no_such_path() -> ApiFailure:
    """404: nothing is served under this path."""
    return ApiFailure(404, "NotFound", "the server could not find the requested resource", {})


def method_not_allowed() -> ApiFailure:
    """405: there is such a resource, and this cannot be done with it."""
    message = "the server does not allow this method on the requested resource"
    return ApiFailure(405, "MethodNotAllowed", message, {})


def bad_request(message: str) -> ApiFailure:
    """400: the request makes no sense."""
    return ApiFailure(400, "BadRequest", message)


def invalid(kind: str, name: str, *problems: Problem) -> ApiFailure:
    """422: fields of the object are wrong; every problem is told, each under its field."""
    causes = [{"reason": each.reason, "message": each.message, "field": each.field} for each in problems]
    texts = [f"{each.field}: {each.message}" for each in problems]
    told = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details = {**({"name": name} if name else {}), "kind": kind, "causes": causes}
    return ApiFailure(422, "Invalid", f'{kind} "{name}" is invalid: {told}', details)


def unauthorized() -> ApiFailure:
    """401: no token, or a wrong one."""
    return ApiFailure(401, "Unauthorized", "Unauthorized")


def too_large(limit_bytes: int) -> ApiFailure:
    """413: the body is larger than the server reads."""
    return ApiFailure(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit_bytes}")


def expired(revision: int, oldest: int) -> ApiFailure:
    """410: the watch asks for changes that are no longer kept."""
    return ApiFailure(410, "Expired", f"too old resource version: {revision} ({oldest})")
