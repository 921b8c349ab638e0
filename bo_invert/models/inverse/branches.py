"""Branches of the designs that meet a target: parts between which outputs leave the target."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree
from torch import Tensor

from bo_invert.models.gp.mixed_kernel import column_structure
from bo_invert.models.inverse.least_norm import least_norm_steps
from bo_invert.models.inverse.posterior_model import TargetModel
from bo_invert.types import Array, Indices, Mask

_NEIGHBOURS = 8
"""Number of nearest particles that each one may be connected to. Engineering choice."""
_PLACES = (0.5, 0.25, 0.75)
"""Places along a segment where outputs are predicted, as shares of its length, dimensionless.
Engineering choice: the middle is the most likely place outside the target."""
_BEND = 0.5
"""Largest step back to the target, as a share of the distance to the nearer end of the segment.
Engineering choice: a circular arc passes if the segment is shorter than 1.3 radii, and the middle
between two parallel branches, whose share is 1, does not."""
_ROUNDS = 4
"""Largest number of rounds that join parts. Engineering choice: each at least halves the number of
parts that can be joined."""
_CHUNK = 2_000
"""Number of segments tested at once. Engineering choice: bounds the memory."""


def find_branches(model: TargetModel, points: Array) -> Indices:
    """Return the branch ``(n,)`` of each particle, numbered by falling mass.

    Near particles x, x' are in one branch if the target is met along a curve beside their segment.
    At places x_t of the segment, the least step in first order back to the target,

        ``min |h|  subject to  mu(x_t) + J(x_t) h  in the target region``,

    is compared with the distance from x_t to the nearer end. Distances between particles do not
    decide, so neither their number nor the width of a branch does.

    Args:
        model: Model of the target.
        points: Particles, points of the domain, shape ``(n, d)``.
    """
    n = len(points)
    inputs = model.unit(points)
    groups = _choices(model, inputs)
    edges = _candidate_edges(points, groups)
    graph = coo_matrix((np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1) + 1e-12,
                        (edges[:, 0], edges[:, 1])), shape=(n, n))  # fmt: skip
    # The shortest edges decide most. The others are tested if they join two parts.
    tree = minimum_spanning_tree(graph).tocoo()
    shortest = np.stack([tree.row, tree.col], axis=1)
    good = shortest[_connected(model, inputs, shortest)]
    labels = _components(n, good)
    between = edges[labels[edges[:, 0]] != labels[edges[:, 1]]]
    good = np.concatenate([good, between[_connected(model, inputs, between)]])
    for _ in range(_ROUNDS):
        labels = _components(n, good)
        between = _edges_between(points, groups, labels)
        joined = between[_connected(model, inputs, between)]
        good = np.concatenate([good, joined])
        if not len(joined):
            break
    return by_mass(_components(n, good), n)


def by_mass(labels: Indices, count: int) -> Indices:
    """Return labels ``(n,)`` numbered by falling frequency among the first ``count``."""
    used, labels = np.unique(labels, return_inverse=True)
    order = np.argsort(-np.bincount(labels[:count], minlength=len(used)), kind="stable")
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return np.asarray(places[labels])


def _choices(model: TargetModel, inputs: Tensor) -> Indices:
    """Return an index ``(n,)`` of the combination of choices of each particle."""
    structure = column_structure(model.domain)
    if structure is None:
        return np.zeros(len(inputs), dtype=np.intp)
    columns = [column for group in structure.choices for column in group]
    values = np.round(inputs[:, columns].cpu().numpy(), 6)
    return np.asarray(np.unique(values, axis=0, return_inverse=True)[1]).ravel()


def _candidate_edges(points: Array, groups: Indices) -> Indices:
    """Return pairs ``(e, 2)`` of near particles with the same choices."""
    found = [np.empty((0, 2), dtype=np.intp)]
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        count = min(_NEIGHBOURS, len(rows) - 1)
        if count:
            _, near = cKDTree(points[rows]).query(points[rows], count + 1)
            first, second = np.repeat(rows, count + 1), rows[near.ravel()]
            pairs = np.sort(np.stack([first, second], axis=1), axis=1)
            found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    return np.unique(np.concatenate(found), axis=0)


def _edges_between(points: Array, groups: Indices, labels: Indices) -> Indices:
    """Return the nearest pairs ``(e, 2)`` of particles of each part and any other one.

    Resampled particles form clusters, whose nearest neighbours are all inside.
    """
    found = [np.empty((0, 2), dtype=np.intp)]
    for label in np.flatnonzero(np.bincount(labels) > 1):
        own = np.flatnonzero(labels == label)
        others = np.flatnonzero((labels != label) & (groups == groups[own[0]]))
        if len(others):
            gaps, near = cKDTree(points[others]).query(points[own])
            nearest = np.argsort(gaps, kind="stable")[:_NEIGHBOURS]
            found.append(np.stack([own[nearest], others[near[nearest]]], axis=1))
    return np.concatenate(found)


def _components(n: int, edges: Indices) -> Indices:
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1])


def _connected(model: TargetModel, inputs: Tensor, edges: Indices) -> Mask:
    """Return a mask ``(e,)`` of the segments beside which the target is met."""
    joined = np.ones(len(edges), dtype=bool)
    for start in range(0, len(edges), _CHUNK):
        chosen = slice(start, start + _CHUNK)
        first, second = (inputs[torch.as_tensor(edges[chosen, side])] for side in (0, 1))
        length = torch.linalg.vector_norm(first - second, dim=1)
        rows = np.arange(start, min(start + _CHUNK, len(edges)))
        for place in _PLACES:
            at = first + place * (second - first)
            limit = _BEND * min(place, 1.0 - place) * length
            near = _step_back(model, at) <= limit
            joined[rows] = near.cpu().numpy()
            rows = rows[joined[rows]]
            first, second, length = first[near], second[near], length[near]
    return joined


def _step_back(model: TargetModel, inputs: Tensor) -> Tensor:
    """Return the length ``(n,)`` of the least first-order step to the target; infinite for none.

    Lengths are in unit coordinates. Residuals count in half widths of the intervals plus one
    standard deviation of the model. A residual of at most 1 beyond an interval needs no step.
    """
    mean, std, score_slopes = model.linearised(inputs)
    residual, factors = model.region.excess(mean, std)
    # Residuals inside an interval are 0 and constant, so their slopes are 0.
    weights = model.surrogate.weights[:, model.region.columns]  # (k, e)
    slopes = factors[..., None] * (weights.mT @ score_slopes)  # (n, e, d)
    step = least_norm_steps(slopes, residual, 1e-9 * slopes.square().sum((1, 2)) + 1e-12)
    left = residual - (slopes @ step[..., None])[..., 0]
    length = torch.linalg.vector_norm(step, dim=1)
    length = torch.where(left.abs().amax(1) <= 1.0, length, torch.inf)
    return torch.where(residual.abs().amax(1) <= 1.0, 0.0, length)
