"""The hash chain of one append-only table: how a row is hashed, and what is wrong with a chain.

A row's hash covers its content and the hash of the row before it, so no row can be edited, removed or
put in between without breaking what follows. A head kept elsewhere (an anchor) guards the tail.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

from evergreen.artifacts import Artifact

GENESIS = "0" * 64
"""What the first row of a table remembers as the hash before it."""


class Head(Artifact):
    """The last row of a table at some moment; sequence 0 stands for an empty table."""

    sequence: int
    hash: str


EMPTY = Head(sequence=0, hash=GENESIS)


class Anchor(Artifact):
    """The head of every table, kept outside the database."""

    heads: dict[str, Head]


@dataclass(frozen=True, kw_only=True)
class Link:
    """One row as it is stored: what it says, and the two hashes it carries."""

    sequence: int
    content: Mapping[str, object]
    prev_hash: str
    hash: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing wrong with a table; `str` of it is a sentence for people."""

    table: str
    kind: Literal["edited", "missing"]
    first: int
    last: int
    """Sequences concerned, inclusive."""
    evidence: str

    def __str__(self) -> str:
        rows = f"row {self.first}" if self.first == self.last else f"rows {self.first} to {self.last}"
        return f"{self.table} {rows}: {self.kind}, {self.evidence}"


def hash_row(content: Mapping[str, object], prev_hash: str) -> str:
    """SHA-256 over the canonical JSON (sorted keys, no spaces, UTF-8) of `content` and `prev_hash`."""
    canonical = json.dumps(
        {"content": content, "prev_hash": prev_hash},
        default=_plain,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def check_chain(table: str, links: Iterable[Link], anchor: Head | None) -> list[Finding]:
    """Everything wrong with `links` (in order of sequence), nothing for a whole chain.

    Without an anchor a missing tail cannot be told from rows that never were.
    """
    findings: list[Finding] = []
    before, anchored = EMPTY, anchor or EMPTY
    for link in links:
        findings += _check_link(table, before, link)
        if link.sequence == anchored.sequence and link.hash != anchored.hash:
            findings.append(_edited(table, link.sequence, "the anchor in the lake remembers another hash"))
        before = Head(sequence=link.sequence, hash=link.hash)
    if before.sequence < anchored.sequence:
        gone = (before.sequence + 1, anchored.sequence)
        findings.append(_missing(table, gone, "the anchor in the lake remembers them"))
    return sorted(set(findings), key=lambda f: (f.first, f.last, f.kind, f.evidence))


def _check_link(table: str, before: Head, link: Link) -> list[Finding]:
    findings = []
    if link.sequence != before.sequence + 1:
        gone = (before.sequence + 1, link.sequence - 1)
        findings.append(_missing(table, gone, f"row {link.sequence} follows a row that is not there"))
    elif link.prev_hash != before.hash:
        # The row before hashes well by itself, so it was rewritten together with its hash. At the very
        # beginning there is no row before: then it is the first row that was rewritten.
        evidence = f"row {link.sequence} remembers another hash of the row before it"
        findings.append(_edited(table, before.sequence or link.sequence, evidence))
    if hash_row(link.content, link.prev_hash) != link.hash:
        findings.append(_edited(table, link.sequence, "its content does not give its hash"))
    return findings


def _edited(table: str, sequence: int, evidence: str) -> Finding:
    return Finding(table=table, kind="edited", first=sequence, last=sequence, evidence=evidence)


def _missing(table: str, gone: tuple[int, int], evidence: str) -> Finding:
    return Finding(table=table, kind="missing", first=gone[0], last=gone[1], evidence=evidence)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no canonical JSON")
