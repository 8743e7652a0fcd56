"""What a broken chain gives away, on links made by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from evergreen.ledger.chain import GENESIS, Finding, Head, Link, check_chain, hash_row


def _chain(length: int) -> list[Link]:
    links: list[Link] = []
    before = GENESIS
    for sequence in range(1, length + 1):
        content = {"sequence": sequence, "reason": f"reason {sequence}"}
        links.append(Link(sequence=sequence, content=content, prev_hash=before, hash=hash_row(content, before)))
        before = links[-1].hash
    return links


def _found(findings: list[Finding]) -> list[tuple[str, int, int]]:
    return [(f.kind, f.first, f.last) for f in findings]


def _head(link: Link) -> Head:
    return Head(sequence=link.sequence, hash=link.hash)


def test_hash_is_sha256_of_canonical_json() -> None:
    # printf '{"content":{"a":1,"day":"2026-11-03","ä":"é"},"prev_hash":"00"}' | sha256sum
    wanted = "fd6852b9dcff42c966226fab6ce2473c8a94d3c0dda3228c13f6a48f95947514"
    assert hash_row({"ä": "é", "a": 1, "day": date(2026, 11, 3)}, "00") == wanted


def test_hash_sees_the_instant_not_its_zone() -> None:
    noon = datetime(2026, 11, 3, 12, tzinfo=UTC)
    assert hash_row({"at": noon}, "") == hash_row({"at": noon.astimezone(timezone(timedelta(hours=9)))}, "")


@pytest.mark.parametrize("value", [float("nan"), object()], ids=["nan", "object"])
def test_what_has_no_canonical_json_is_refused(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        hash_row({"x": value}, "")


@pytest.mark.parametrize("length", [0, 1, 5])
def test_whole_chain_has_no_findings(length: int) -> None:
    links = _chain(length)
    assert check_chain("t", links, _head(links[-1]) if links else None) == []


def test_rows_after_the_anchor_are_welcome() -> None:
    links = _chain(5)
    assert check_chain("t", links, _head(links[2])) == []


@pytest.mark.parametrize("at", [1, 3, 5])
def test_edited_row_is_named(at: int) -> None:
    links = _chain(5)
    links[at - 1] = replace(links[at - 1], content={"sequence": at, "reason": "better"})
    assert _found(check_chain("t", links, None)) == [("edited", at, at)]


@pytest.mark.parametrize("at", [1, 3])
def test_row_edited_together_with_its_hash_is_named_by_the_next(at: int) -> None:
    links = _chain(5)
    content = {"sequence": at, "reason": "better"}
    prev = links[at - 1].prev_hash
    links[at - 1] = Link(sequence=at, content=content, prev_hash=prev, hash=hash_row(content, prev))
    assert _found(check_chain("t", links, None)) == [("edited", at, at)]


def test_last_row_edited_together_with_its_hash_is_named_by_the_anchor() -> None:
    links = _chain(3)
    anchor = _head(links[2])
    content = {"sequence": 3, "reason": "better"}
    prev = links[2].prev_hash
    links[2] = Link(sequence=3, content=content, prev_hash=prev, hash=hash_row(content, prev))
    assert check_chain("t", links, None) == []
    assert _found(check_chain("t", links, anchor)) == [("edited", 3, 3)]


@pytest.mark.parametrize(("gone", "wanted"), [((1, 1), (1, 1)), ((1, 2), (1, 2)), ((3, 3), (3, 3)), ((2, 4), (2, 4))])
def test_missing_rows_are_named(gone: tuple[int, int], wanted: tuple[int, int]) -> None:
    links = [link for link in _chain(5) if not gone[0] <= link.sequence <= gone[1]]
    assert _found(check_chain("t", links, None)) == [("missing", *wanted)]


def test_missing_tail_is_named_by_the_anchor_alone() -> None:
    links = _chain(5)
    assert check_chain("t", links[:3], None) == []
    assert _found(check_chain("t", links[:3], _head(links[4]))) == [("missing", 4, 5)]
    assert _found(check_chain("t", [], _head(links[4]))) == [("missing", 1, 5)]


def test_gap_closed_by_renumbering_is_found() -> None:
    links = _chain(4)
    moved = replace(links[3], sequence=3, content=links[3].content | {"sequence": 3})
    assert ("edited", 3, 3) in _found(check_chain("t", [*links[:2], moved], None))


def test_finding_reads_as_a_sentence() -> None:
    finding = check_chain("deployments", _chain(5)[:2], _head(_chain(5)[4]))[0]
    assert str(finding) == "deployments rows 3 to 5: missing, the anchor in the lake remembers them"
