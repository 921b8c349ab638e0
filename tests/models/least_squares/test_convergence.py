"""When a target counts as hit."""

from __future__ import annotations

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.history import History
from bo_invert.models.least_squares.convergence import rounding_loss, target_reached
from bo_invert.types import Outcome, Query, State, Trial

UNITS = [1e-9, 1e-7, 1.0, 1e9]


def told(target: bi.Target, outputs: list[float]) -> History:
    trials = []
    for number, y in enumerate(outputs):
        outcome = Outcome(State.COMPLETED, y=np.array([y]), loss=float(target.loss(np.array([y]))))
        trials.append(
            Trial(number, Query(np.array([0.1 * number])), State.COMPLETED, outcome=outcome)
        )
    return History(trials)


@pytest.mark.parametrize("unit", UNITS)
def test_a_hit_is_next_to_nothing_beside_an_ordinary_loss(unit: float) -> None:
    target = bi.Target(2.0 * unit).bind(["y"])
    others = [1.0 * unit, 2.5 * unit, 3.0 * unit]
    assert target_reached(target, told(target, [*others, (2.0 + 1e-7) * unit]))
    assert not target_reached(target, told(target, [*others, (2.0 + 1e-4) * unit]))
    assert not target_reached(target, told(target, []))


@pytest.mark.parametrize("unit", UNITS)
def test_the_spread_of_outputs_counts_and_not_their_size(unit: float) -> None:
    target = bi.Target(300.0 * unit).bind(["y"])
    others = [(300.0 + miss) * unit for miss in (1e-3, -2e-3, 3e-3)]
    assert not target_reached(target, told(target, [*others, (300.0 + 1e-5) * unit]))
    assert target_reached(target, told(target, [*others, (300.0 + 1e-10) * unit]))


def test_a_first_point_on_target_is_believed_once_others_were_seen() -> None:
    target = bi.Target(2.0).bind(["y"])
    near = 2.0 + 1e-9
    assert not target_reached(target, told(target, [near]))
    assert target_reached(target, told(target, [near, 1.0]))
    assert target_reached(target, told(target, [2.0])), "an exact answer needs no other"


def test_one_terrible_point_makes_no_hit_of_the_others() -> None:
    target = bi.Target(0.0).bind(["y"])
    assert not target_reached(target, told(target, [1.0, 2.0, 0.01, 1.5, 1e9]))


def test_a_tolerance_is_what_counts() -> None:
    others = [1.0, 2.5, 3.0]
    loose, strict = (bi.Target(2.0, tolerance=tolerance).bind(["y"]) for tolerance in (0.1, 1e-9))
    assert target_reached(loose, told(loose, [*others, 2.05]))
    assert not target_reached(strict, told(strict, [*others, 2.0 + 1e-7]))
    assert target_reached(strict, told(strict, [*others, 2.0 + 1e-10]))
    assert target_reached(strict, told(strict, [*others, 2.0]))


def test_a_tolerance_below_the_last_digit_is_not_waited_for() -> None:
    target = bi.Target(2.0, tolerance=1e-17).bind(["y"])
    assert target_reached(target, told(target, [1.0, 2.5, 3.0, np.nextafter(2.0, 3.0)]))


def test_rounding_is_in_units_of_the_scale() -> None:
    plain, scaled = bi.Target([3.0, 4.0]), bi.Target([3.0, 4.0], scale=10.0)
    assert rounding_loss(plain) == pytest.approx(100.0 * rounding_loss(scaled))
    assert rounding_loss(bi.Target(0.0)) == 0.0


def test_what_has_no_target_is_never_hit() -> None:
    assert not target_reached(bi.Minimize(), told(bi.Target(0.0).bind(["y"]), [0.0]))
