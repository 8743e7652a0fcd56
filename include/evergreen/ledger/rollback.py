"""Where a rollback leads, as a pure function of what served."""

from __future__ import annotations

from collections.abc import Iterable


def rollback_target(served: Iterable[str]) -> str | None:
    """The version to go back to after `served` (oldest first), None when there is none.

    Going to a version that is on the way here returns to it and abandons what came after; so after
    A, B, C a rollback gives B, the next A, and then there is nothing left, never B again. A new version
    on top of A then leads back to A, not to the abandoned ones.
    """
    path: list[str] = []
    for version in served:
        if version in path:
            del path[path.index(version) + 1 :]
        else:
            path.append(version)
    return path[-2] if len(path) > 1 else None
