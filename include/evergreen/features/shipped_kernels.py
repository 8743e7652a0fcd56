"""Where an image keeps the kernels that were compiled when it was built: written then, only read afterwards.

Numba by itself passes over a folder it cannot write to, and would compile again in every container. An image names
this class in NUMBA_CACHE_LOCATOR_CLASSES and the folder in NUMBA_CACHE_DIR.
"""

from __future__ import annotations

from pathlib import Path

from numba.core.caching import UserProvidedCacheLocator


class ShippedKernels(UserProvidedCacheLocator):
    """Compiled code in NUMBA_CACHE_DIR, whether or not that can be written to."""

    def ensure_cache_path(self) -> None:
        """Makes the folder while the image is built; finds it later."""
        Path(str(self.get_cache_path())).mkdir(parents=True, exist_ok=True)  # type: ignore[no-untyped-call]
