"""Every strategy asks only points that satisfy the input constraints and the fixed values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert import registry
from bo_invert.strategies.base import from_spec

SLOW = {"ax", "botorch", "amortized", "pcn"}
"""Strategies that take a second to ask; they see fewer sets and asks."""


def near(values: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray((values["a"] - 0.4) ** 2 + (values["b"] - 0.4) ** 2 < 0.05)


MIXED = {
    "a": bi.Float(0, 1), "b": bi.Float(0, 1), "c": bi.Float(0, 1), "n": bi.Int(0, 4),
    "s": bi.Choice("water", "acid", "oil"), "o": bi.Choice(1, 2, 4, ordered=True),
}  # fmt: skip
CONDITIONAL = {
    "a": bi.Float(0, 1), "b": bi.Float(0, 1), "c": bi.Float(0, 1), "s": bi.Choice("water", "acid"),
    "acid only": bi.When("s", "acid", {"d": bi.Float(0, 2), "n": bi.Int(0, 2)}),
    "some n": bi.When("n", [0, 1], {"e": bi.Float(0, 2)}),
}  # fmt: skip
SETS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "simplex": (dict.fromkeys("abcde", bi.Float(0, 1)), ["a + b + c + d + e == 1"]),
    "sum": (dict.fromkeys("abcde", bi.Float(0, 2)), ["a + b + c + d + e <= 2"]),
    "order": (dict.fromkeys("abcd", bi.Float(-1, 1)), ["a <= b <= c <= d"]),
    "count": (dict.fromkeys("abcdefgh", bi.Float(0, 1)), [bi.AtMost(3, list("abcdefgh"))]),
    "slab": (dict.fromkeys("abcde", bi.Float(0, 1)), ["1.999 <= a + b + c + d + e <= 2"]),
    "mixed": (MIXED, ["a + b + c == 1", "n + 2 a <= 3", "o + n >= 3"]),
    "function": (dict.fromkeys("ab", bi.Float(0, 1)), [bi.Feasible(near)]),
    "conditions": (CONDITIONAL, ["a + b + c == 1", "d <= a", "1.45 <= a + e + n <= 1.5 + n"]),
}  # fmt: skip


def cost(design: dict[str, Any]) -> float:
    return sum(
        (i + 1) * (float(value) - 0.3) ** 2
        for i, value in enumerate(design.values())
        if not isinstance(value, str)
    )


def options(name: str) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name}
    if name in ("gp", "turbo", "spherical", "forest"):
        found["options"] = {"initial": 3}
    return found


def study(name: str, key: str) -> bi.Study:
    parameters, constraints = SETS[key]
    box = bi.Box(parameters, constraints=constraints)
    try:
        return bi.Study.create("s", bi.Problem(box, cost, bi.Minimize()), options(name), seed=1)
    except bi.UnsuitableStrategyError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("key", SETS)
@pytest.mark.parametrize("name", registry.names("strategies"))
def test_asked_points_satisfy_the_constraints(name: str, key: str) -> None:
    if name in SLOW and key != "mixed":
        pytest.skip("slow strategy")
    made = study(name, key)
    domain = made.statement.domain
    for count in (3, 1) if name in SLOW else (4, 1, 1):
        for trial in made.ask(count, budget=12):
            assert domain.satisfied(trial.point[None]).all(), domain.violated(trial.point)
            made.tell(trial, cost(trial.design))
    assert len(made.trials) > 2


@pytest.mark.parametrize("name", sorted({*registry.names("strategies")} - SLOW))
def test_fixed_values_hold_in_one_ask(name: str) -> None:
    made = study(name, "mixed")
    for number in range(2):
        fixed = {} if number else {"s": "acid", "n": 2}
        for trial in made.ask(2, fixed=fixed):
            design: Any = trial.design
            assert all(design[name] == value for name, value in fixed.items())
            assert made.statement.domain.satisfied(trial.point[None]).all()
            made.tell(trial, cost(design))


class Valley(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x - x.new_tensor([0.9, 0.6, 0.1])) ** 2).sum(-1, keepdim=True)


@pytest.mark.parametrize("name", ["gradient", "gradient_gp", "polish"])
@pytest.mark.parametrize(
    ("constraint", "loss"),
    [("x0 + x1 + x2 == 1", 0.12), ("x0 <= x1 <= x2", 0.3267), ("at most 1 of x0, x1, x2", 0.37)],
)
def test_descents_stay_in_the_set(name: str, constraint: str, loss: float) -> None:
    box = bi.Box(np.zeros(3), np.ones(3), constraints=constraint)
    problem = bi.Problem(box, bi.TorchModule(Valley(), outputs=["y"]), bi.Minimize())
    made = bi.Study.create("s", problem, name, seed=1).run(24)
    ends = [t.point if t.outcome is None or t.outcome.point is None else t.outcome.point
            for t in made.trials]  # fmt: skip
    assert box.domain.satisfied(np.array(ends)).all()
    # The minimum on the boundary, from the Lagrange conditions.
    assert made.best is not None
    assert made.best.loss == pytest.approx(loss, abs=0.06)


@pytest.mark.parametrize("name", ["gp", "pcn"])
def test_the_optimum_on_the_boundary_is_found(name: str) -> None:
    box = bi.Box(dict.fromkeys("abcd", bi.Float(0, 1)), constraints="a + b + c + d == 1")
    target = np.array([0.7, 0.5, 0.2, -0.3])

    def mixture(design: dict[str, float]) -> float:
        return float(((np.array([*design.values()]) - target) ** 2).sum())

    made = bi.Study.create("s", bi.Problem(box, mixture, bi.Minimize()), name, seed=0).run(20)
    best = np.array([17 / 30, 11 / 30, 1 / 15, 0.0])  # projection of the target onto the simplex
    assert made.best is not None
    assert made.best.loss == pytest.approx(((best - target) ** 2).sum(), abs=1e-5)


def test_strategies_of_specs_are_known() -> None:
    assert all(from_spec(options(name)).name == name for name in registry.names("strategies"))
