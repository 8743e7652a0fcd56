"""Takes secrets out of what is about to be shown: a server may repeat a password in its refusal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import unquote, urlsplit

from evergreen.doctor.check import Check
from evergreen.settings import Settings

SECRET_WORDS = ("KEY", "SECRET", "TOKEN", "PASSWORD", "CREDENTIAL")
SHORTEST = 4
"""Shorter values would black out ordinary words."""


def without_secrets(checks: dict[str, list[Check]], settings: Settings) -> dict[str, list[Check]]:
    """The same checks with every secret of `settings` replaced by ***."""
    secrets = sorted({s for s in _secrets(settings) if len(s) >= SHORTEST}, key=len, reverse=True)
    return {part: [_masked(check, secrets) for check in found] for part, found in checks.items()}


def _masked(check: Check, secrets: list[str]) -> Check:
    found, remedy = check.found, check.remedy
    for secret in secrets:
        found, remedy = found.replace(secret, "***"), remedy.replace(secret, "***")
    return replace(check, found=found, remedy=remedy)


def _secrets(settings: Settings) -> Iterator[str]:
    for name, value in settings.lake_options.items():
        if any(word in name for word in SECRET_WORDS):
            yield value
    yield settings.serving_token or ""
    for url in (settings.database_url, settings.lake_url, settings.serving_url):
        password = urlsplit(url).password or ""
        yield from (password, unquote(password))
