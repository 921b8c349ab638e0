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
