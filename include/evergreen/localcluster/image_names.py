"""What can be said of an image by its name alone: nothing is pulled here."""

from __future__ import annotations

import re

_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@[A-Za-z0-9+._-]+:[0-9a-fA-F]{{32,}})?"
)


def image_name_problem(image: str) -> str | None:
    """Why no image can have this name, in the kubelet's words; None when one can."""
    if _REFERENCE.fullmatch(image):
        return None
    why = "invalid reference format"
    if _REFERENCE.fullmatch(image.lower().replace(" ", "")):
        why += ": repository name must be lowercase"
    return f'Failed to apply default image tag "{image}": couldn\'t parse image reference "{image}": {why}'


def absent_image(image: str) -> str:
    """What containerd says of an image that its registry does not have."""
    first = image.partition("/")[0]
    elsewhere = "/" in image and ("." in first or ":" in first or first == "localhost")
    name = image if elsewhere else f"docker.io/{image if '/' in image else f'library/{image}'}"
    resolved = f'failed to resolve reference "{name}": {name}: not found'
    return f'rpc error: code = NotFound desc = failed to pull and unpack image "{name}": {resolved}'
