"""Inverses of covariance matrices, as gradients of a likelihood need them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Generic, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import lapack

from bo_invert.models.array_module import A, diagonal
from bo_invert.types import Array


class Inverse(NamedTuple, Generic[A]):
    """Results of ``invert`` for b matrices C."""

    half_log_determinants: A
    """log|C| / 2, shape ``(b,)``; infinite for singular matrices."""
    solutions: A
    """C^-1 R of right sides R, shape ``(b, n, r)``."""
    weights: A
    """Matrices ``(b, n, n)`` with sum(weights * S) = sum(C^-1 * S) for every symmetric S."""


def invert(matrices: A, right: A) -> Inverse[A]:
    """Invert symmetric positive definite matrices by their Cholesky factors.

    Args:
        matrices: Matrices C, shape ``(b, n, n)``; arrays are overwritten.
        right: Right sides R, shape ``(b, n, r)``.
    """
    if isinstance(matrices, np.ndarray):
        return _invert_arrays(matrices, right)
    factor, info = torch.linalg.cholesky_ex(matrices)
    halves = torch.where(info == 0, diagonal(factor).log().sum(-1), torch.inf)
    inverse = torch.cholesky_inverse(factor)
    return Inverse(halves, inverse @ right, inverse)


def _invert_arrays(matrices: NDArray[Any], right: NDArray[Any]) -> Inverse[NDArray[Any]]:
    """Invert matrices one by one, because numpy has no batched inverse of Cholesky factors."""
    halves, solutions = np.empty(len(matrices)), np.empty_like(right)
    for i, matrix in enumerate(matrices):
        # LAPACK wants columns in sequence; the transpose of a symmetric array has them.
        factor, info = lapack.dpotrf(matrix.T, lower=1, clean=0, overwrite_a=1)
        halves[i] = np.inf if info else np.log(factor.diagonal()).sum()
        solutions[i] = lapack.dpotrs(factor, right[i], lower=1)[0]
        inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
        # Only one triangle holds the inverse. Twice the triangle has the same sums.
        np.multiply(inverse.T, _doubled_triangle(matrix.shape[-1]), out=matrix)
    return Inverse(halves, solutions, matrices)


@lru_cache(maxsize=8)
def _doubled_triangle(n: int) -> Array:
    """Return ``(n, n)`` numbers: 2 above the diagonal, 1 on it, 0 below."""
    return 2.0 * np.triu(np.ones((n, n)), 1) + np.eye(n)
