"""Batched Levenberg-Marquardt from many starts; numpy only."""

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
    """Minimise sums of squared residuals; return inputs ``(b, d)`` and sums ``(b,)``.

    A step solves (J'J + damping tr(J'J)/d I) s = -J'r (Levenberg 1944; Marquardt 1963). It is
    accepted if the sum decreases; then the damping is multiplied by 0.3, otherwise by 4.

    Args:
        linearise: Function from inputs ``(b, d)`` to residuals ``(b, K)`` and their Jacobian
            ``(b, K, d)``.
        x: Starts, shape ``(b, d)``.
        project: Map from inputs to the nearest valid ones.
        bounded: Inputs lie in [0, 1], and steps follow active bounds.
        steps: Number of steps of each start.
    """
    d = x.shape[1]
    r, jacobian = linearise(x)
    squares, damping = (r**2).sum(1), np.full(len(x), 1e-2)
    for _ in range(steps):
        gradient = (np.swapaxes(jacobian, 1, 2) @ r[:, :, None])[..., 0]
        normal = np.swapaxes(jacobian, 1, 2) @ jacobian
        outward = ((x <= 0.0) & (gradient > 0.0)) | ((x >= 1.0) & (gradient < 0.0))
        free = ~(bounded & outward)
        # The damping is relative to the mean eigenvalue of J'J and independent of units.
        size = np.trace(normal, axis1=1, axis2=2) / d + 1e-300
        # Active coordinates get an identity row, so that their step is 0.
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
