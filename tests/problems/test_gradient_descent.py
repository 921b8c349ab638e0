"""Gradients and descents: right, and billed to the call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.spaces.base import Space
from bo_invert.types import Outcome, Query


class Shell(Space):
    """Points are designs, in a gaussian domain."""

    differentiable = True

    def __init__(self, dim: int, radius: float = 10.0) -> None:
        self.domain = gaussian_domain(dim, radius)

    def decode(self, points: Any) -> Any:
        return points

    def decode_tensor(self, points: torch.Tensor) -> torch.Tensor:
        return points


class Noisy(Shell):
    """Every step of a descent sees a shifted design, and pays for length."""

    def augment_tensor(self, designs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return designs + 0.01 * torch.randn(designs.shape[1:], generator=generator)

    def penalty_tensor(self, points: torch.Tensor, designs: torch.Tensor) -> torch.Tensor:
        return 100.0 * (points**2).sum(-1)


class Counted(torch.nn.Module):
    """A function of rows that counts the rows it was asked for, forward and backward."""

    def __init__(self, fn: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.fn, self.values, self.gradients = fn, 0, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.values += len(x)
        if x.requires_grad:
            x = x.clone()
            x.register_hook(self._count)
        return self.fn(x)

    def _count(self, gradient: torch.Tensor) -> None:
        self.gradients += len(gradient)


def bowl(x: torch.Tensor) -> torch.Tensor:
    return ((x - x.new_tensor([0.3, 0.7])) ** 2).sum(-1)


def spent(outcomes: list[Outcome]) -> tuple[int, int]:
    return sum(o.cost.values for o in outcomes), sum(o.cost.gradients for o in outcomes)


BOX = bi.Box([0.0, 0.0], [1.0, 1.0])


@pytest.mark.parametrize(
    "objective", [bi.Minimize(), bi.Target(0.2), bi.Composite(lambda y: (y**3).sum(-1), name="c")]
)
def test_gradient_is_that_of_finite_differences(objective: Any) -> None:
    space = bi.Box([0.5, 0.0], [2.0, 3.0])
    module = Counted(lambda x: torch.stack([x[:, 0].sin() * x[:, 1]], -1))
    problem = bi.Problem(space, module, objective, outputs=1, constraints=["y <= 0.1"])
    point = np.array([0.31, 0.52])
    (outcome,) = problem.evaluate([Query(point, gradient=True)])
    assert outcome.gradient is not None

    def loss(p: np.ndarray) -> float:
        x = space.decode_tensor(torch.from_numpy(p[None]))
        return float(problem.loss_tensor(module.fn(x))[0])

    step = 1e-6 * np.eye(2)
    differences = [(loss(point + h) - loss(point - h)) / 2e-6 for h in step]
    np.testing.assert_allclose(outcome.gradient, differences, rtol=1e-5)
    assert (outcome.cost.values, outcome.cost.gradients) == (1, 1)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("space", [BOX, Shell(2)])
def test_descents_arrive_and_are_billed_to_the_call(optimizer: str, space: Space) -> None:
    module = Counted(bowl)
    problem = bi.Problem(space, module, bi.Minimize())
    starts = space.sample(np.random.default_rng(0), 5)
    queries = [Query(s, descent=bi.Descent(150, optimizer, 0.05)) for s in starts]
    outcomes = problem.evaluate(queries)
    assert spent(outcomes) == (module.values, module.gradients)
    for outcome in outcomes:
        assert outcome.loss is not None
        assert outcome.point is not None
        assert outcome.trace is not None
        assert outcome.loss < 1e-3
        assert outcome.loss == outcome.trace.min()
        assert len(outcome.trace) == outcome.cost.values <= 150
        assert outcome.cost.gradients <= 150
        np.testing.assert_allclose(
            outcome.loss, float(bowl(torch.from_numpy(outcome.point.copy()))), rtol=1e-9
        )


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_steps_are_never_exceeded(optimizer: str, steps: int) -> None:
    module = Counted(lambda x: (x**4).sum(-1))
    problem = bi.Problem(Shell(3), module, bi.Minimize())
    (outcome,) = problem.evaluate([Query([1.0, 2.0, 3.0], descent=bi.Descent(steps, optimizer))])
    assert spent([outcome]) == (module.values, module.gradients)
    assert module.values == steps
    assert module.gradients <= steps


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_stays_inside_the_domain(optimizer: str) -> None:
    far = Counted(lambda x: ((x - 9.0) ** 2).sum(-1).float())
    boxed = bi.Problem(BOX, far, bi.Minimize())
    shelled = bi.Problem(Shell(2, radius=2.0), far, bi.Minimize())
    descent = bi.Descent(60, optimizer, 0.2)
    (corner,), (edge,) = (
        p.evaluate([Query([0.2, 0.9], descent=descent)]) for p in (boxed, shelled)
    )
    np.testing.assert_allclose(corner.point, [1.0, 1.0])
    assert edge.point is not None
    assert np.linalg.norm(edge.point) <= 2.0
    np.testing.assert_allclose(edge.point, [np.sqrt(2)] * 2, atol=0.05)


def test_a_batch_gives_what_single_descents_give() -> None:
    problem = bi.Problem(Noisy(2), Counted(bowl), bi.Minimize())
    queries = [
        Query(p, descent=bi.Descent(9), meta={"seed": 4})
        for p in ([0.0, 1.0], [2.0, -1.0], [0.5, 0.5])
    ]
    together = problem.evaluate(queries)
    alone = [problem.evaluate([query])[0] for query in queries]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a.point, b.point)
        assert a.loss == b.loss


def test_what_is_reported_is_clean_whatever_is_optimised() -> None:
    module = Counted(bowl)
    problem = bi.Problem(Noisy(2), module, bi.Minimize())
    (outcome,) = problem.evaluate([Query([1.0, 1.0], descent=bi.Descent(40), meta={"seed": 1})])
    assert outcome.point is not None
    assert outcome.trace is not None
    assert spent([outcome]) == (module.values, module.gradients) == (40, 39)
    assert np.isnan(outcome.trace[:-1]).all()
    np.testing.assert_allclose(outcome.loss, float(bowl(torch.from_numpy(outcome.point.copy()))))
    assert outcome.trace[-1] == outcome.loss


def test_constraints_rank_before_losses() -> None:
    module = Counted(lambda x: torch.stack([x[:, 0], x[:, 0]], -1))
    problem = bi.Problem(
        Shell(1), module, bi.Minimize("f"), outputs=["f", "g"], constraints=["g >= 0.5"]
    )
    (outcome,) = problem.evaluate([Query([2.0], descent=bi.Descent(80, learning_rate=0.1))])
    assert outcome.violation == 0.0
    assert outcome.loss is not None
    assert outcome.trace is not None
    assert 0.5 <= outcome.loss < 0.8
    assert outcome.loss == np.nanmin(outcome.trace)


class Truth:
    """The bowl with its floor elsewhere, counting."""

    def __init__(self, floor: tuple[float, float] = (0.4, 0.6)) -> None:
        self.floor, self.calls = np.array(floor), 0

    def __call__(self, x: np.ndarray) -> float:
        self.calls += 1
        return float(((np.asarray(x) - self.floor) ** 2).sum())


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_finds_of_a_stand_in_are_verified(optimizer: str) -> None:
    truth, stand_in = Truth(), Counted(bowl)
    problem = bi.Problem(BOX, bi.GradientProxy(truth, stand_in), bi.Minimize())
    queries = [Query(p, descent=bi.Descent(60, optimizer, 0.05)) for p in ([0.1, 0.1], [0.9, 0.2])]
    for outcome in (outcomes := problem.evaluate(queries)):
        np.testing.assert_allclose(outcome.point, [0.3, 0.7], atol=0.02)
        assert outcome.loss == truth(outcome.point)
        assert outcome.trace is not None
        assert np.isnan(outcome.trace[:-1]).all()
        assert outcome.cost.values == len(outcome.trace) <= 60
    assert spent(outcomes) == (stand_in.values + truth.calls - 2, stand_in.gradients)


def test_a_stand_ins_slope_is_taken_at_the_true_outputs() -> None:
    problem = bi.Problem(
        Shell(1),
        bi.GradientProxy(lambda x: float(2 * x[0]), Counted(lambda x: x[:, 0])),
        bi.Target(1.0),
    )
    (outcome,) = problem.evaluate([Query([2.0], gradient=True)])
    np.testing.assert_allclose(outcome.y, [4.0])
    np.testing.assert_allclose(outcome.gradient, [2 * (4.0 - 1.0) * 1.0])
    assert (outcome.cost.values, outcome.cost.gradients) == (1, 1)


def test_a_failing_truth_is_a_failure_where_it_failed() -> None:
    def broken(x: np.ndarray) -> float:
        raise bi.InfeasibleError("no mesh")

    problem = bi.Problem(BOX, bi.GradientProxy(broken, Counted(bowl)), bi.Minimize())
    descent, gradient = problem.evaluate(
        [Query([0.1, 0.1], descent=bi.Descent(60)), Query([0.1, 0.1], gradient=True)]
    )
    assert descent.state is bi.State.INFEASIBLE
    np.testing.assert_allclose(descent.point, [0.3, 0.7], atol=0.05)
    assert (descent.cost.values, descent.cost.gradients) == (60, 59)
    assert gradient.state is bi.State.INFEASIBLE
    assert (gradient.cost.values, gradient.cost.gradients) == (1, 0)


def cliff(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x[:, 0] < 0.4, x[:, 0] / 0.0 * 0.0, x[:, 0])


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_not_a_number_midway_keeps_the_best_so_far(optimizer: str) -> None:
    module = Counted(cliff)
    problem = bi.Problem(BOX, module, bi.Minimize())
    falls, stands, never = problem.evaluate(
        [
            Query(p, descent=bi.Descent(8, optimizer, 0.05))
            for p in ([0.5, 0.5], [0.95, 0.5], [0.1, 0.5])
        ]
    )
    assert falls.loss is not None
    assert 0.4 <= falls.loss <= 0.5
    assert falls.cost.values < 8
    assert stands.loss is not None
    assert never.state is bi.State.FAILED
    assert never.cost.values == 1
    assert spent([falls, stands, never]) == (module.values, module.gradients)


def test_an_exception_costs_neighbours_no_turn() -> None:
    def picky(x: torch.Tensor) -> torch.Tensor:
        if (x[:, 0] < 0.2).any():
            raise bi.InfeasibleError("too small")
        return x[:, 0]

    module = Counted(picky)
    problem = bi.Problem(BOX, module, bi.Minimize())
    queries = [Query(p, descent=bi.Descent(5)) for p in ([0.1, 0.0], [0.9, 0.0])]
    bad, good = problem.evaluate(queries)
    assert bad.state is bi.State.INFEASIBLE
    assert bad.reason == "too small"
    assert bad.cost.values == 2  # once in the batch, once alone
    assert good.loss is not None
    assert good.loss < 0.9
    assert good.cost.values == 5
    assert module.values == bad.cost.values + good.cost.values
    slopes = problem.evaluate([Query(q.point, gradient=True) for q in queries])
    assert [o.state for o in slopes] == [bi.State.INFEASIBLE, bi.State.COMPLETED]
    np.testing.assert_allclose(slopes[1].gradient, [1.0, 0.0])


def test_a_gradient_that_is_not_finite_leaves_the_value() -> None:
    problem = bi.Problem(BOX, Counted(lambda x: x[:, 0].sqrt()), bi.Minimize())
    (outcome,) = problem.evaluate([Query([0.0, 0.5], gradient=True)])
    assert outcome.loss == 0.0
    assert outcome.gradient is None
    assert "gradient" in outcome.reason


def test_an_oracle_of_ones_own_needs_no_placement() -> None:
    class Own(bi.Oracle):
        batched = differentiable = True

        def __call__(self, designs: Any) -> Any:
            return np.asarray(designs)[:, :1]

        def forward(self, designs: torch.Tensor) -> torch.Tensor:
            return designs[:, :1]

    (outcome,) = bi.Problem(BOX, Own(), bi.Minimize()).evaluate([Query([0.4, 0.5], gradient=True)])
    np.testing.assert_array_equal(outcome.gradient, [1.0, 0.0])


def test_refuses_what_it_cannot_do() -> None:
    flat = bi.Problem(BOX, lambda x: 0.0, bi.Minimize(), name="flat")
    with pytest.raises(bi.InvalidInputError, match="'flat' has no gradients"):
        flat.evaluate([Query([0.0, 0.0], gradient=True)])
    problem = bi.Problem(BOX, Counted(bowl), bi.Minimize())
    for descent in (bi.Descent(0), bi.Descent(3, "sgd")):
        with pytest.raises(bi.InvalidInputError, match="descent"):
            problem.evaluate([Query([0.0, 0.0], descent=descent)])


def test_many_points_are_one_program() -> None:
    asked: list[int] = []

    def fn(x: torch.Tensor) -> torch.Tensor:
        asked.append(len(x))
        return (x**2).sum(-1)

    problem = bi.Problem(Shell(4), Counted(fn), bi.Minimize())
    points = np.random.default_rng(0).normal(size=(512, 4))
    outcomes = problem.evaluate([Query(p, descent=bi.Descent(6)) for p in points])
    assert asked == [512] * 6
    assert spent(outcomes) == (512 * 6, 512 * 5)
