"""Distances from targets, drawn outputs, nearest outputs of one and of many targets, limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.gp.kernels import RBF
from bo_invert.models.gp.posterior import condition
from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.models.inverse.attainability import Attainability
from bo_invert.models.inverse.credibility import sequential_inflation
from bo_invert.models.inverse.drawn_outputs import DistanceScore, DrawnOutputs
from bo_invert.models.inverse.limiting_factors import limiting_factors
from bo_invert.models.inverse.reachability import nearest_outputs, starting_points
from bo_invert.models.inverse.reachable_targets import reach_targets
from bo_invert.models.inverse.rounded_outputs import RoundedOutputs
from bo_invert.models.inverse.target_distance import TargetDistance
from bo_invert.types import Array

DIM = 3


def smooth(x: Array) -> Array:
    x = np.asarray(x, dtype=float)
    return np.array([x.sum() + 0.3 * np.sin(3.0 * x[0]), x[0] - x[1] ** 2])


@pytest.fixture(scope="module")
def estimate() -> Attainability:
    target = bi.Target({"a": 4.0, "b": 0.2}, tolerance=0.05)
    problem = bi.Problem(bi.Box([0.0] * DIM, [1.0] * DIM), smooth, target, outputs=["a", "b"])
    study = bi.Study.create("s", problem, "sobol", seed=0).run(30)
    return Attainability.of(problem.statement, History(study.trials), 0)


def several(values: Array, tolerance: float = 0.05) -> TargetDistance:
    return TargetDistance(
        np.arange(2), values - tolerance, values + tolerance, np.zeros(2, dtype=bool),
        np.full(2, tolerance), 2,
    )  # fmt: skip


def test_excess_counts_tolerances_beyond_points_ranges_and_avoided_intervals() -> None:
    distance = TargetDistance(
        np.array([0, 1, 1]), np.array([[0.9, -np.inf, 2.0]]), np.array([[1.1, 3.0, 2.5]]),
        np.array([False, False, True]), np.array([0.1, 0.5, 0.25]), 3,
    )  # fmt: skip
    excess, slopes = distance.excesses(np.array([[1.3, 2.2], [1.0, 4.0]]), np.zeros(2, dtype=int))
    assert excess[0] == pytest.approx([2.0, -1.6, 0.8])
    assert excess[1] == pytest.approx([-1.0, 2.0, -6.0])
    assert slopes[0] == pytest.approx([10.0, 2.0, 4.0])
    assert distance.largest(np.array([[1.3, 2.2]])) == pytest.approx([2.0])
    slack = np.array([1.5, 0.0, 0.0])
    assert distance.largest(np.array([[1.3, 2.2]]), slack=slack) == pytest.approx([0.8])
    many = np.random.default_rng(0).uniform(0.0, 4.0, (7, 9_000, 2))
    expected = distance.excesses(many, np.asarray(0))[0].max(-1)
    np.testing.assert_array_equal(distance.largest(many), expected)


@pytest.mark.parametrize("smooth_maximum", [False, True])
def test_scores_have_exact_gradients(estimate: Attainability, smooth_maximum: bool) -> None:
    outputs, distance = estimate.outputs, several(np.array([[4.0, 0.2], [1.0, -0.5]]))
    score = DistanceScore(outputs, distance)
    inputs = np.random.default_rng(0).uniform(0.1, 0.9, (6, DIM))
    functions = np.array([0, 5, 17, outputs.count, outputs.count + 3, outputs.count + 40])
    if smooth_maximum:
        scale = np.zeros(2 * outputs.count)
        scale[functions] = score.largest(inputs, functions)[0]
        score = DistanceScore(outputs, distance, scale)
    values, slopes = score.gradient(inputs, functions)
    assert values == pytest.approx(score.values(inputs)[functions, np.arange(6)], rel=1e-9)
    for j in range(DIM):
        step = 1e-6 * np.eye(DIM)[j]
        ahead, behind = (score.gradient(inputs + s * step, functions)[0] for s in (1.0, -1.0))
        assert slopes[:, j] == pytest.approx((ahead - behind) / 2e-6, rel=1e-3, abs=1e-3)


def test_factors_widen_the_deviations_from_the_mean(estimate: Attainability) -> None:
    surrogate = estimate.fit.model.surrogate
    one, four = (
        DrawnOutputs.of(surrogate, torch.full((2,), factor).double(), None, (8, 64), 1)
        for factor in (1.0, 4.0)
    )
    inputs = np.random.default_rng(1).random((5, DIM))
    narrow, wide = one(inputs), four(inputs)
    assert wide[:, 0] == pytest.approx(narrow[:, 0])
    assert narrow[:, 0] == pytest.approx(surrogate.mean(torch.tensor(inputs)).numpy())
    deviations = narrow[:, 1:] - narrow[:, :1]
    assert wide[:, 1:] - wide[:, :1] == pytest.approx(2.0 * deviations)


def test_nearest_outputs_and_limits_at_a_corner(estimate: Attainability) -> None:
    reach = estimate.reach
    # a has its largest value at x = (0.98, 1, 1), where b is near 0.
    best = max(
        smooth(np.array([u, v, 1.0])) @ [1.0, 0.0] for u in np.linspace(0.5, 1, 51) for v in (1.0,)
    )
    assert reach.outputs[0, 0] == pytest.approx(best, abs=0.05)
    assert reach.excess[0] == pytest.approx((4.0 - best) / 0.05 - 1.0, abs=1.0)
    assert estimate.probability == 0.0
    limits = limiting_factors(
        estimate.outputs, estimate.distance, estimate.statement.domain, reach.points[0], ["a", "b"]
    )
    assert (limits[0].kind, limits[0].name, limits[0].side) == ("output", "a", -1)
    assert {(one.name, one.side) for one in limits if one.kind == "parameter"} >= {("x2", 1)}


def test_many_targets_agree_with_one_at_a_time(estimate: Attainability) -> None:
    values = np.array([[1.5, 0.1], [2.5, -0.4], [3.3, 0.0], [3.25, 0.6], [4.0, 0.2], [0.2, -0.3]])
    domain, rng = estimate.statement.domain, np.random.default_rng(0)
    starts = starting_points(domain, estimate.history.ranked_points, rng)
    many = reach_targets(estimate.outputs, several(values), domain, starts, rng)
    for row, value in enumerate(values):
        single = nearest_outputs(estimate.outputs, several(value[None]), domain, starts, rng)
        assert many.probability[row] == pytest.approx(single.probability, abs=0.1)
        if single.excess[0] > 0.0:
            assert many.excess[row] == pytest.approx(single.excess[0], rel=0.05, abs=0.1)
        else:
            assert many.excess[row] <= 0.0


def test_estimates_do_not_depend_on_earlier_ones(estimate: Attainability) -> None:
    values = np.array([[2.0, 0.1], [3.3, 0.3]])
    first, second = (estimate.reach_targets(values) for _ in range(2))
    assert np.array_equal(first.probability, second.probability)
    assert np.array_equal(first.points, second.points)


def test_best_hope_is_new(estimate: Attainability) -> None:
    point, hit = estimate.best_hope()
    assert 0.0 <= hit <= 1.0
    gaps = np.linalg.norm(
        to_unit(estimate.statement.domain, estimate.history.all_points) - point, axis=1
    )
    assert gaps.min() > 1e-6


def test_surprising_observations_inflate_the_deviations() -> None:
    inputs = torch.rand(60, 1, generator=torch.Generator().manual_seed(0)).double()
    values, zero = torch.sin(12.0 * inputs), torch.zeros(1).double()

    def inflation(size: float) -> float:
        gp = condition(
            RBF, torch.full((1, 1), size).double().log(), torch.full((1,), 1e-6).double(), inputs,
            values,
        )  # fmt: skip
        one = Surrogate(gp, gp, torch.eye(1).double(), zero, zero, None, None)
        return float(sequential_inflation(one))

    assert inflation(0.12) < 20.0
    assert inflation(1.5) > 100.0


def half_rough(x: Array) -> Array:
    """Return a slope that is smooth up to 0.5 and has fine structure beyond."""
    rough = 0.1 * np.sin(5e3 * x[1] + 3e3 * x[0]) * (x[0] > 0.5)
    return np.array([x[0] + 0.2 * x[1] + rough])


def test_only_errors_near_the_target_count() -> None:
    box = bi.Box([0.0] * 2, [1.0] * 2)
    first = bi.Problem(box, half_rough, bi.Target({"y": 5.0}, tolerance=0.02), outputs=["y"])
    study = bi.Study.create("rough", first, "sobol", seed=0).run(60)
    others = [study.retarget({"y": value}) for value in (-0.1, 1.4)]
    low, high = (Attainability.of(one.problem.statement, one.history, 0) for one in others)
    assert low.distance.slack.max() < 0.5 * high.distance.slack.max()
    assert float(low.inflation) < float(high.inflation)
    assert low.probability < 0.05


def test_steps_of_rounded_outputs_are_measured() -> None:
    values = np.random.default_rng(0).random((40, 3))
    values[:, 1] = np.round(values[:, 1], 1) + 0.03
    values[:, 2] = values[np.arange(40) // 2 * 2, 2]  # repeats without a step, as trees
    found = RoundedOutputs.of(values)
    assert found.step == pytest.approx([0.0, 0.1, 0.0])
    assert found.half[:2] == pytest.approx([0.0, 0.0])
    assert found.half[2] > 0.0


def test_intervals_of_rounded_outputs_become_those_before_rounding() -> None:
    rounded = RoundedOutputs.of(np.array([[4.0, 8.0, 8.0, 20.0, 4.0, 28.0]]).T)
    lower, upper = np.array([[9.0], [5.0], [-np.inf]]), np.array([[17.0], [7.0], [6.5]])
    column, wanted = np.zeros(1, dtype=np.intp), np.zeros(1, dtype=bool)
    low, high = rounded.widen(lower, upper, column, wanted)
    assert low[:, 0].tolist() == [9.0, 5.0, -np.inf]  # multiples of 4: 12 to 16, none, up to 4
    assert high[:, 0].tolist() == [18.0, 7.0, 6.5]
    assert rounded.widen(lower, upper, column, ~wanted)[0].tolist() == lower.tolist()
    many = RoundedOutputs.of(np.repeat([[4.0], [8.0], [12.0], [20.0]], 4, axis=0))
    ends = (one[1, 0] for one in many.widen(lower, upper, column, wanted))
    assert tuple(ends) == (8.0, 4.0)  # no multiple of 4 between 5 and 7
    found = rounded.unrounded(np.array([[8.0], [8.0]]), np.array([[9.5], [11.0]]))
    assert found[:, 0].tolist() == [9.5, 10.0]


def test_a_target_beyond_the_last_step_of_a_rounded_output_is_out_of_reach() -> None:
    def steps(x: Array) -> Array:
        return np.array([0.2 * np.round((x[0] + 0.4 * np.sin(2.0 * x[1])) / 0.2)])  # at most 1.4

    box = bi.Box([0.0] * 2, [1.0] * 2)
    first = bi.Problem(box, steps, bi.Target({"y": 5.0}, tolerance=0.03), outputs=["y"])
    study = bi.Study.create("steps", first, "sobol", seed=0).run(60)
    targets = [study.retarget({"y": value}) for value in (1.39, 1.55, 0.5)]
    every = [Attainability.of(one.problem.statement, one.history, 0) for one in targets]
    inside, outside, between = every
    assert inside.probability > 0.9
    assert outside.probability < 0.05
    assert between.probability == 0.0
    assert between.observed_excess.min() == pytest.approx((0.1 - 0.03) / 0.03)
