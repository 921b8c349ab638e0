"""Models behind predictions: calibration, mixtures, warps with tails, probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.models.gp.output_warp import TailedWarp, Warp
from bo_invert.models.prediction.calibration import (
    Calibration,
    Forecasts,
    interval_score,
    weighted_quantile,
)
from bo_invert.models.prediction.fit import fit_predictor
from bo_invert.models.prediction.remaining_gain import remaining_gain

RNG = np.random.default_rng(0)


def fitted(problem: bi.Problem, n: int = 30, noisy: bool = False, seed: int = 0):
    study = bi.Study.create("fitted", problem, "random", seed).run(n, stop_when_hit=False)
    return fit_predictor(study.statement, study.history, noisy=noisy), study.history


def waves(x: np.ndarray) -> float:
    return float(np.sin(3.0 * x[0]) + x[1] * x[2])


def cube(oracle, objective, d: int = 3, **options) -> bi.Problem:
    return bi.Problem(bi.Box(np.zeros(d), np.ones(d)), oracle, objective, **options)


def test_weighted_quantile_of_equal_and_of_single_weights() -> None:
    values = torch.tensor([3.0, 1.0, 2.0, 4.0])
    weights = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 5.0, 0.0]])
    assert weighted_quantile(values, weights, 0.5).tolist() == [2.0, 2.0]
    assert weighted_quantile(values, weights, 0.99).tolist() == [4.0, 2.0]


def test_factors_follow_the_errors_of_forecasts_with_the_same_deviation() -> None:
    # Forecasts with a small deviation are right, those with a large one miss by four deviations.
    std = torch.cat([torch.full((200, 1), 0.01), torch.full((200, 1), 1.0)]).double()
    normals = torch.as_tensor(RNG.normal(size=(400, 1)))
    values = std * normals * torch.where(std > 0.1, 4.0, 1.0)
    made = Calibration.of(Forecasts(torch.zeros_like(std), std, values, values.expand(2, -1, -1)))
    low, high, beyond = made.factor(torch.tensor([[0.01], [1.0], [100.0]]).double())[:, 0].tolist()
    assert 0.9 <= low < 1.2
    assert 3.2 < high < 5.0
    assert beyond == high


def test_interval_score_prefers_narrow_intervals_that_hold() -> None:
    values = torch.as_tensor(RNG.normal(size=(100, 1)))

    def score(width: float) -> float:
        ends = torch.stack([torch.full_like(values, -width), torch.full_like(values, width)])
        ones = torch.ones_like(values)
        return interval_score(Forecasts(0.0 * ones, ones, values, ends), values)

    assert score(1.7) < min(score(5.0), score(0.1))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_tailed_warp_is_the_warp_between_observations_and_a_line_beyond(sign: float) -> None:
    values = sign * torch.tensor([[0.0], [1.0], [9.0]]).double()
    warp = Warp(torch.tensor([sign]).double(), torch.zeros(1).double(), torch.ones(1).double())
    tailed = TailedWarp.of(warp, values)
    assert torch.allclose(tailed(values), warp(values))
    assert torch.allclose(tailed.inverse(warp(values)), values)
    beyond = sign * torch.tensor([[10.0], [30.0], [-2.0]]).double()
    assert torch.allclose(tailed.inverse(tailed(beyond)), beyond)
    steps = tailed(sign * torch.tensor([[29.0], [39.0], [49.0]]).double())
    assert torch.allclose(steps[1] - steps[0], steps[2] - steps[1])


def test_intervals_cover_a_smooth_function_and_shrink_at_observations() -> None:
    predictor, history = fitted(cube(waves, bi.Minimize()), 30)
    points = np.random.default_rng(1).random((200, 3))
    found = predictor.predict(points).outputs
    y = np.array([waves(x) for x in points])
    inside = (found.quantiles[0, :, 0] <= y) & (y <= found.quantiles[2, :, 0])
    assert inside.mean() >= 0.8
    known = predictor.predict(history.points).outputs
    assert np.abs(known.mean - history.y).max() < 0.05 * history.y.std()
    assert known.std.mean() < found.std.mean()


def test_a_loss_of_one_output_has_its_distribution() -> None:
    predictor, _ = fitted(cube(waves, bi.Maximize()), 20)
    found = predictor.predict(RNG.random((5, 3)))
    assert np.allclose(found.loss.mean, -found.outputs.mean)
    assert np.allclose(found.loss.quantiles, -found.outputs.quantiles[::-1])
    assert np.allclose(found.loss.std, found.outputs.std)


def test_the_loss_of_a_target_comes_from_samples_of_the_outputs() -> None:
    problem = cube(lambda x: [waves(x), float(x[0])], bi.Target([1.0, 0.5], tolerance=0.2))
    predictor, _ = fitted(problem, 25)
    found = predictor.predict(RNG.random((50, 3)))
    low, middle, high = found.loss.quantiles[..., 0]
    assert (low >= 0.0).all()
    assert ((low <= middle) & (middle <= high)).all()
    # E |y - t|^2 = |E y - t|^2 + Var y
    moments = (found.outputs.mean - [1.0, 0.5]) ** 2 + found.outputs.std**2
    assert np.allclose(found.loss.mean[:, 0], moments.mean(1), rtol=0.1, atol=1e-3)
    assert found.hit is not None
    assert ((found.hit >= 0.0) & (found.hit <= 1.0)).all()
    certain = (high < 0.5 * 0.2**2) & (found.outputs.std.max(1) < 0.02)
    assert (found.hit[certain] > 0.8).all()


def test_many_outputs_are_sampled_through_their_components() -> None:
    times = np.linspace(0.0, 1.0, 40)
    curve = bi.Problem(
        bi.Box([0.0, 0.0], [1.0, 1.0]),
        lambda x: np.sin(6.0 * times * (0.5 + x[0])) + x[1],
        bi.Target(np.sin(6.0 * times)),
        outputs=[f"t{i}" for i in range(40)],
    )
    predictor, history = fitted(curve, 25)
    points = np.random.default_rng(3).random((100, 2))
    losses = np.array([outcome.loss for outcome in curve.evaluate([bi.Query(p) for p in points])])
    low, _, high = predictor.predict(points).loss.quantiles[..., 0]
    assert ((low <= losses) & (losses <= high)).mean() > 0.7
    assert history.y.shape == (25, 40)


def test_unused_outputs_are_predicted_and_do_not_change_the_loss() -> None:
    two = cube(lambda x: [waves(x), float(x[2] ** 2)], bi.Minimize("a"), outputs=["a", "b"])
    one = cube(waves, bi.Minimize("a"), outputs=["a"])
    points = RNG.random((6, 3))
    both, alone = (fitted(problem, 20)[0].predict(points) for problem in (two, one))
    assert np.allclose(both.loss.quantiles, alone.loss.quantiles)
    assert np.allclose(both.outputs.mean[:, 1], points[:, 2] ** 2, atol=0.1)


def test_constraints_and_failures_give_the_probability_of_feasibility() -> None:
    def oracle(x: np.ndarray) -> dict[str, float]:
        if x[0] > 0.7:
            raise bi.InfeasibleError("too far")
        return {"cost": float(x[1]), "strength": float(x[1] + x[2])}

    problem = cube(oracle, bi.Minimize("cost"), outputs=["cost", "strength"],
                   constraints=["strength >= 1"])  # fmt: skip
    predictor, _ = fitted(problem, 60)
    good, broken, failed = predictor.predict(
        np.array([[0.2, 0.9, 0.9], [0.2, 0.1, 0.1], [0.95, 0.9, 0.9]])
    ).feasible
    assert good > 0.8
    assert broken < 0.05
    assert failed < 0.5 * good


def test_a_step_function_is_predicted_with_a_forest() -> None:
    problem = cube(lambda x: float(np.floor(5.0 * x[0]) + np.floor(4.0 * x[1])), bi.Minimize(), d=6)
    predictor, _ = fitted(problem, 80)
    assert "random forest" in predictor.about


def test_a_cluster_of_a_smooth_function_is_predicted_without_a_forest() -> None:
    """Few isolated points, which a process forecasts badly, must not decide."""

    def bowl(x: np.ndarray) -> float:
        return float(((x + 0.2) ** 2).sum())

    rng = np.random.default_rng(1)
    isolated = np.array([[0.9, 0.8], [0.1, 0.95], [0.95, 0.1], [0.7, 0.2]])
    points = np.vstack([isolated, 0.2 + 0.05 * rng.random((26, 2))])
    study = bi.Study.create("cluster", cube(bowl, bi.Minimize(), 2), "random")
    study.add(points, [bowl(point) for point in points])
    predictor = fit_predictor(study.statement, study.history, noisy=False)
    near = 0.2 + 0.05 * rng.random((50, 2))
    errors = study.predict(near).loss.mean - [bowl(point) for point in near]
    assert "process" in predictor.about
    assert np.abs(errors).max() < 1e-3  # a forest errs by 1e-2


def test_repeated_noise_is_in_outcomes_and_not_in_expectations() -> None:
    rng = np.random.default_rng(5)
    problem = cube(lambda x: float(x.sum() + 0.5 * rng.normal()), bi.Minimize())
    predictor, _ = fitted(problem, 40, noisy=True)
    points = RNG.random((20, 3))
    single, expected = (predictor.predict(points, noise=noise).outputs for noise in (True, False))
    assert np.allclose(single.quantiles[1], expected.quantiles[1])
    assert (single.std > 0.3).all()
    assert (expected.std < single.std).all()


def test_a_composite_without_torch_is_modelled_by_its_loss() -> None:
    def loss(y):
        return float(np.max(np.asarray(y))) if np.ndim(y) == 1 else np.max(np.asarray(y), axis=-1)

    problem = cube(lambda x: [float(x[0]), float(x[1])], bi.Composite(loss), outputs=["a", "b"])
    predictor, _ = fitted(problem, 25)
    points = RNG.random((10, 3))
    found = predictor.predict(points)
    assert np.allclose(found.loss.mean[:, 0], points[:, :2].max(1), atol=0.25)
    assert np.allclose(found.outputs.mean, points[:, :2], atol=0.1)


def test_one_observation_is_too_few() -> None:
    study = bi.Study.create("one", cube(waves, bi.Minimize()), "random").run(1)
    with pytest.raises(InvalidInputError, match="at least 2 observations, got 1"):
        fit_predictor(study.statement, study.history, noisy=False)


def test_two_and_equal_observations_are_enough() -> None:
    for oracle in (waves, lambda x: 1.0):
        predictor, _ = fitted(cube(oracle, bi.Minimize()), 2)
        found = predictor.predict(RNG.random((4, 3)))
        assert np.isfinite(found.outputs.quantiles).all()
        assert (found.outputs.std > 0.0).all()


def test_the_remaining_gain_is_large_before_and_small_after_convergence() -> None:
    problem = cube(lambda x: float(((x - 0.3) ** 2).sum()), bi.Minimize())
    study = bi.Study.create("bowl", problem, "gp").run(8)
    early = remaining_gain(
        fit_predictor(study.statement, study.history, noisy=False), study.history, noisy=False
    )
    study.run(30)
    history = History(study.trials)
    late = remaining_gain(
        fit_predictor(study.statement, history, noisy=False), history, noisy=False
    )
    assert 0.0 <= late.expected < 1e-3
    assert 0.0 <= late.bound < 1e-3
    assert late.bound <= early.bound
    assert 0.0 <= late.probability <= 1.0
