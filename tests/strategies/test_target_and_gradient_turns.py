from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from bo_invert.domains.box_domain import BoxDomain
from bo_invert.history import History
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.single_output import Minimize
from bo_invert.objectives.target import Target
from bo_invert.strategies.target_and_gradient_turns import (
    descents_gain,
    gradients_gain,
    target_turn,
)
from bo_invert.types import Array, Descent, Outcome, Query, State, Trial


def log(losses: Sequence[float], origins: Sequence[str]) -> History:
    points = np.random.default_rng(0).random((len(losses), 3))
    return History([
        Trial(
            i, query(point, origin), State.COMPLETED,
            outcome=Outcome(State.COMPLETED, [loss], loss),
        )
        for i, (point, loss, origin) in enumerate(zip(points, losses, origins, strict=True))
    ])  # fmt: skip


def query(point: Array, origin: str) -> Query:
    """A query of a strategy; ``"start"`` is a start of ``least_squares``."""
    if origin == "start":
        return Query(point, origin="least_squares", meta={"start": 0})
    return Query(point, origin=origin)


def statement(outputs: int = 1, target: bool = True) -> ProblemStatement:
    names = tuple(f"y{i}" for i in range(outputs))
    objective = Target([5.0] * outputs) if target else Minimize()
    return ProblemStatement("s", BoxDomain("box", 3, {}), names, objective.bind(names))


def turn(losses: Sequence[float], origins: str | Sequence[str], budget: int | None = None) -> str:
    named = [origins] * len(losses) if isinstance(origins, str) else origins
    return target_turn(statement(), log(losses, named), budget)


def test_the_model_begins_and_goes_on_while_it_gains() -> None:
    assert turn([], "gp") == "gp"
    assert turn([0.8**i for i in range(20)], "gp") == "gp"


def test_least_squares_follow_when_the_model_no_longer_gains() -> None:
    assert turn([1.0] * 8, "gp") == "gp"
    assert turn([1.0] * 9, "gp") == "least_squares"


def test_near_the_target_they_follow_at_once() -> None:
    assert turn([1.0, 1.0, 1.0, 1e-5], "gp") == "gp"
    assert turn([1.0, 1.0, 1.0, 1e-5, 1e-5], "gp") == "least_squares"


@pytest.mark.parametrize(("kind", "patience"), [("start", 9), ("least_squares", 8)])
def test_queries_without_gain_return_the_turn(kind: str, patience: int) -> None:
    """A start has its Jacobian and six steps, the surrogate of the residuals as many as ``gp``."""
    before, steps = ["gp"] * 9, [kind] * patience
    assert turn([1.0] * (8 + patience), [*before, *steps[:-1]]) == "least_squares"
    assert turn([1.0] * (9 + patience), [*before, *steps]) == "gp"


def test_no_start_without_calls_for_its_jacobian() -> None:
    """Observations of the user, as these, cost no calls; a Jacobian costs three and a step one."""
    assert turn([1.0] * 9, "gp", budget=4) == "gp"
    assert turn([1.0] * 9, "gp", budget=5) == "least_squares"


def test_many_outputs_belong_to_least_squares() -> None:
    assert target_turn(statement(16), log([], []), None) == "least_squares"
    assert target_turn(statement(15), log([], []), None) == "gp"


@pytest.mark.parametrize("gain", [0.0, 0.1])
def test_values_follow_when_gradients_no_longer_gain(gain: float) -> None:
    losses = [1.0, 0.0, *(-gain * i for i in range(1, 11))]
    assert gradients_gain(log(losses, ["gradient_gp"] * 12), 3) is (gain > 0.0)


def test_gradients_that_gained_nothing_do_not_come_back() -> None:
    losses = [1.0, *[0.0] * 11, *(-0.1 * i for i in range(30))]
    assert not gradients_gain(log(losses, [*["gradient_gp"] * 12, *["gp"] * 30]), 3)


def test_near_the_target_a_batch_is_a_jacobian() -> None:
    near, far = (log([1.0, 1.0, 1.0, loss], ["gp"] * 4) for loss in (1e-5, 0.1))
    assert target_turn(statement(), near, None, batch=3) == "least_squares"
    assert target_turn(statement(), far, None, batch=3) == "gp"


@pytest.mark.parametrize(("ends", "gains"), [([], True), ([-1.0], True), ([-1.0, -1.0], False)])
def test_descents_lose_their_turn_when_the_latest_one_gained_nothing(
    ends: list[float], gains: bool
) -> None:
    found = log([2.0, 1.0, 0.0, *ends], ["gp"] * (3 + len(ends)))
    trials = [
        replace(t, query=replace(t.query, descent=Descent(5))) if t.number > 2 else t
        for t in found.trials
    ]
    assert descents_gain(History(trials)) is gains
