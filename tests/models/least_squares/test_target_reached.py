"""Tests of the convergence to a target."""

from __future__ import annotations

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.history import History
from bo_invert.models.least_squares.target_reached import rounding_loss, target_reached
from bo_invert.types import Outcome, Query, State, Trial

UNITS = [1e-9, 1e-7, 1.0, 1e9]


def history_of(target: bi.Target, outputs: list[float]) -> History:
    trials = []
    for number, y in enumerate(outputs):
        outcome = Outcome(State.COMPLETED, y=np.array([y]), loss=float(target.loss(np.array([y]))))
        trials.append(
            Trial(number, Query(np.array([0.1 * number])), State.COMPLETED, outcome=outcome)
        )
    return History(trials)


@pytest.mark.parametrize("unit", UNITS)
def test_a_target_is_reached_at_a_negligible_loss(unit: float) -> None:
    target = bi.Target(2.0 * unit).bind(["y"])
    others = [1.0 * unit, 2.5 * unit, 3.0 * unit]
    assert target_reached(target, history_of(target, [*others, (2.0 + 1e-7) * unit]))
    assert not target_reached(target, history_of(target, [*others, (2.0 + 1e-4) * unit]))
    assert not target_reached(target, history_of(target, []))


@pytest.mark.parametrize("unit", UNITS)
def test_convergence_depends_on_the_spread_of_the_outputs(unit: float) -> None:
    target = bi.Target(300.0 * unit).bind(["y"])
    others = [(300.0 + miss) * unit for miss in (1e-3, -2e-3, 3e-3)]
    assert not target_reached(target, history_of(target, [*others, (300.0 + 1e-5) * unit]))
    assert target_reached(target, history_of(target, [*others, (300.0 + 1e-10) * unit]))


def test_a_first_point_on_target_needs_an_ordinary_loss() -> None:
    target = bi.Target(2.0).bind(["y"])
    near = 2.0 + 1e-9
    assert not target_reached(target, history_of(target, [near]))
    assert target_reached(target, history_of(target, [near, 1.0]))
    assert target_reached(target, history_of(target, [2.0])), "an exact answer needs no other"


def test_one_outlier_does_not_make_others_converged() -> None:
    target = bi.Target(0.0).bind(["y"])
    assert not target_reached(target, history_of(target, [1.0, 2.0, 0.01, 1.5, 1e9]))


def test_a_tolerance_decides() -> None:
    others = [1.0, 2.5, 3.0]
    loose, strict = (bi.Target(2.0, tolerance=tolerance).bind(["y"]) for tolerance in (0.1, 1e-9))
    assert target_reached(loose, history_of(loose, [*others, 2.05]))
    assert not target_reached(strict, history_of(strict, [*others, 2.0 + 1e-7]))
    assert target_reached(strict, history_of(strict, [*others, 2.0 + 1e-10]))
    assert target_reached(strict, history_of(strict, [*others, 2.0]))


def test_a_tolerance_below_rounding_errors_is_reached() -> None:
    target = bi.Target(2.0, tolerance=1e-17).bind(["y"])
    assert target_reached(target, history_of(target, [1.0, 2.5, 3.0, np.nextafter(2.0, 3.0)]))


def test_rounding_is_in_units_of_the_scale() -> None:
    plain, scaled = bi.Target([3.0, 4.0]), bi.Target([3.0, 4.0], scale=10.0)
    assert rounding_loss(plain) == pytest.approx(100.0 * rounding_loss(scaled))
    assert rounding_loss(bi.Target(0.0)) == 0.0


def test_other_objectives_have_no_target() -> None:
    assert not target_reached(bi.Minimize(), history_of(bi.Target(0.0).bind(["y"]), [0.0]))
