"""Advice on wider ranges and on further calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.study.continuation import how_to_continue, widenable
from bo_invert.study.next_steps import Findings, next_steps
from bo_invert.study.plots import study_data

PARTS = {name: bi.Float(0, 1) for name in "abc"}


@pytest.mark.parametrize(
    ("parameters", "constraints", "ends"),
    [
        (PARTS, [], (True, True)),
        (PARTS, ["a + b + c == 1"], (False, False)),
        (PARTS | {"a": bi.Float(0.1, 0.4)}, ["a + b + c == 1"], (True, True)),
        (PARTS | {"a": bi.Float(0, 2)}, ["a + b <= 1"], (False, False)),
        (PARTS, ["a - b <= 0.5"], (True, True)),
        (PARTS, ["a <= b"], (True, False)),
        (PARTS, ["a >= b"], (False, True)),
        (PARTS, ["at most 2 of a, b, c"], (False, True)),
        (PARTS | {"b": bi.Fixed(0.25)}, ["a + b <= 1.5"], (False, True)),
        (PARTS | {"b": bi.Fixed(0.5)}, ["a + b <= 1.5"], (False, False)),
        (PARTS | {"a": bi.Int(-3, 3)}, ["a + b >= -9"], (True, True)),
    ],
)
def test_ends_that_constraints_imply(
    parameters: dict[str, Any], constraints: list[str], ends: tuple[bool, bool]
) -> None:
    assert widenable(bi.Box(parameters, constraints=constraints).domain, "a") == ends


def mixture(oracle: Any = None) -> bi.Study:
    space = bi.Box(PARTS, constraints=["a + b + c == 1"])
    problem = bi.Problem(space, oracle, bi.Minimize("y"), outputs=["y"])
    study = bi.Study.create("mix", problem, "random")
    share = np.linspace(0.05, 1.0, 20)
    study.add([{"a": one, "b": 1.0 - one, "c": 0.0, "y": -one} for one in share])
    return study


def test_reports_do_not_widen_the_parts_of_a_mixture() -> None:
    study = mixture()
    steps = next_steps(study_data(study), study.problem, Findings())
    assert steps
    assert not any("Widen" in step for step in steps)


def test_reports_continue_by_ask_and_tell_without_an_oracle() -> None:
    by_hand = mixture()
    steps = next_steps(study_data(by_hand), by_hand.problem, Findings())
    assert "study.run" not in " ".join(steps)
    assert "study.ask()" in how_to_continue(by_hand.problem, 40)
    assert "study.run(budget=40)" in how_to_continue(mixture(lambda v: v["a"]).problem, 40)
    assert how_to_continue(None, 40) == "continue to 40 calls"
