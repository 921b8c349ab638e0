from __future__ import annotations

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.domains.box_domain import BoxDomain
from bo_invert.errors import UnsuitableStrategyError
from bo_invert.history import History
from bo_invert.models.gp.derivative_gp import fit_derivative_gp
from bo_invert.models.model_comparison import derivatives_predict
from bo_invert.models.observed_derivatives import observed_derivatives
from bo_invert.strategies.basins import KEY, Basin, basin_starts, running_basin
from bo_invert.strategies.gradient_gp import GradientGP
from bo_invert.types import Outcome, Query, State, Trial


class Wells(torch.nn.Module):
    """Two wells of the same width in d coordinates; the one at 0.8 is deeper."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wells = [(0.25, 0.8), (0.8, 1.0)]
        depths = [w * torch.exp(-((x - at) ** 2).sum(1) / 0.08) for at, w in wells]
        return -(depths[0] + depths[1])[:, None]


def problem(d: int = 3, **options: object) -> bi.Problem:
    return bi.Problem(bi.Box([0.0] * d, [1.0] * d), Wells(), bi.Minimize(), name="wells", **options)


def trial(number: int, point: list[float], loss: float, **meta: int) -> Trial:
    query = Query(np.array(point), origin="gradient_gp", meta=meta)
    return Trial(number, query, State.COMPLETED, outcome=Outcome(State.COMPLETED, [loss], loss))


def test_the_deeper_well_is_found_with_few_gradients() -> None:
    study = bi.Study.create("s", problem(2), "gradient_gp", seed=0).run(24)
    assert study.best.loss < -0.99


def test_value_and_gradient_are_billed_and_the_budget_holds() -> None:
    study = bi.Study.create("s", problem(2), "gradient_gp", seed=0).run(11)
    assert study.spent.values == 6
    assert study.spent.gradients == 5  # the last call buys a value only
    assert not study.trials[-1].query.gradient


def test_a_batch_has_different_points() -> None:
    study = bi.Study.create("s", problem(2), "gradient_gp", seed=1).run(16, batch=4)
    points = np.array([t.point for t in study.trials])
    assert len(np.unique(points.round(6), axis=0)) == len(points) == 8


def test_without_gradients_or_with_constraints_it_is_refused() -> None:
    plain = bi.Problem(bi.Box([0.0], [1.0]), lambda x: float(x[0]), bi.Minimize(), name="plain")
    with pytest.raises(UnsuitableStrategyError, match="needs gradients"):
        bi.Study.create("s", plain, GradientGP())
    constrained = problem(constraints=["y <= 1"], outputs=["y"])
    with pytest.raises(UnsuitableStrategyError, match="no outcome constraints"):
        bi.Study.create("s", constrained, GradientGP())


def test_a_basin_grows_while_it_gains_and_shrinks_otherwise() -> None:
    start = Basin(0, np.zeros(2), (1.0,))
    better = start.after(trial(1, [0.1, 0.0], 0.5))
    assert better.reach > start.reach
    assert better.centre.tolist() == [0.1, 0.0]
    worse = better.after(trial(2, [0.2, 0.0], 0.7))
    assert worse.reach < better.reach
    assert worse.centre.tolist() == [0.1, 0.0]
    assert not worse.over(best=0.0, scale=1.0)
    idle = worse
    for number in range(3, 6):
        idle = idle.after(trial(number, [0.3, 0.0], 0.9))
    assert idle.over(best=0.0, scale=1.0)


def test_basins_have_the_turn_after_queries_without_a_gain() -> None:
    trials = [trial(0, [0.1, 0.1], 1.0, design=0), trial(1, [0.5, 0.5], 0.0)]
    trials += [trial(i, [0.5, 0.5 + 0.001 * i], 1e-4) for i in range(2, 6)]
    assert running_basin(History(trials), "gradient_gp", 4) == (True, None)
    assert running_basin(History(trials), "gradient_gp", 5) == (False, None)
    trials.append(trial(6, [0.12, 0.1], 0.8, **{KEY: 0}))
    turn, basin = running_basin(History(trials), "gradient_gp", 4)
    assert turn
    assert basin is not None
    assert (basin.start, basin.losses) == (0, (1.0, 0.8))
    trials.append(trial(7, [0.2, 0.1], -1.0, **{KEY: 0}))
    assert running_basin(History(trials), "gradient_gp", 4) == (False, None)


def test_a_basin_begins_at_its_best_point_once() -> None:
    places = [[0.5, 0.5], [0.52, 0.5], [0.1, 0.1], [0.12, 0.1], [0.9, 0.1]]
    trials = [trial(i, place, float(i)) for i, place in enumerate(places)]
    domain = BoxDomain("box", 2, {})
    assert basin_starts(History(trials), domain, 9).tolist() == [2, 4]
    trials.append(trial(5, [0.1, 0.15], 9.0, **{KEY: 2}))
    assert basin_starts(History(trials), domain, 9).tolist() == [4]


@pytest.mark.parametrize(("ripples", "better"), [(0.0, True), (0.3, False)])
def test_derivatives_of_ripples_do_not_improve_left_out_predictions(
    ripples: float, better: bool
) -> None:
    points = torch.rand(24, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    points.requires_grad_()
    losses = torch.sin(3.0 * points).sum(1) + ripples * torch.sin(40.0 * points).sum(1)
    (gradients,) = torch.autograd.grad(losses.sum(), points)
    trials = [
        Trial(
            number, Query(point, gradient=True), State.COMPLETED,
            outcome=Outcome(State.COMPLETED, [loss], loss, gradient=gradient),
        )
        for number, (point, loss, gradient) in enumerate(
            zip(points.detach().numpy(), losses.tolist(), gradients.numpy(), strict=True)
        )
    ]  # fmt: skip
    statement, history = problem(3).statement, History(trials)
    memo = fit_derivative_gp(observed_derivatives(statement, history))[1]
    assert derivatives_predict(statement, history, memo) == better
