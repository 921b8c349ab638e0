"""Shortest steps that remove residuals in a linear model."""

from __future__ import annotations

from bo_invert.models.array_module import A, array_module


def least_norm_steps(slopes: A, residuals: A, ridge: A) -> A:
    """Return the shortest steps ``(b, d)`` with ``slopes @ step = residuals``, if there are any.

    ``h = J' (J J' + r I)^-1 e = (J' J + r I)^-1 J' e``; the smaller matrix is solved. Otherwise h
    is nearest in the sense of least squares.

    Args:
        slopes: Slopes J of the entries, shape ``(b, e, d)``.
        residuals: Residuals e, shape ``(b, e)``.
        ridge: Ridge r > 0 of each row, shape ``(b,)``.
    """
    linalg, transposed = array_module(slopes).linalg, slopes.swapaxes(-1, -2)
    entries, dim = slopes.shape[-2:]
    normal = entries > dim
    matrix = transposed @ slopes if normal else slopes @ transposed
    size = dim if normal else entries
    # Entries without a slope have only the ridge on their diagonal, so the equations are solvable.
    matrix.reshape(len(matrix), size * size)[:, :: size + 1] += ridge[:, None]
    right = residuals[..., None]
    if normal:
        steps: A = linalg.solve(matrix, transposed @ right)[..., 0]
    else:
        steps = (transposed @ linalg.solve(matrix, right))[..., 0]
    return steps
