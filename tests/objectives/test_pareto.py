"""Tests of objectives of several criteria, of dominance and of reference points."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from bo_invert.errors import InvalidInputError
from bo_invert.objectives.composite import Composite
from bo_invert.objectives.from_json import objective_from_json
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.pareto_front import dominance_order, non_dominated, reference_point
from bo_invert.objectives.single_output import Maximize, Minimize, Plausibility
from bo_invert.objectives.target import Target
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box
from bo_invert.spaces.latent import Latent
from bo_invert.study.study import Study

NAMES = ("cost", "yield", "ph")
Y = np.array([[1.0, 2.0, 7.5], [3.0, 5.0, 6.0]])
CRITERIA = Pareto(
    Minimize("cost"), Maximize("yield"), Target({"ph": 7.0}), reference={"yield": 0.5}
).bind(NAMES)


def test_losses_values_and_labels() -> None:
    assert CRITERIA.labels == ("cost", "yield", "off_target")
    assert CRITERIA.losses(Y).tolist() == [[1.0, -2.0, 0.5], [3.0, -5.0, 1.0]]
    assert CRITERIA.values(Y).tolist() == [[1.0, 2.0, 0.5], [3.0, 5.0, 1.0]]
    assert CRITERIA.names == NAMES
    assert CRITERIA.indices == (0, 1, 2)
    assert CRITERIA.reference == (None, 0.5, None)
    assert np.isnan(CRITERIA.reference_losses).tolist() == [True, False, True]
    assert CRITERIA.reference_losses[1] == -0.5


def test_the_loss_is_the_mean_in_units_of_the_scale_and_respects_dominance() -> None:
    assert CRITERIA.loss(Y).tolist() == pytest.approx([-0.5 / 3, -1.0 / 3])
    scaled = Pareto(Minimize("cost"), Maximize("yield"), scale=[2.0, 4.0]).bind(NAMES)
    assert scaled.loss(Y).tolist() == pytest.approx([(0.5 - 0.5) / 2, (1.5 - 1.25) / 2])
    y = np.random.default_rng(0).normal(size=(50, 3))
    front = np.flatnonzero(non_dominated(CRITERIA.losses(y)))
    assert int(CRITERIA.loss(y).argmin()) in front


def test_tensors_have_the_same_losses_with_gradients() -> None:
    leaf = torch.tensor(Y, requires_grad=True)
    losses = CRITERIA.losses(leaf)
    assert losses.detach().numpy() == pytest.approx(CRITERIA.losses(Y))
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    assert gradient.numpy() == pytest.approx(np.array([[1.0, -1.0, 1.0], [1.0, -1.0, -1.0]]))


def test_json_restores_criteria() -> None:
    text = json.dumps(CRITERIA.to_json(), allow_nan=False)
    again = objective_from_json(json.loads(text)).bind(NAMES)
    assert isinstance(again, Pareto)
    assert again == CRITERIA
    with pytest.raises(InvalidInputError, match="is a function"):
        objective_from_json(Pareto(Minimize("a"), Composite(abs, ("b",))).to_json())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pareto(Minimize("a")), "at least two"),
        (lambda: Pareto(Minimize("a"), Minimize("a")), "must differ"),
        (lambda: Pareto(Minimize("a"), Maximize("a")), "every design would be on"),
        (lambda: Pareto(Minimize(), Maximize()), "every design would be on"),
        (lambda: Pareto(Minimize("a"), Maximize()).bind(["a"]), "every design would be on"),
        (lambda: Pareto(Target({"a": 1.0}, 0.1), Target({"a": 1.0}, 0.2, 3.0)), "must differ"),
        (lambda: Pareto(Target([1.0]), Target({"a": 1.0})).bind(["a"]), "must differ"),
        (
            lambda: Pareto(Target({"a": 1.0, "b": 2.0}), Target({"b": 2.0, "a": 1.0}, scale=2.0)),
            "must differ",
        ),
        (lambda: Pareto(*map(Minimize, "abcdef")), "at most 5.*got 6.*Composite"),
        (lambda: Pareto(Minimize("a"), "b"), "must be Minimize"),
        (lambda: Pareto(Minimize("a"), Pareto(Minimize("a"), Minimize("b"))), "must be Minimize"),
        (lambda: Pareto(Minimize("a"), Maximize("b"), reference=[1.0]), "one value per objective"),
        (lambda: Pareto(Minimize("a"), Maximize("b"), reference={"c": 1.0}), "names among"),
        (lambda: Pareto(Minimize("a"), Maximize("b"), scale=0.0), "scale must be"),
        (lambda: Pareto(Minimize("a"), Maximize("b"), reference=["x", 1.0]), "finite number"),
    ],
)
def test_invalid_criteria_are_explained(make: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make()


def test_different_criteria_of_one_output_are_allowed() -> None:
    Pareto(Target({"a": 1.0}), Target({"a": 2.0}), Minimize("a")).bind(["a"])
    Pareto(Target({"a": 1.0, "b": 1.0}), Target({"a": 1.0, "b": 1.0}, scale=[1.0, 2.0]))


def test_dominance_agrees_with_its_definition() -> None:
    losses = np.random.default_rng(1).integers(0, 5, (60, 3)).astype(float)
    mask = non_dominated(losses)
    for i, row in enumerate(losses):
        better = (losses <= row).all(1) & (losses < row).any(1)
        first = not (losses[:i] == row).all(1).any()
        assert mask[i] == (not better.any() and first)
    ranks = dominance_order(losses)
    assert (ranks[mask] == 0).all()
    assert not non_dominated(np.array([[np.inf, 0.0], [np.nan, 1.0]])).any()


def test_the_reference_point_is_inferred_where_it_is_not_given() -> None:
    front = np.array([[0.0, 10.0], [1.0, 5.0], [2.0, 0.0]])
    observed = np.vstack([front, [[4.0, 20.0]]])
    none = np.full(2, np.nan)
    assert reference_point(front, observed, none).tolist() == pytest.approx([2.2, 11.0])
    assert reference_point(front, observed, np.array([np.nan, 30.0]))[1] == 30.0
    # a single point has no range: that of all observations counts
    assert reference_point(front[:1], observed, none).tolist() == pytest.approx([4.4, 22.0])
    assert reference_point(front[:1], front[:1], none).tolist() == pytest.approx([0.1, 11.0])


def test_plausibility_is_an_output_that_needs_no_call() -> None:
    space = Latent(lambda z: z, dim=3)
    criteria = Pareto(Maximize("sum"), Plausibility())
    problem = Problem(space, lambda x: {"sum": float(x.sum())}, criteria)
    assert problem.outputs == ("sum", "plausibility")
    known = criteria.reference_losses  # the worst plausibility is known, a sum is inferred
    assert np.isnan(known[0])
    assert known[1] == 0.0
    study = Study.create("p", problem, "random").run(6)
    points = np.array([trial.point for trial in study.trials])
    assert study.history.y[:, 1] == pytest.approx(space.plausibility(points))
    trial = study.ask()[0]
    answered = study.tell(trial, 1.5)
    assert answered.y is not None
    assert answered.y.tolist() == [1.5, float(space.plausibility(trial.point[None])[0])]
    study.add(points=np.zeros((1, 3)), Y=[[0.0]])
    assert study.trials[-1].y.tolist() == [0.0, 1.0]
    with pytest.raises(InvalidInputError, match="shape"):
        study.tell(study.ask()[0], [1.0, 0.5, 3.0])


def test_plausibility_needs_a_measure_and_a_free_name() -> None:
    box = Box({"a": (0.0, 1.0)})
    criteria = Pareto(Minimize("y"), Plausibility())
    with pytest.raises(InvalidInputError, match="needs a measure"):
        Problem(box, lambda p: {"y": p["a"]}, criteria)
    measured = Problem(
        box, lambda p: {"y": p["a"]}, criteria, plausibility=lambda ds: [d["a"] for d in ds]
    )
    study = Study.create("m", measured, "sobol").run(4)
    assert study.history.y[:, 1] == pytest.approx(study.history.y[:, 0])
    with pytest.raises(InvalidInputError, match="must not contain 'plausibility'"):
        Problem(Latent(lambda z: z, dim=2), None, criteria, outputs=["y", "plausibility"])
