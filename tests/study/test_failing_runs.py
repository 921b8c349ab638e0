"""Runs that end because no output matches the problem."""

from __future__ import annotations

import pytest

import bo_invert as bi
from bo_invert.oracles.base import MISMATCHES
from bo_invert.study.failing_runs import MISMATCH_LIMIT, is_hopeless


@pytest.mark.parametrize("prefix", [*MISMATCHES, "out of memory: "])
def test_mismatches_of_every_version_end_a_run(prefix: str) -> None:
    problem = bi.Problem(bi.Box([0.0], [1.0]), None, bi.Minimize(), outputs=["y"])
    study = bi.Study.create("s", problem, strategy="random")
    for trial in study.ask(MISMATCH_LIMIT):
        assert not is_hopeless(study.journal)
        study.tell(trial, bi.FailedError(f"{prefix}outputs are missing"))
    assert is_hopeless(study.journal) == (prefix in MISMATCHES)


def test_a_run_that_cannot_succeed_says_why() -> None:
    box = bi.Box({"x": bi.Float(0, 1)})
    problem = bi.Problem(box, lambda v: v["x"], bi.Target((0.4, 0.6)))
    study = bi.Study.create("s", problem)
    with pytest.warns(UserWarning, match="Write a range of one output with its name"):
        study.run(12)
    assert study.spent.calls == 1
    assert "Write a range of one output with its name" in study.ended
