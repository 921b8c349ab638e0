"""Cholesky factors of covariance matrices and inverses by them.

Arrays and tensors on the CPU use LAPACK as SciPy links it, which takes about half the time of that
in torch for some hundred rows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Generic, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import lapack
from torch import Tensor

from bo_invert.models.array_module import A, as_array, diagonal, on_host
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


def cholesky(matrices: Tensor) -> tuple[Tensor, bool]:
    """Return lower Cholesky factors of ``(..., n, n)``, and True if a matrix is singular."""
    if not on_host(matrices):
        factor, info = torch.linalg.cholesky_ex(matrices)
        return factor, bool(info.any())
    factors, singular = as_array(matrices).copy(), False
    for matrix in factors.reshape(-1, *factors.shape[-2:]):
        # The upper factor of columns in sequence is the lower one of rows in sequence.
        upper, info = lapack.dpotrf(matrix.T, lower=0, clean=1, overwrite_a=0)
        matrix[:] = upper.T
        singular = singular or bool(info)
    return torch.from_numpy(factors), singular


def invert_triangles(factors: Tensor) -> Tensor:
    """Return inverses of lower triangular matrices ``(..., n, n)``."""
    if not on_host(factors):
        eye = torch.eye(factors.shape[-1], dtype=factors.dtype, device=factors.device)
        solved: Tensor = torch.linalg.solve_triangular(factors, eye.expand_as(factors), upper=False)
        return solved
    inverses = as_array(factors).copy()
    for matrix in inverses.reshape(-1, *inverses.shape[-2:]):
        matrix[:] = lapack.dtrtri(matrix.T, lower=0)[0].T
    return torch.from_numpy(inverses)


@lru_cache(maxsize=8)
def _doubled_triangle(n: int) -> Array:
    """Return ``(n, n)`` numbers: 2 above the diagonal, 1 on it, 0 below."""
    return 2.0 * np.triu(np.ones((n, n)), 1) + np.eye(n)
