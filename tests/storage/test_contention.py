"""Many processes on one study: unique numbers, no lost outcome, no visible lock errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from forked import ask_and_tell, context, ends, start

import bo_invert as bi
from bo_invert.storage.open import open_store
from bo_invert.types import State

PROCESSES, EACH = 3, 25


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_processes_that_begin_at_the_same_instant_share_a_study(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = (
        f"sqlite:///{tmp_path}/runs.db"
        if kind == "sqlite"
        else request.getfixturevalue("postgres_url")
    )
    if kind == "postgresql":
        store = open_store(url)
        for name in store.names():
            store.delete(name)
    barrier = context().Barrier(PROCESSES)
    workers = [start(ask_and_tell, barrier, url, "shared", EACH) for _ in range(PROCESSES)]
    assert ends(workers) == [0] * PROCESSES
    study = bi.Study.open("shared", url)
    assert [trial.number for trial in study.trials] == list(range(PROCESSES * EACH))
    assert all(
        trial.state is State.COMPLETED and trial.loss == trial.number for trial in study.trials
    )
    assert study.spent.values == study.spent.attempts == PROCESSES * EACH
    points = {trial.point.tobytes() for trial in study.trials}
    assert len(points) == PROCESSES * EACH, "a second ask of the same number was repeated"
