"""`python -m evergreen.features.ship_kernels FOLDER`: the loops as an extension module that needs NumPy alone.

An image is built with it, so that no container compiles, and serving needs no compiler at all. The code is for
any processor of the architecture. Needs a C and C++ compiler and Python's headers.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

from numba import NumbaPendingDeprecationWarning

from evergreen.features import loops

SHIPPED: tuple[Any, ...] = (loops.number_groups, loops.order_by_group, loops.trailing_max, loops.trailing_sums)


def ship(folder: Path) -> Path:
    """The extension `shipped_kernels`, compiled into `folder`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumbaPendingDeprecationWarning)  # until numba has what is to replace it
        from numba.pycc import CC
    module = CC("shipped_kernels")
    module.output_dir = str(folder)
    for loop in SHIPPED:
        module.export(loop.__name__, loop.nopython_signatures[0])(loop.py_func)
    module.compile()
    return folder / str(module.output_file)


if __name__ == "__main__":
    ship(Path(sys.argv[1]))
