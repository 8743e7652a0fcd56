"""What a replay found, step by step, and why a step differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evergreen.artifacts import Receipt
from evergreen.provenance import code_digest, environment, hardware


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One thing that was made again."""

    thing: str
    recorded: str
    """Digest on the receipt's trail."""
    found: str
    """Digest of what the replay made, or the reason why it could not."""
    why: str = ""
    """Empty when both are the same."""

    @property
    def identical(self) -> bool:
        return self.recorded == self.found


def compare(prefix: str, recorded: Mapping[str, str], found: Mapping[str, str], why: str) -> list[Comparison]:
    """One comparison a name, in the order of `recorded`; `why` stands where the digests differ."""
    pairs = [(name, digest, found.get(name, "nothing")) for name, digest in recorded.items()]
    return [
        Comparison(thing=f"{prefix}/{name}", recorded=old, found=new, why="" if old == new else why)
        for name, old, new in pairs
    ]


def changes_since(trained: Receipt) -> list[str]:
    """What differs between this process and the one that wrote `trained`: code, environment, hardware."""
    changed = []
    if trained.code_digest != code_digest():
        changed.append(
            f"code (version {trained.code_version}, sources {trained.code_digest[:12]} then, {code_digest()[:12]} now)"
        )
    now = environment()
    libraries = [
        f"{name} {trained.environment.get(name, 'absent')} then, {now.get(name, 'absent')} now"
        for name in sorted(trained.environment.keys() | now.keys())
        if trained.environment.get(name) != now.get(name)
    ]
    if libraries:
        changed.append(f"environment ({'; '.join(libraries)})")
    if trained.hardware != hardware():
        changed.append(f"hardware ({trained.hardware} then, {hardware()} now)")
    return changed
