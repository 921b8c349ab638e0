"""Batches of descents: independence of rows, bills of rows that end, and no wait for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import bo_invert as bi
from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.domains.reference_measure import Reference
from bo_invert.models.optim.batched_adam import BatchedAdam
from bo_invert.models.optim.batched_lbfgs import BatchedLBFGS
from bo_invert.problems.feasible_region import feasible_region, project
from bo_invert.problems.loss_gradient import LossGradient
from bo_invert.spaces.base import Space
from bo_invert.types import Outcome, Query

BOTH = pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])


class Function(nn.Module):
    """Function of rows that records the number of rows of each call."""

    def __init__(self, fn: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fn, self.calls = fn, list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(len(x))
        return self.fn(x)


def ripples(x: Tensor) -> Tensor:
    return ((x - 0.6) ** 2 + 0.02 * (25.0 * x).cos()).sum(-1)


def mixture(dim: int = 3) -> Reference:
    """Return two unit normals, with densities calibrated on draws."""
    means = np.zeros((2, dim))
    means[:, 0] = (-2.5, 2.5)
    plain = Reference(np.array([0.4, 0.6]), means, np.stack([np.eye(dim)] * 2), np.zeros(1))
    draws = plain.sample(np.random.default_rng(0), 2000)
    return Reference(plain.weights, means, plain.factors, np.sort(plain.log_density(draws)))


class Plausible(Space):
    """Points are designs, in a latent with a mixture as its prior."""

    differentiable = True

    def __init__(self, dim: int = 3) -> None:
        self.domain = gaussian_domain(dim, 6.0, mixture(dim))

    def decode(self, points: Any) -> Any:
        return points

    def decode_tensor(self, points: Tensor) -> Tensor:
        return points


BOX = bi.Box([0.0] * 3, [1.0] * 3)
STARTS = np.random.default_rng(1).uniform(0.05, 0.95, (7, 3))


def descents(optimizer: str, steps: list[int], points: Any = STARTS) -> list[Query]:
    return [
        Query(p, descent=bi.Descent(k, optimizer, 0.02 + 0.01 * (i % 3)), meta={"seed": i})
        for i, (p, k) in enumerate(zip(points, steps, strict=True))
    ]


def same(a: Outcome, b: Outcome) -> None:
    assert (a.state, a.loss, a.cost.values, a.cost.gradients) == (
        b.state, b.loss, b.cost.values, b.cost.gradients,
    )  # fmt: skip
    np.testing.assert_array_equal(a.point, b.point)
    np.testing.assert_array_equal(a.trace, b.trace)


@BOTH
def test_rows_do_not_depend_on_their_batch(optimizer: str) -> None:
    """Steps, learning rates and seeds differ, and some rows end early; bits do not change."""
    problem = bi.Problem(BOX, Function(ripples), bi.Minimize())
    queries = descents(optimizer, [30, 5, 80, 17, 30, 1, 2])
    together = problem.evaluate(queries)
    for query, outcome in zip(queries, together, strict=True):
        same(outcome, problem.evaluate([query])[0])
    for query, outcome in zip(queries[::-2], problem.evaluate(queries[::-2]), strict=True):
        same(outcome, together[queries.index(query)])


@BOTH
def test_rows_of_a_network_agree_up_to_rounding(optimizer: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1)).double()
    problem = bi.Problem(Plausible(), network, bi.Minimize(), realism=0.9)
    points = problem.domain.sample(np.random.default_rng(0), 6)
    queries = descents(optimizer, [12] * 6, points)
    for query, outcome in zip(queries, problem.evaluate(queries), strict=True):
        np.testing.assert_allclose(outcome.point, problem.evaluate([query])[0].point, atol=1e-8)
        assert problem.domain.plausibility(np.array([outcome.point]))[0] >= 0.1 - 1e-9


@BOTH
def test_descents_of_one_call_are_one_batch(optimizer: str) -> None:
    module = Function(ripples)
    problem = bi.Problem(BOX, module, bi.Minimize())
    outcomes = problem.evaluate(descents(optimizer, [6] * 7))
    assert module.calls == [7] * 6
    assert [o.cost.values for o in outcomes] == [6] * 7


def test_ended_rows_are_neither_evaluated_nor_billed() -> None:
    """Rows of L-BFGS end at different steps in a bowl."""
    module = Function(lambda x: ((x - 0.5) ** 2 * x.new_tensor([1.0, 30.0, 400.0])).sum(-1))
    problem = bi.Problem(BOX, module, bi.Minimize())
    outcomes = problem.evaluate(descents("lbfgs", [200] * 7))
    values = [o.cost.values for o in outcomes]
    assert len(set(values)) > 1
    assert max(values) < 200
    assert sum(values) == sum(module.calls)
    assert all(o.loss is not None and o.loss < 1e-12 for o in outcomes)


@BOTH
def test_a_row_that_is_not_finite_costs_only_itself(optimizer: str) -> None:
    module = Function(lambda x: torch.where(x[:, :1] < 0.04, torch.nan, ripples(x)[:, None]))
    problem = bi.Problem(BOX, module, bi.Minimize())
    queries = descents(optimizer, [20] * 7)
    bad = Query([0.01, 0.5, 0.5], descent=queries[0].descent)
    outcomes = problem.evaluate([*queries[:3], bad, *queries[3:]])
    lost = outcomes.pop(3)
    assert lost.state is bi.State.FAILED
    assert lost.cost.values == 1
    for query, outcome in zip(queries, outcomes, strict=True):
        same(outcome, problem.evaluate([query])[0])


def test_an_exception_ends_one_descent_of_lbfgs() -> None:
    def picky(x: Tensor) -> Tensor:
        if (x[:, 0] < 0.04).any():
            raise bi.InfeasibleError("too small")
        return ripples(x)

    module = Function(picky)
    problem = bi.Problem(BOX, module, bi.Minimize())
    queries = descents("lbfgs", [9] * 3, [[0.01, 0.5, 0.5], *STARTS[:2]])
    bad, *good = problem.evaluate(queries)
    assert bad.state is bi.State.INFEASIBLE
    assert bad.cost.values == 2  # in the batch and alone
    for query, outcome in zip(queries[1:], good, strict=True):
        # One value less for the search, since the failed batch is billed to all.
        assert outcome.cost.values == 9
        assert outcome.loss == pytest.approx(
            problem.evaluate([Query(query.point, descent=bi.Descent(8, "lbfgs"))])[0].loss
        )


def test_an_interrupt_ends_all() -> None:
    def stop(x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    problem = bi.Problem(BOX, Function(stop), bi.Minimize())
    with pytest.raises(KeyboardInterrupt):
        problem.evaluate(descents("adam", [5] * 7))


def test_objectives_that_raise_end_their_descent() -> None:
    def loss(y: Any) -> Any:
        if isinstance(y, np.ndarray) and (y < 0.3).any():
            raise ValueError("below")
        return (y**2).sum(-1)

    problem = bi.Problem(BOX, Function(lambda x: x), bi.Composite(loss, name="c"), outputs=3)
    low, high = problem.evaluate(descents("adam", [4] * 2, [[0.1] * 3, [0.9] * 3]))
    assert low.state is bi.State.FAILED
    assert "below" in low.reason
    assert high.loss is not None


def test_projection_is_that_of_the_prior() -> None:
    domain = gaussian_domain(3, 6.0, mixture(), floor=0.1)
    points = np.random.default_rng(0).normal(size=(200, 3)) * 3.0
    for dtype in (torch.float32, torch.float64):
        moved = project(domain, torch.from_numpy(points).to(dtype)).double().numpy()
        assert (domain.plausibility(moved) >= 0.1).all()
        expected = domain.project(points)
        inside = domain.plausibility(points) >= 0.11
        np.testing.assert_allclose(moved[inside], points[inside], atol=1e-6)
        # Both methods move along the gradient; they differ in the depth inside the edge.
        near = np.linalg.norm(expected - points, axis=1) < 1.0
        np.testing.assert_allclose(moved[near], expected[near], atol=0.05)


class _Transfers(TorchDispatchMode):
    """Record operators that copy between devices or read a tensor on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        flat = [a for a in tree_leaves((args, kwargs, result)) if isinstance(a, Tensor)]
        # Numbers of the host may be arguments of an operator; arrays may not.
        arrays = {a.device.type for a in flat if a.ndim}
        if len(arrays) > 1 or "local_scalar" in str(func) or "lift_fresh" in str(func):
            self.found.append(str(func))
        return result


SPACES: list[Callable[[], Space]] = [
    lambda: BOX,
    *(lambda kind=kind: bi.Pixels((1, 3), kind, tv=0.1) for kind in ("fourier", "laplacian")),
    lambda: bi.Latent(nn.Linear(3, 5), 3),
    lambda: bi.Latent(nn.Linear(3, 5), 3, codes=np.random.default_rng(0).normal(size=(300, 3))),
]


@BOTH
@pytest.mark.parametrize("make", SPACES)
@pytest.mark.parametrize(
    "objective", [bi.Minimize("a"), bi.Target({"a": 1.0, "b": 2.0}), bi.Target({"b": 0.0})]
)
def test_a_step_stays_on_the_device(
    make: Callable[[], Space], objective: Any, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step on a device neither waits for it nor copies to it. "meta" stands for any device."""
    space = make()
    size = np.asarray(space.decode(space.sample(np.random.default_rng(0), 1))).size
    regressor = nn.Sequential(nn.Flatten(), nn.Linear(size, 2)).to("meta")
    problem = bi.Problem(space, regressor, objective, outputs=["a", "b"], constraints=["b <= 9"])
    points = torch.empty(4, space.domain.dim, device="meta")
    if isinstance(space, bi.Latent):
        decoder: Any = space._decoder
        decoder.module.to("meta")
        decoder.device = torch.device("meta")
    region = feasible_region(problem.domain, points)
    assert problem.oracle is not None
    with problem.oracle.forwarding() as forward:
        evaluate = LossGradient(problem, forward)
        state: Any = (
            BatchedAdam(points, region, points.new_full((1, 4, 1), 0.1))
            if optimizer == "adam"
            else BatchedLBFGS(points, region)
        )
        for step in range(4):
            with _Transfers() as transfers, monkeypatch.context() as patched:
                if step:  # the first step copies constants
                    patched.setattr(Tensor, "new_tensor", None)
                result = evaluate(state.points, regular=True)
                state.update(result.total, result.gradient)
            if step:
                assert transfers.found == []
    assert state.points.device.type == "meta"
    assert state.points.shape == points.shape
