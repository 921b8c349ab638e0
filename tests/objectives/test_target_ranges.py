"""Tests of ranges, intervals to avoid and weights of targets."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from bo_invert.errors import InvalidInputError
from bo_invert.objectives.from_json import objective_from_json
from bo_invert.objectives.target import Target
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box
from bo_invert.study.study import Study

NAMES = ("CL", "CM", "CD", "f")
RANGES = Target(
    {"CL": (0.8, None), "CM": (-0.06, -0.04), "CD": 0.01},
    avoid={"f": (48.0, 52.0)},
    scale={"CL": 1.0, "CM": 0.02, "CD": 0.01, "f": 2.0},
    weights={"CD": 3.0},
).bind(NAMES)


def test_the_loss_of_ranges_is_zero_inside_and_quadratic_outside() -> None:
    weights = np.array([1.0, 1.0, 3.0, 1.0]) / 6.0
    inside = np.array([0.9, -0.05, 0.01, 40.0])
    assert RANGES.loss(inside) == 0.0
    # 0.3 below, 0.01 above in units of 0.02, 0.02 off in units of 0.01, 1.5 deep in units of 2
    outside = np.array([0.5, -0.03, 0.03, 50.5])
    residuals = np.array([-0.3, 0.5, 2.0, 0.75])
    assert RANGES.loss(outside) == pytest.approx(weights @ residuals**2)
    assert np.sign(RANGES.residuals(outside)).tolist() == [-1.0, 1.0, 1.0, 1.0]


def test_batches_tensors_and_gradients_agree() -> None:
    y = np.random.default_rng(0).normal([0.8, -0.05, 0.01, 50.0], [0.3, 0.03, 0.01, 3.0], (9, 5, 4))
    leaf = torch.tensor(y, requires_grad=True)
    losses = RANGES.loss(leaf)
    assert losses.detach().numpy() == pytest.approx(RANGES.loss(y))
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    step = 1e-7 * np.eye(4)[1]
    slope = (RANGES.loss(y + step) - RANGES.loss(y - step)) / 2e-7
    assert gradient[..., 1].numpy() == pytest.approx(slope, abs=1e-5, rel=1e-5)
    assert RANGES.within(leaf.detach()).numpy().tolist() == RANGES.within(y).tolist()


def test_equal_weights_change_nothing() -> None:
    y = np.random.default_rng(0).normal(size=(7, 2))
    plain = Target([1.0, 2.0], scale=[1.0, 3.0]).bind(["a", "b"])
    equal = Target([1.0, 2.0], scale=[1.0, 3.0], weights=[5.0, 5.0]).bind(["a", "b"])
    assert np.array_equal(plain.loss(y), equal.loss(y))
    assert plain.to_json() == equal.to_json()
    assert set(plain.to_json()) == {"type", "value", "tolerance", "scale", "outputs"}


def test_a_range_ends_a_run_without_a_tolerance_and_a_number_needs_one() -> None:
    ranges = Target({"CL": (0.8, None), "CM": (-0.06, -0.04)}).bind(NAMES)
    assert ranges.satisfiable
    assert ranges.satisfied(np.array([0.8, -0.06, 9.0, 9.0]))
    assert not ranges.satisfied(np.array([0.79, -0.05, 9.0, 9.0]))
    assert not RANGES.satisfiable
    mixed = Target({"CL": (0.8, None), "CD": 0.01}, tolerance=0.001).bind(NAMES)
    assert mixed.satisfied(np.array([0.7995, 0.0, 0.0105, 0.0]))
    assert not mixed.satisfied(np.array([0.7995, 0.0, 0.0115, 0.0]))
    avoid = Target(avoid={"f": (48.0, 52.0)}).bind(NAMES)
    assert avoid.satisfied(np.array([0.0, 0.0, 0.0, 52.0]))
    assert not avoid.satisfied(np.array([0.0, 0.0, 0.0, 49.0]))


@pytest.mark.parametrize(
    "tolerance", [{"CL": 0.1, "CM": 0.01, "f": 2.0}, [0.1, 0.01, 2.0]], ids=["names", "sequence"]
)
def test_each_output_has_its_own_tolerance(tolerance: Any) -> None:
    target = Target({"CL": 0.8, "CM": (None, -0.04)}, tolerance, avoid={"f": (48.0, 52.0)})
    target = target.bind(NAMES)
    y = np.array(
        [[0.9, -0.03, 9.0, 50.0], [0.91, -0.03, 9.0, 50.0], [0.9, -0.02, 9.0, 50.0],
         [0.75, -0.05, 9.0, 49.9], [0.75, -0.05, 9.0, 50.1], [0.65, -0.05, 9.0, 40.0]]
    )  # fmt: skip
    expected = [True, False, False, True, True, False]
    assert [target.satisfied(row) for row in y] == expected
    assert target.within(torch.tensor(y + 1e-12)).tolist()[1:] == expected[1:]
    again = objective_from_json(json.loads(json.dumps(target.to_json()))).bind(NAMES)
    assert again == target
    assert target.to_json()["tolerance"] == [0.1, 0.01, 2.0]


def test_names_of_ranges_need_no_tolerance() -> None:
    target = Target({"CL": 0.8, "CM": (None, -0.04)}, {"CL": 0.1})
    assert target.tolerances == (0.1, 0.0)
    assert Target([1.0, 2.0], [0.1, 0.1]).to_json() == Target([1.0, 2.0], 0.1).to_json()
    exact = Target({"CL": 0.8, "CD": 3.0}, {"CL": 0.1, "CD": 0.0}).bind(NAMES)
    assert exact.satisfied(np.array([0.85, 0.0, 3.0, 0.0]))
    assert not exact.satisfied(np.array([0.85, 0.0, 3.01, 0.0]))


@pytest.mark.parametrize(
    ("tolerance", "message"),
    [
        ({"CL": 0.1}, r"without \['CM'\]"),
        ({"CL": 0.1, "XX": 1.0}, "names among"),
        ([0.1, 0.1, 0.1], "one number or 2 numbers"),
        ([0.1, -0.1], ">= 0"),
        ({"CL": 0.1, "CM": None}, "tolerance of 'CM' must be"),
    ],
)
def test_wrong_tolerances_are_refused(tolerance: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Target({"CL": 0.8, "CM": 0.1}, tolerance)


@pytest.mark.parametrize(
    ("target", "outputs", "y", "loss"),
    [
        (Target((0.8, None)), ["y"], [0.5], 0.09),
        (Target((None, 0.8)), ["y"], [0.5], 0.0),
        (Target((0.2, 0.4), output="b"), ["a", "b"], [9.0, 0.5], 0.01),
        (Target([(0.2, 0.4), 1.0]), ["a", "b"], [0.5, 1.0], 0.005),
        (Target([1.0, 2.0]), ["a", "b"], [1.0, 3.0], 0.5),
        (Target([0.0], avoid={"b": (1.0, 3.0)}), ["a"], [0.0], None),
    ],
)
def test_forms_of_a_range(
    target: Target, outputs: list[str], y: list[float], loss: float | None
) -> None:
    if loss is None:
        with pytest.raises(InvalidInputError, match="no output 'b'"):
            target.bind(outputs)
    else:
        assert target.bind(outputs).loss(np.array(y)) == pytest.approx(loss)


@pytest.mark.parametrize(
    "target", [RANGES, Target([(0.2, None), 1.0]), Target((0.2, 0.4), output="b")]
)
def test_json_restores_ranges(target: Target) -> None:
    text = json.dumps(target.to_json(), allow_nan=False)
    again = objective_from_json(json.loads(text))
    y = np.random.default_rng(0).normal(size=(20, 4))
    names = NAMES if target is RANGES else ("a", "b")
    bound = again.bind(names)
    assert bound.to_json() == target.to_json()
    y = y[:, : len(names)]
    assert np.array_equal(bound.loss(y), target.bind(names).loss(y))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Target({"a": (2.0, 1.0)}), "value of 'a' must be a number or a range"),
        (lambda: Target({"a": (None, None)}), "None for one open end"),
        (lambda: Target({"a": (1.0, float("nan"))}), "finite number"),
        (lambda: Target({"a": 1.0}, avoid={"a": (None, 2.0)}), "avoid of 'a' must be an interval"),
        (lambda: Target({"a": 1.0}, avoid={"a": 2.0}), "avoid of 'a' must be an interval"),
        (lambda: Target({"a": 1.0}, avoid=[1.0, 2.0]), "avoid must be a dict"),
        (lambda: Target({"a": 1.0}, weights={"b": 2.0}), "weights must have names among"),
        (lambda: Target({"a": 1.0}, weights=0.0), "weights must be > 0"),
        (lambda: Target(), "at least one number or range"),
    ],
)
def test_invalid_ranges_are_explained(make: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make()


def test_the_least_distance_to_observed_outputs() -> None:
    low, high = np.array([0.0, -1.0, 0.02, 49.0]), np.array([0.5, 1.0, 0.03, 51.0])
    assert RANGES.nearest(low, high).tolist() == pytest.approx([0.3, 0.0, 0.01, 1.0])
    assert RANGES.texts == (">= 0.8", "-0.06 to -0.04", "0.01", "avoid 48 to 52")
    assert str(RANGES) == "Target(CL >= 0.8, CM -0.06 to -0.04, CD 0.01, f avoid 48 to 52)"


def curves(p: dict[str, float]) -> dict[str, float]:
    a, b = p["a"], p["b"]
    return {"CL": np.sin(3 * a) + b, "CM": 0.1 * a * b - 0.08, "CD": 0.02 * a + 0.01, "f": 55 * b}


@pytest.mark.parametrize(
    "strategy", ["auto", "gp", "least_squares", "turbo", "scipy_least_squares"]
)
def test_every_model_of_targets_reaches_ranges(strategy: str) -> None:
    target = Target({"CL": (1.2, None), "CM": (-0.06, -0.04)}, avoid={"f": (25.0, 35.0)})
    space = Box({"a": (0.0, 1.0), "b": (0.0, 1.0)})
    study = Study.create(strategy, Problem(space, curves, target), strategy).run(60)
    best = study.best
    assert best is not None
    assert best.loss == 0.0
    assert len(study.trials) < 60  # the run ends at the first trial within all ranges


def test_two_numbers_for_one_output_are_refused_with_the_range() -> None:
    box = Box([0.0], [1.0])
    with pytest.raises(InvalidInputError, match=r"Target\({'y': \(0\.4, 0\.6\)}\)"):
        Problem(box, None, Target((0.4, 0.6)), outputs=["y"])
    calls: list[float] = []

    def single(x: np.ndarray) -> float:
        calls.append(float(x[0]))
        return float(x[0])

    study = Study.create("one", Problem(box, single, Target((0.4, 0.6))), "random")
    with pytest.warns(UserWarning, match=r"range of one output.*Target\({'y': \(low, high\)}\)"):
        study.run(20)
    assert len(calls) == 1
    hand = Study.create("hand", Problem(box, None, Target((0.4, 0.6))), "random")
    with pytest.raises(InvalidInputError, match="range of one output"):
        hand.tell(hand.ask()[0], 0.5)


def test_two_numbers_are_values_of_two_outputs() -> None:
    problem = Problem(Box([0.0], [1.0]), lambda x: [x[0], 1 - x[0]], Target((0.4, 0.6)))
    study = Study.create("two", problem, "random").run(5)
    assert study.best is not None
    assert len(study.best.y) == 2
