"""The ledger: which models there are, what served when and why, what was decided. Append-only.

Three hash-chained tables in the schema `evergreen` of a PostgreSQL database. Every method is one
transaction on a connection of its own and raises LedgerUnavailable when the database does not answer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from evergreen.artifacts import Deployment, Evaluation, Model, RetrainDecision, Verdict
from evergreen.errors import NotFound
from evergreen.lake.objects import require_digest
from evergreen.ledger.appending import append, head, links, lock
from evergreen.ledger.chain import Anchor, Finding, check_chain
from evergreen.ledger.database import Database
from evergreen.ledger.migration import migrate
from evergreen.ledger.rollback import rollback_target
from evergreen.ledger.rows import (
    RegisteredVersion,
    decided,
    deployed,
    latest_deployment,
    latest_registration,
    registered,
)
from evergreen.ledger.tables import CHAINS, decisions, deployments, model_versions

logger = logging.getLogger(__name__)


class Ledger:
    """The ledger in the database at `url`; `migrate` makes its tables."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def __repr__(self) -> str:
        return f"Ledger({self._database.place})"

    def migrate(self) -> None:
        """Returns when the tables are those of this release; safe to call any time, from many processes."""
        with self._database.transaction() as connection:
            migrate(connection)

    def register(self, model: Model, evaluation: Evaluation, verdict: Verdict) -> RegisteredVersion:
        """The version as it is registered now; saying the same again adds nothing.

        A version judged anew, say against another champion, gets a further row and the latest counts.
        Raises IntegrityError when the version is known with other bytes.
        """
        new = RegisteredVersion(model=model, evaluation=evaluation, verdict=verdict, registered_at=datetime.now(UTC))
        _require_same_version(new)
        with self._appending(model_versions) as connection:
            row = latest_registration(connection, model.pipeline, model.version)
            if row is not None:
                known = registered(row)
                _require_same_bytes(known.model, model)
                if known.model_copy(update={"registered_at": new.registered_at}) == new:
                    return known
            names = {"pipeline": model.pipeline, "version": model.version}
            content = new.model_dump(mode="json") | {"registered_at": new.registered_at}
            append(connection, model_versions, names | content)
        logger.info("%s %s registered, approved: %s", model.pipeline, model.version, verdict.approved)
        return new

    def version(self, pipeline_name: str, version: str) -> RegisteredVersion | None:
        """The version with its latest verdict; None when it was never registered."""
        with self._database.transaction() as connection:
            row = latest_registration(connection, pipeline_name, version)
        return None if row is None else registered(row)

    def versions(self, pipeline_name: str) -> list[RegisteredVersion]:
        """Every version once, with its latest verdict, in the order of their first registration."""
        rows = self._rows(model_versions, pipeline_name)
        latest = {row.version: registered(row) for row in rows}
        return list(latest.values())

    def deploy(self, model: Model, *, actor: str, reason: str, at: datetime | None = None) -> Deployment:
        """The deployment that makes `model` serve from `at` (now) on; the current one when it serves already.

        Raises NotFound when the version was never registered, IntegrityError when it was with other
        bytes, ValueError for an `at` without a time zone or before the latest deployment.
        """
        with self._appending(deployments) as connection:
            registration = latest_registration(connection, model.pipeline, model.version)
            if registration is None:
                raise _not_registered(model)
            _require_same_bytes(registered(registration).model, model)
            current = latest_deployment(connection, model.pipeline)
            if current is not None and current.to_version == model.version:
                return current
            content: dict[str, object] = {
                "at": _moment(at, current),
                "pipeline": model.pipeline,
                "from_version": current.to_version if current else None,
                "to_version": model.version,
                "model_uri": model.uri,
                "model_digest": model.digest,
                "actor": actor,
                "reason": reason,
            }
            sequence = append(connection, deployments, {**content, "evidence": registration.hash})
        logger.info("%s serves %s from %s on: %s", model.pipeline, model.version, content["at"], reason)
        return Deployment.model_validate({**content, "sequence": sequence})

    def current(self, pipeline_name: str) -> Deployment | None:
        """What serves now; None before the first deployment."""
        with self._database.transaction() as connection:
            return latest_deployment(connection, pipeline_name)

    def serving_at(self, pipeline_name: str, at: datetime) -> Deployment | None:
        """What served at the instant `at`: a version serves from its `at` up to, not including, the next one's."""
        with self._database.transaction() as connection:
            return latest_deployment(connection, pipeline_name, until=_aware(at))

    def history(self, pipeline_name: str) -> list[Deployment]:
        """Every deployment, oldest first."""
        return [deployed(row) for row in self._rows(deployments, pipeline_name)]

    def previous(self, pipeline_name: str) -> Deployment | None:
        """The latest deployment of the version a rollback leads to; None when there is nothing to go back to.

        See `rollback_target` for which version that is.
        """
        history = self.history(pipeline_name)
        target = rollback_target(d.to_version for d in history)
        return next((d for d in reversed(history) if d.to_version == target), None)

    def record_decision(self, decision: RetrainDecision, *, at: datetime | None = None) -> None:
        """Returns when the decision is in the ledger; the same one for the same day is there once."""
        content = decision.model_dump(mode="json")
        where = (decisions.c.pipeline == decision.pipeline) & (decisions.c.day == decision.day)
        with self._appending(decisions) as connection:
            said = connection.execute(sa.select(decisions.c.decision).where(where)).scalars()
            if content in list(said):
                return
            row = {"pipeline": decision.pipeline, "day": decision.day, "decision": content}
            append(connection, decisions, {**row, "decided_at": _aware(at or datetime.now(UTC))})

    def decisions(self, pipeline_name: str) -> list[tuple[datetime, RetrainDecision]]:
        """Every decision with the instant it was recorded, oldest first."""
        rows = self._rows(decisions, pipeline_name)
        return [(row.decided_at, decided(row)) for row in rows]

    def heads(self) -> Anchor:
        """The last row of every table, all of one moment."""
        with self._database.transaction(isolation="REPEATABLE READ") as connection:
            return Anchor(heads={table.name: head(connection, table) for table in CHAINS})

    def verify(self, anchor: Anchor | None) -> list[Finding]:
        """Every edited or missing row; nothing when the ledger is whole and no shorter than `anchor`.

        Without an anchor a missing tail goes unseen, as do rows removed after the anchor was written.
        """
        heads = anchor.heads if anchor else {}
        with self._database.transaction(isolation="REPEATABLE READ") as connection:
            return [
                finding
                for table in CHAINS
                for finding in check_chain(table.name, links(connection, table), heads.get(table.name))
            ]

    @contextmanager
    def _appending(self, table: sa.Table) -> Iterator[sa.Connection]:
        """A transaction in which nobody else appends to `table`."""
        with self._database.transaction() as connection:
            lock(connection, table.name)
            yield connection

    def _rows(self, table: sa.Table, pipeline_name: str) -> list[sa.Row[Any]]:
        ordered = sa.select(table).where(table.c.pipeline == pipeline_name).order_by(table.c.sequence)
        with self._database.transaction() as connection:
            return list(connection.execute(ordered))


def _moment(at: datetime | None, current: Deployment | None) -> datetime:
    """The instant of the next deployment; a clock that was set back never puts it before the latest one."""
    latest = current.at if current else datetime.min.replace(tzinfo=UTC)
    if at is None:
        return max(datetime.now(UTC), latest)
    if _aware(at) < latest:
        raise ValueError(f"at={at.isoformat()} is before the latest deployment at {latest.isoformat()}")
    return at.astimezone(UTC)


def _aware(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError(f"{at.isoformat()} has no time zone; the ledger takes aware times only")
    return at


def _require_same_version(new: RegisteredVersion) -> None:
    for name, part in (("evaluation", new.evaluation), ("verdict", new.verdict)):
        if (part.pipeline, part.version) != (new.model.pipeline, new.model.version):
            raise ValueError(f"the {name} is of {part.pipeline} {part.version}, not of {new.model.version}")


def _require_same_bytes(known: Model, model: Model) -> None:
    require_digest(f"Model {model.pipeline} {model.version}", found=model.digest, wanted=known.digest)


def _not_registered(model: Model) -> NotFound:
    return NotFound(
        f"Version {model.version} of {model.pipeline}",
        found="no registration",
        wanted="a version that was evaluated and judged",
        remedy=f"Run {model.pipeline}.train_model for it, which registers it.",
    )
