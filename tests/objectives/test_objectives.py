from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bo_invert.errors import InvalidInputError
from bo_invert.objectives.base import Objective
from bo_invert.objectives.composite import Composite
from bo_invert.objectives.from_json import objective_from_json
from bo_invert.objectives.outcome_constraint import OutcomeConstraint
from bo_invert.objectives.single_output import Maximize, Minimize
from bo_invert.objectives.target import Target

Y = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
NAMES = ("a", "b", "c")


def test_minimize_and_maximize_read_their_output() -> None:
    assert Minimize("b").bind(NAMES).loss(Y).tolist() == [2.0, 5.0]
    assert Maximize("c").bind(NAMES).loss(Y).tolist() == [-3.0, -6.0]
    assert Minimize().bind(["y"]).loss(Y[:, :1]).tolist() == [1.0, 4.0]
    assert not Minimize().structured
    assert not Maximize().satisfied(Y[0])


@pytest.mark.parametrize("objective", [Minimize(), Maximize()])
def test_one_of_several_outputs_must_be_named(objective: Objective) -> None:
    kind = type(objective).__name__
    with pytest.raises(InvalidInputError, match=rf"name the one you mean, as in bi.{kind}\('a'\)"):
        objective.bind(NAMES)


@pytest.mark.parametrize(
    "objective", [Minimize("z"), Maximize("z"), Target({"z": 1.0}), Composite(abs, ("z",))]
)
def test_unknown_outputs_are_named(objective: Objective) -> None:
    with pytest.raises(InvalidInputError, match="no output 'z'"):
        objective.bind(NAMES)


def test_a_target_is_the_mean_squared_distance() -> None:
    target = Target([1.0, 2.0, 5.0]).bind(NAMES)
    assert target.loss(Y).tolist() == pytest.approx([4.0 / 3, (9 + 9 + 1) / 3])
    assert Target(2.0).bind(["y"]).loss(np.array([5.0])) == 9.0


def test_a_target_in_units_of_its_scales() -> None:
    target = Target([0.0, 0.0, 0.0], scale=[1.0, 2.0, 3.0]).bind(NAMES)
    assert target.residuals(Y).tolist() == [[1.0, 1.0, 1.0], [4.0, 2.5, 2.0]]
    assert target.loss(Y[0]) == 1.0


def test_a_target_picks_the_outputs_it_names() -> None:
    assert Target({"c": 3.5, "a": 1.0}).bind(NAMES).residuals(Y[0]).tolist() == [-0.5, 0.0]
    assert Target(2.5, output="b").bind(NAMES).residuals(Y[0]).tolist() == [-0.5]
    assert Target({"c": 3.5, "a": 1.0}).names == ("c", "a")


def test_a_target_is_hit_when_every_output_is_within_tolerance() -> None:
    target = Target([1.0, 2.0], tolerance=0.1).bind(["a", "b"])
    assert target.satisfied(np.array([1.09, 1.95]))
    assert not target.satisfied(np.array([1.0, 2.2]))
    assert not Target([1.0, 2.0]).bind(["a", "b"]).satisfied(np.array([1.0, 2.0])), (
        "no tolerance, never done"
    )


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3),
    st.lists(st.floats(1e-2, 1e2), min_size=3, max_size=3),
)
def test_the_loss_of_a_target_is_zero_there_and_only_there(
    value: list[float], scale: list[float]
) -> None:
    target = Target(value, scale=scale).bind(NAMES)
    assert target.loss(np.array(value)) == 0.0
    assert target.loss(np.array(value) + np.array([0.0, 1.0, 0.0])) > 0.0


def test_losses_are_the_same_for_tensors() -> None:
    torch = pytest.importorskip("torch")
    objectives: list[Objective] = [
        Minimize("b"),
        Maximize("b"),
        Target([1.0, 0.0, 2.0], scale=[1.0, 2.0, 4.0]),
        Target({"c": 1.0, "a": 2.0}),
        Composite(lambda y: (y**2).sum(-1)),
        Composite(lambda y: (y[..., 0] - y[..., 1]) ** 2, ("c", "a")),
    ]
    samples = np.stack([Y, Y + 0.5, -Y])
    for objective in objectives:
        bound = objective.bind(NAMES)
        leaf = torch.tensor(samples, requires_grad=True)
        loss = bound.loss(leaf)
        assert loss.shape == (3, 2)
        assert loss.detach().numpy() == pytest.approx(bound.loss(samples))
        loss.sum().backward()
        assert leaf.grad.abs().sum() > 0
    assert Target([1.0, 0.0, 2.0]).bind(NAMES).loss(torch.zeros(1, 3)).dtype == torch.float32


@pytest.mark.parametrize(
    "make",
    [
        lambda: Target(math.nan),
        lambda: Target([]),
        lambda: Target({}),
        lambda: Target("far"),
        lambda: Target([[1.0], [2.0]]),
        lambda: Target(1.0, tolerance=-1.0),
        lambda: Target(1.0, tolerance=math.nan),
        lambda: Target(1.0, scale=0.0),
        lambda: Target(1.0, scale=math.inf),
        lambda: Target([1.0, 2.0], scale=[1.0, 1.0, 1.0]),
        lambda: Target([1.0, 2.0], output="a"),
    ],
)
def test_targets_that_cannot_be_meant(make: Any) -> None:
    with pytest.raises(InvalidInputError, match="Target"):
        make()


def test_a_target_of_another_length_than_the_outputs_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="2 values"):
        Target([1.0, 2.0]).bind(NAMES)


def test_binding_leaves_the_original_alone() -> None:
    target = Target({"c": 1.0})
    bound = target.bind(NAMES)
    assert (target.indices, bound.indices) == ((0,), (2,))
    assert bound.bind(NAMES) == bound


def test_a_composite_takes_its_outputs_in_its_own_order() -> None:
    composite = Composite(lambda y: y[..., 0] - y[..., 1], outputs=("c", "a"), name="gap")
    assert composite.bind(NAMES).loss(Y).tolist() == [2.0, 2.0]
    assert Composite(lambda y: y.sum(-1)).bind(NAMES).loss(Y).tolist() == [6.0, 15.0]
    assert composite.to_json() == {"type": "composite", "name": "gap", "outputs": ["c", "a"]}
    assert composite.size is None


@pytest.mark.parametrize(
    ("text", "constraint"),
    [
        ("confidence >= 0.9", OutcomeConstraint("confidence", ">=", 0.9)),
        (" grain size<=-2e-3 ", OutcomeConstraint("grain size", "<=", -2e-3)),
        (OutcomeConstraint("a", "<=", 1.0), OutcomeConstraint("a", "<=", 1.0)),
    ],
)
def test_constraints_are_read(text: Any, constraint: OutcomeConstraint) -> None:
    assert OutcomeConstraint.parse(text) == constraint
    assert OutcomeConstraint.parse(str(constraint)) == constraint


@pytest.mark.parametrize(
    "text", ["a > 1", "a == 1", "0.9 <= a", "a >= b", "a >= 1e", "<= 3", "0 <= a <= 1", "a >= nan"]
)
def test_constraints_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InvalidInputError, match="output <= number"):
        OutcomeConstraint.parse(text)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_excess_is_positive_where_a_constraint_is_broken(value: float, bound: float) -> None:
    y = np.array([0.0, value, 0.0])
    assert (OutcomeConstraint("b", "<=", bound).bind(NAMES).excess(y) > 0) == (value > bound)
    assert (OutcomeConstraint("b", ">=", bound).bind(NAMES).excess(y) > 0) == (value < bound)


def test_constraints_on_nothing_or_without_end_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="no output 'z'"):
        OutcomeConstraint("z", "<=", 0.0).bind(NAMES)
    for broken in (("a", "<", 1.0), ("a", "<=", math.inf)):
        with pytest.raises(InvalidInputError):
            OutcomeConstraint(*broken)


@pytest.mark.parametrize(
    "objective",
    [
        Minimize("b"),
        Maximize(),
        Target({"a": 1.0, "c": 2.0}, tolerance=0.1),
        Composite(abs, ("a",)),
    ],
)
def test_described_as_json_and_as_text(objective: Objective) -> None:
    described = json.loads(json.dumps(objective.to_json(), allow_nan=False))
    assert described["type"] == type(objective).__name__.lower()
    assert str(objective).startswith(type(objective).__name__)


def test_different_targets_differ_in_the_log() -> None:
    base = Target([1.0, 2.0]).to_json()
    for other in (
        Target([1.0, 2.1]),
        Target([1.0, 2.0], tolerance=1.0),
        Target([1.0, 2.0], scale=2.0),
    ):
        assert other.to_json() != base


@pytest.mark.parametrize(
    "objective",
    [Minimize(), Maximize("b"), Target([1.0, 2.0], 0.1, [1.0, 3.0]), Target({"b": 2.0})],
)
def test_objectives_survive_json(objective: Objective) -> None:
    assert objective_from_json(json.loads(json.dumps(objective.to_json()))) == objective


def test_a_target_in_json_has_one_value_for_each_output() -> None:
    with pytest.raises(InvalidInputError, match="one number per output"):
        objective_from_json({"type": "target", "value": [1.0, 2.0], "outputs": ["a"]})


def test_constraints_survive_json() -> None:
    constraint = OutcomeConstraint("b", ">=", 0.5)
    assert OutcomeConstraint.parse(json.loads(json.dumps(constraint.to_json()))) == constraint
