"""Exact hypervolume, and the boxes of the part of the objective space that no point dominates.

Losses are minimised. Two objectives are swept in order; for more, BoTorch partitions the space
(Lacour et al. 2017). BoTorch maximises, so signs change here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bo_invert.objectives.pareto_front import non_dominated
from bo_invert.types import Array
from bo_invert.user_code import default_dtype, own_settings, torch_module

if TYPE_CHECKING:
    from botorch.utils.multi_objective.box_decompositions.box_decomposition import FastPartitioning


@own_settings()
def hypervolume(front: Array, reference: Array) -> float:
    """Return the volume that a front dominates up to a reference point.

    Args:
        front: Losses, shape ``(n, k)``. Rows that are not below the reference add nothing.
        reference: Reference point, shape ``(k,)``.
    """
    rows = front[(front < reference).all(axis=1)]
    rows = rows[non_dominated(rows)]
    if not len(rows):
        return 0.0
    if rows.shape[1] == 2:
        first, second = rows[np.argsort(rows[:, 0])].T
        widths = np.diff(np.append(first, reference[0]))
        return float((widths * (reference[1] - second)).sum())
    return float(_partitioning("DominatedPartitioning", rows, reference).compute_hypervolume())


@own_settings()
def non_dominated_boxes(front: Array, reference: Array) -> tuple[Array, Array]:
    """Return disjoint boxes of the losses below the reference that no point of a front dominates.

    Args:
        front: Losses, shape ``(n, k)``; n may be 0.
        reference: Reference point, shape ``(k,)``.

    Returns:
        Lower corners ``(c, k)``, -infinite at the open ends, and upper corners ``(c, k)``.
    """
    rows = front[(front < reference).all(axis=1)]
    rows = rows[non_dominated(rows)]
    k = len(reference)
    if not len(rows):
        return np.full((1, k), -np.inf), reference[None]
    if k == 2:
        first, second = rows[np.argsort(rows[:, 0])].T
        # Strip j lies between neighbours in the first loss and below the point to its left.
        left, right = np.append(-np.inf, first), np.append(first, reference[0])
        top = np.append(reference[1], second)
        lower = np.column_stack([left, np.full(len(left), -np.inf)])
        return lower, np.column_stack([right, top])
    # A box of BoTorch reaches from its lower to its upper corner in negative losses.
    boxes = _partitioning("FastNondominatedPartitioning", rows, reference)
    low, high = boxes.get_hypercell_bounds().double().numpy()
    return -high, -low


def _partitioning(kind: str, front: Array, reference: Array) -> FastPartitioning:
    """Return a partitioning of BoTorch; its import takes some tenths of a second."""
    from botorch.utils.multi_objective import box_decompositions

    torch = torch_module()
    with default_dtype("float32"):  # BoTorch creates empty tensors in the default type
        made: FastPartitioning = getattr(box_decompositions, kind)(
            torch.tensor(-reference), torch.tensor(-front)
        )
    return made
