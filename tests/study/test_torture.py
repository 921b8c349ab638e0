"""Studies with an oracle that fails in every known way: the ledger matches its records."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torture import DEADLY, FINE, WAYS, begin, tortured

from bo_invert.types import State

pytest.importorskip("loky")
if sys.platform == "win32":
    pytest.skip("needs signals", allow_module_level=True)
BATCH = 4


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "budget"), [("isolated", 20), ("processes", 20)])
def test_a_tortured_study_completes_and_is_billed_exactly(
    tmp_path: Path, kind: str, budget: int
) -> None:
    account = tortured(tmp_path, kind, budget)
    assert account.entered == account.billed == budget
    assert account.restarts == 0, "the study itself never died"
    assert account.lost == ()
    assert account.best_is_healthy
    assert set(account.ways) == {FINE, *WAYS}
    trials = begin(tmp_path, kind).trials
    assert {t.state for t in trials} == {State.COMPLETED, State.FAILED}
    assert all(
        t.outcome is not None and t.outcome.reason for t in trials if t.state is State.FAILED
    )


@pytest.mark.slow
def test_under_bare_threads_a_death_costs_what_is_under_way(tmp_path: Path) -> None:
    account = tortured(tmp_path, "threads", 12)
    assert 0 < account.restarts <= sum(account.ways[way] for way in DEADLY)
    assert 0 <= account.billed - account.entered <= BATCH * account.restarts
    assert account.lost == (), "what died with it was begun again"
    assert account.best_is_healthy
