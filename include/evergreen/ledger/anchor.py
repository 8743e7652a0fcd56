"""The anchor in the lake: how long each chain was, kept where the database cannot reach.

ledger/anchor.json      head (sequence and hash) of every table
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from evergreen.artifacts import ObjectRef
from evergreen.errors import EvergreenError, IntegrityError
from evergreen.lake.lake import Lake
from evergreen.ledger.chain import Anchor
from evergreen.ledger.ledger import Ledger

ANCHOR = "ledger/anchor.json"


def read_anchor(lake: Lake) -> Anchor | None:
    """The anchor written last; None when there is none yet."""
    return Anchor.from_json(lake.objects.get(ANCHOR)) if lake.objects.exists(ANCHOR) else None


def write_anchor(ledger: Ledger, lake: Lake) -> ObjectRef:
    """The anchor after it moved to the ledger's present heads; call it after appending.

    Of two that write at once, whoever put the older heads sees that the ledger went on, and puts again.
    Raises IntegrityError, and leaves the old anchor, when the ledger is not whole: a shortened chain must
    not become the new truth.
    """
    written = None
    while (heads := ledger.heads()) != written:
        _require_whole(ledger, lake)
        put = lake.objects.put(ANCHOR, heads.to_json().encode())
        written = heads
    return put


@contextmanager
def anchored(ledger: Ledger, lake: Lake) -> Iterator[None]:
    """Moves the anchor after the block, also when it fails: what it appended by then must not go missing unseen.

    The block's own error is the one that is raised.
    """
    try:
        yield
    except BaseException:
        with suppress(EvergreenError):
            write_anchor(ledger, lake)
        raise
    write_anchor(ledger, lake)


def _require_whole(ledger: Ledger, lake: Lake) -> None:
    findings = ledger.verify(read_anchor(lake))
    if findings:
        raise IntegrityError(
            "The ledger",
            found="; ".join(str(finding) for finding in findings[:3]),
            wanted="every row it ever had, unedited",
            remedy="Compare with a backup of the database; `evergreen audit verify` lists every finding.",
            details="\n".join(str(finding) for finding in findings),
        )
