"""What a replay found, step by step, and why a step differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evergreen.artifacts import Receipt
from evergreen.provenance import code_digest, environment, hardware
from evergreen.settings import VERSION


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


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a result came from, beside its inputs."""

    code_version: str
    code_digest: str
    environment: Mapping[str, str]
    """Library -> release."""
    hardware: str
    device: str = "cpu"
    """Kind of device that trained."""

    @classmethod
    def of(cls, receipt: Receipt) -> Origin:
        """That of the process which wrote `receipt`."""
        return cls(
            code_version=receipt.code_version,
            code_digest=receipt.code_digest,
            environment=receipt.environment,
            hardware=receipt.hardware,
            device=receipt.device,
        )

    @classmethod
    def here(cls) -> Origin:
        """That of this process."""
        return cls(code_version=VERSION, code_digest=code_digest(), environment=environment(), hardware=hardware())


def changes(then: Origin, now: Origin) -> list[str]:
    """What differs between the two: code, environment, hardware, device."""
    changed = []
    if then.code_digest != now.code_digest:
        sources = f"sources {then.code_digest[:12]} then, {now.code_digest[:12]} now"
        changed.append(f"code (version {then.code_version}, {sources})")
    libraries = [
        f"{name} {then.environment.get(name, 'absent')} then, {now.environment.get(name, 'absent')} now"
        for name in sorted(then.environment.keys() | now.environment.keys())
        if then.environment.get(name) != now.environment.get(name)
    ]
    if libraries:
        changed.append(f"environment ({'; '.join(libraries)})")
    if then.hardware != now.hardware:
        changed.append(f"hardware ({then.hardware} then, {now.hardware} now)")
    if then.device != now.device:
        changed.append(f"device ({then.device} then, {now.device} now)")
    return changed
