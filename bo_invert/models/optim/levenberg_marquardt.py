"""Levenberg-Marquardt from many starts side by side, inside a domain. numpy only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bo_invert.types import Array


def levenberg_marquardt(
    linearise: Callable[[Array], tuple[Array, Array]],
    x: Array,
    project: Callable[[Array], Array],
    *,
    bounded: bool,
    steps: int = 25,
) -> tuple[Array, Array]:
    """Where squared residuals are least, ``(b, d)``, and what is left of them there, ``(b,)``.

    Args:
        linearised: residuals ``(b, K)`` and their Jacobian ``(b, K, d)`` at inputs ``(b, d)``.
        x: where to start, shape ``(b, d)``.
        inside: moves inputs to the nearest that are allowed.
        bounded: whether inputs are bounded by 0 and 1; then steps go along bounds that are reached.
        steps: so many of each.
    """
    d = x.shape[1]
    r, jacobian = linearise(x)
    squares, damping = (r**2).sum(1), np.full(len(x), 1e-2)
    for _ in range(steps):
        gradient = (np.swapaxes(jacobian, 1, 2) @ r[:, :, None])[..., 0]
        normal = np.swapaxes(jacobian, 1, 2) @ jacobian
        free = np.ones_like(x, dtype=bool)
        if bounded:
            free = ~(((x <= 0.0) & (gradient > 0.0)) | ((x >= 1.0) & (gradient < 0.0)))
        size = np.trace(normal, axis1=1, axis2=2) / d + 1e-300
        normal = normal * free[:, :, None] * free[:, None, :]
        normal = normal + (size[:, None] * (damping[:, None] + ~free))[:, :, None] * np.eye(d)
        ahead = project(x - np.linalg.solve(normal, (gradient * free)[..., None])[..., 0])
        r_ahead, jacobian_ahead = linearise(ahead)
        squares_ahead = (r_ahead**2).sum(1)
        better = squares_ahead < squares
        x, r = np.where(better[:, None], ahead, x), np.where(better[:, None], r_ahead, r)
        jacobian = np.where(better[:, None, None], jacobian_ahead, jacobian)
        squares = np.where(better, squares_ahead, squares)
        damping = np.clip(np.where(better, 0.3 * damping, 4.0 * damping), 1e-10, 1e8)
    return x, squares
