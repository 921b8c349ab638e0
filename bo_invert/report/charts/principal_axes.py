"""Principal axes of points, for maps in two dimensions."""

from __future__ import annotations

import numpy as np

from bo_invert.types import Array


def principal_axes(points: Array) -> tuple[Array, Array, Array]:
    """Return mean ``(d,)``, two principal axes ``(2, d)`` and shares of variance of points.

    Points in two dimensions keep their axes.

    Args:
        points: Points, shape ``(n, d)``.
    """
    d = points.shape[1]
    if d <= 2:
        return np.zeros(d), np.eye(2, d), np.full(2, 0.5)
    mean = points.mean(axis=0)
    _, sizes, axes = np.linalg.svd(points - mean, full_matrices=False)
    if len(axes) < 2:
        axes, sizes = np.eye(2, d), np.ones(2)
    # The sign of an axis is arbitrary; its largest entry is positive.
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    shares = sizes**2 / max(float((sizes**2).sum()), 1e-300)
    return mean, (axes * signs[:, None])[:2], shares
