"""How many threads BLAS may use."""

from __future__ import annotations

from contextlib import AbstractContextManager

import scipy.linalg  # noqa: F401 - its BLAS is what compiled code calls; BLAS below must see it
from threadpoolctl import ThreadpoolController

BLAS = ThreadpoolController()


def single_blas() -> AbstractContextManager[object]:
    """Keep BLAS to the calling thread: the compiled loops around it have their own threads."""
    manager: AbstractContextManager[object] = BLAS.limit(limits=1, user_api="blas")
    return manager
