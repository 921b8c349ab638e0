"""Branches of the designs that meet a target."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.history import History
from bo_invert.models.inverse.branches import find_branches
from bo_invert.models.inverse.fit import TargetOptions, fit_target_model
from bo_invert.models.inverse.posterior_model import TargetModel
from bo_invert.types import Array


def fitted(
    space: bi.Space, function: Callable[[dict[str, float]], object], target: bi.Target, n: int
) -> TargetModel:
    problem = bi.Problem(space, function, target)
    study = bi.Study.create("s", problem, "sobol", seed=0).run(n, stop_when_hit=False)
    history = History(study.journal.trials)
    return fit_target_model(study.statement, history, TargetOptions()).model


SQUARE = {"a": bi.Float(-1.0, 1.0), "b": bi.Float(-1.0, 1.0)}


def circle(angles: Array, radius: float) -> Array:
    """Return unit coordinates of a circle in the square."""
    at = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.asarray(0.5 * (at + 1.0))


def test_a_thin_ring_is_one_branch_however_few_particles_there_are() -> None:
    model = fitted(
        bi.Box(SQUARE), lambda d: d["a"] ** 2 + d["b"] ** 2, bi.Target(0.5, tolerance=1e-4), 40
    )
    for count in (12, 400):
        points = circle(np.linspace(0.0, 2.0 * np.pi, count, endpoint=False), 0.5**0.5)
        assert find_branches(model, points).max() == 0


@pytest.mark.parametrize("count", [40, 400])
def test_near_parallel_lines_are_branches_of_their_own(count: int) -> None:
    model = fitted(
        bi.Box(SQUARE), lambda d: d["a"] ** 2 + 0.1 * d["b"], bi.Target(0.01, tolerance=1e-4), 40
    )
    b = np.linspace(-1.0, -0.1, count)
    a = np.sqrt(0.01 - 0.1 * b)  # distances of .28 to .66; the lines would meet at b = 0.1
    points = 0.5 * (np.stack([np.concatenate([a, -a[::2]]), np.concatenate([b, b[::2]])], 1) + 1.0)
    labels = find_branches(model, points)
    assert labels.tolist() == [0] * count + [1] * (count // 2)


def test_two_outputs_have_separate_points() -> None:
    model = fitted(
        bi.Box(SQUARE),
        lambda d: [d["a"] ** 2, d["a"] * d["b"]],
        bi.Target([0.25, 0.1], tolerance=0.01),
        40,
    )
    rng = np.random.default_rng(0)
    roots = 0.5 * (np.array([[0.5, 0.2], [-0.5, -0.2]]) + 1.0)
    points = np.repeat(roots, 30, axis=0) + 1e-3 * rng.standard_normal((60, 2))
    assert find_branches(model, points).tolist() == [0] * 30 + [1] * 30


def test_choices_and_intervals_to_avoid_separate_branches() -> None:
    space = bi.Box({"a": bi.Float(-1.0, 1.0), "kind": bi.Choice(["u", "v", "w"])})
    target = bi.Target({"y": (-2.0, 2.0)}, avoid={"y": (-0.2, 0.2)})
    model = fitted(space, lambda d: {"y": d["a"]}, target, 40)
    rng = np.random.default_rng(0)
    points = model.domain.sample(rng, 400)
    points = points[np.abs(2.0 * points[:, 0] - 1.0) > 0.25]
    labels = find_branches(model, points)
    names = [(p["kind"], p["a"] > 0.0) for p in model.domain.values(points)]
    assert len({*zip(labels.tolist(), names, strict=True)}) == len({*names}) == labels.max() + 1
