"""Every error Evergreen raises on purpose, with its cause, its remedy and whether a retry can help.

    EvergreenError
    |-- ConfigurationError      64  the spec, a setting or a command is wrong
    |   `-- Overtaken                 a later rollout stands; to repeat the earlier one would undo it
    |-- DataError               65  the data is wrong, and will be wrong again
    |   |-- ValidationFailed        a whole day was refused by its expectations
    |   |-- IntegrityError          bytes differ from the digest on their receipt
    |   `-- NotFound                a day, version or object that should exist does not
    |-- TemporaryError          75  something outside is down; the same call may work later
    |   |-- SourceUnavailable       the source database or bucket does not answer
    |   |-- LakeUnavailable         the lake cannot be read or written (disk full, read-only, S3 down)
    |   |-- LedgerUnavailable       the ledger's database does not answer
    |   `-- Conflict                another writer won; nothing of ours was written
    `-- OutOfMemory            137  the device or the container ran out of memory

The number is the exit code that carries the same fact across a pod's boundary (`EXIT_MEANING`).
"""

from __future__ import annotations


class EvergreenError(Exception):
    """One clear sentence: the thing, what was found, what was wanted, and what to do next.

    `retryable` says whether the same call can succeed later; `exit_code` repeats it for a pod.
    Long reports belong in `details`, never in the message.
    """

    exit_code = 70
    retryable = False

    def __init__(self, thing: str, *, found: str, wanted: str, remedy: str, details: str | None = None) -> None:
        self.thing = thing
        self.found = found
        self.wanted = wanted
        self.remedy = remedy
        self.details = details
        super().__init__(f"{thing}: found {found}, wanted {wanted}. {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        """How to make it again: exceptions are pickled by their message alone, which would lose the parts."""
        return _make_again, (type(self), dict(vars(self)))


def _make_again(kind: type[EvergreenError], parts: dict[str, str]) -> EvergreenError:
    return kind(**parts)


class ConfigurationError(EvergreenError):
    """The spec, a setting or a command is wrong: mend it, a retry cannot help."""

    exit_code = 64


class Overtaken(ConfigurationError):
    """A later rollout stands; to repeat the earlier one would undo what somebody decided since."""


class DataError(EvergreenError):
    """The data is wrong and will be wrong again: a retry cannot help."""

    exit_code = 65


class ValidationFailed(DataError):
    """A whole day was refused by its expectations; nothing downstream saw it."""


class IntegrityError(DataError):
    """Bytes differ from the digest that was recorded for them."""


class NotFound(DataError):
    """A day, version or object that should exist does not."""


class TemporaryError(EvergreenError):
    """Something outside is down; the same call may work later."""

    exit_code = 75
    retryable = True


class SourceUnavailable(TemporaryError):
    """The source database or bucket does not answer."""


class LakeUnavailable(TemporaryError):
    """The lake cannot be read or written."""


class LedgerUnavailable(TemporaryError):
    """The ledger's database does not answer."""


class Conflict(TemporaryError):
    """Another writer won; nothing of ours was written."""


class OutOfMemory(EvergreenError):
    """The device or the container ran out of memory: retry with a smaller micro-batch."""

    exit_code = 137
    retryable = True


EXIT_MEANING: dict[int, str] = {
    0: "done",
    64: "bad configuration: fail at once",
    65: "bad data: fail at once",
    75: "temporary: retry",
    137: "out of memory: retry with half the micro-batch",
}
