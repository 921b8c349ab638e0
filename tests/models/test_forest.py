"""Random forest: left-out means, expected improvement, inputs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.models.acquisition.forest_ei import log_expected_improvement
from bo_invert.models.forest import Forest, fit_forest, forest_inputs
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.objectives.outcome_constraint import OutcomeConstraint
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.single_output import Minimize
from bo_invert.spaces.box import Box
from bo_invert.types import Array


def data(n: int = 40, outputs: int = 2) -> tuple[Array, Array]:
    x = np.random.default_rng(0).random((n, 3))
    y = np.floor(4.0 * x[:, :1]) + np.floor(3.0 * x[:, 1:2])
    return x, np.hstack([y, 100.0 * y + 7.0])[:, :outputs]


@pytest.mark.parametrize("outputs", [1, 2])
def test_trees_return_observed_values_in_their_units(outputs: int) -> None:
    x, y = data(outputs=outputs)
    forest = fit_forest(x, y, seed=1)
    samples = forest.samples(x)
    assert samples.shape == (50, 40, outputs)
    inside = ~forest.out_of_bag
    np.testing.assert_allclose(
        samples[inside], np.broadcast_to(y, samples.shape)[inside], atol=1e-4
    )


def test_left_out_means_do_not_know_the_observation() -> None:
    """An outlier that no other observation suggests is not predicted by the trees without it."""
    x, y = data()
    y = y.copy()
    y[7] = 1e3
    forest = fit_forest(x, y, seed=1)
    expected = [
        forest.samples(x[i : i + 1])[forest.out_of_bag[:, i], 0].mean(axis=0) for i in range(len(x))
    ]
    np.testing.assert_allclose(forest.left_out_mean(), expected)
    assert forest.left_out_mean()[7, 0] < 100.0 < forest.samples(x).mean(axis=0)[7, 0]


def test_an_observation_in_every_sample_gets_the_mean_of_all_trees() -> None:
    x, y = data()
    forest = fit_forest(x, y, seed=1)
    everywhere = forest.out_of_bag.copy()
    everywhere[:, 0] = False
    changed = Forest(forest.trees, forest.offset, forest.spread, forest.observed, everywhere)
    np.testing.assert_allclose(changed.left_out_mean()[0], forest.samples(x).mean(axis=0)[0])


def modelled(bound: float | None, y: Array) -> ModelledOutputs:
    outputs = ("f", "g")
    constraints = () if bound is None else (OutcomeConstraint("g", "<=", bound).bind(outputs),)
    domain = Box([0.0] * 3, [1.0] * 3).domain
    statement = ProblemStatement(
        "steps", domain, outputs, Minimize("f").bind(outputs), constraints=constraints
    )
    return ModelledOutputs(statement, y, y[:, 0])


@pytest.mark.parametrize("bound", [None, 300.0])
def test_expected_improvement_is_that_of_the_moments(bound: float | None) -> None:
    x, y = data()
    outputs, points = modelled(bound, y), np.random.default_rng(2).random((20, 3))
    forest = fit_forest(x, outputs.values, seed=1)
    samples = forest.samples(points)
    mean, std = samples.mean(axis=0), samples.std(axis=0)
    feasible = np.ones(len(y), bool) if bound is None else y[:, 1] <= bound
    best = y[feasible, 0].min()
    u = (best - mean[:, 0]) / std[:, 0]
    expected = np.log(std[:, 0] * (norm.pdf(u) + u * norm.cdf(u)))
    if bound is not None:
        expected += norm.logcdf((bound - mean[:, 1]) / std[:, 1])
    found = log_expected_improvement(forest, outputs)(points)
    wide = std[:, 0] > 0.05  # elsewhere the least standard deviation counts
    np.testing.assert_allclose(found[wide], expected[wide], rtol=1e-3, atol=1e-3)


def test_without_a_feasible_observation_the_violation_is_reduced() -> None:
    x, y = data()
    found = log_expected_improvement(fit_forest(x, y, seed=1), modelled(-1.0, y))(x)
    assert y[found.argmax(), 1] == y[:, 1].min()


def test_features_of_designs_are_the_inputs() -> None:
    domain = gaussian_domain(2, radius=4.0)
    objective = Minimize("f").bind(("f",))
    rows = np.array([[np.nan, np.inf, 2.0], [0.0, -np.inf, 1e300]])
    statement = ProblemStatement("s", domain, ("f",), objective, features=lambda z: rows[: len(z)])
    inputs = forest_inputs(statement)
    assert np.isfinite(inputs(np.zeros((2, 2)))).all()
    assert inputs(np.empty((0, 2))).size == 0
    plain = forest_inputs(ProblemStatement("s", domain, ("f",), objective))
    np.testing.assert_allclose(plain(np.zeros((1, 2))), 0.5)
