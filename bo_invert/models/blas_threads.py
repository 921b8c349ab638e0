"""Single-threaded linear algebra: fast for small matrices, with a fixed order of summation."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS, OpenMP and torch to one thread inside the context."""
    import torch

    # threadpoolctl limits BLAS and OpenMP; torch keeps a count of its own.
    before = torch.get_num_threads()
    with _controller(len(sys.modules)).limit(limits=1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _controller(modules: int) -> ThreadpoolController:
    """Find the loaded libraries; imports load more, so their number is the key of the cache."""
    return ThreadpoolController()
