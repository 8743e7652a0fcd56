"""A request that is answered with a reason instead of a score."""

from __future__ import annotations

from http import HTTPStatus

from evergreen.errors import EvergreenError


class Refused(EvergreenError):
    """One request was refused; `status` is its HTTP status, `field` and `row` say where in the request."""

    def __init__(
        self,
        status: HTTPStatus,
        thing: str,
        *,
        found: str,
        wanted: str,
        remedy: str,
        field: str | None = None,
        row: int | None = None,
    ) -> None:
        super().__init__(thing, found=found, wanted=wanted, remedy=remedy)
        self.status = status
        self.field = field
        self.row = row

    def as_json(self) -> dict[str, object]:
        """The body of the answer."""
        where = {name: value for name, value in (("field", self.field), ("row", self.row)) if value is not None}
        reason = {"thing": self.thing, "found": self.found, "wanted": self.wanted, "remedy": self.remedy}
        return {"error": {"message": str(self), **where, **reason}}
