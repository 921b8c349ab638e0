"""Curves, calls to a target and comparisons follow the order of the log, not wall clocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inside import Inside

import bo_invert as bi
from bo_invert.benchmark.compare import summarize
from bo_invert.history import best_so_far
from bo_invert.report.mlflow.text import StudyText
from bo_invert.storage.base import Store
from bo_invert.storage.memory import MemoryStore
from bo_invert.storage.reader import JournalReader
from bo_invert.types import Cost

PROBLEM = bi.Problem(bi.Box([0.0], [1.0]), None, bi.Minimize())
LOSSES = [5.0, 7.0, 4.0, math.inf, 1.0, 3.0]
FALLING = [math.inf, 5.0, 5.0, 4.0, 4.0, 1.0, 1.0]
CLOCKS: dict[str, Callable[[int], float]] = {
    "rising": lambda i: 1e9 + i,
    "falling": lambda i: 1e9 - i,
    "shuffled": lambda i: 1e9 + (i * 7919) % 97,
    "standing": lambda i: 1e9,
}


def searched(clock: str, store: Store | None = None) -> tuple[Store, bi.Study]:
    """Return a study in which workers answer in an order of their own, with these clocks."""
    made = bi.Study.create("s", PROBLEM, "random")
    trials = made.ask(len(LOSSES))
    for trial, loss in zip(trials[::-1], LOSSES, strict=True):
        made.tell(trial, loss if math.isfinite(loss) else bi.FailedError("no mesh"))
    known = made.journal._store
    events = [{**event, "at": CLOCKS[clock](i)} for i, event in enumerate(known.events("s"))]
    store = MemoryStore() if store is None else store
    store.create("s", known.header("s"), events)
    return store, bi.Study.open("s", store, problem=PROBLEM)


def from_history(store: Store, study: bi.Study, folder: Path) -> list[float]:
    return best_so_far(study.trials)[1].tolist()


def from_run(store: Store, study: bi.Study, folder: Path) -> list[float]:
    run = summarize(study)
    assert [run.calls_to(loss) for loss in (5.0, 4.0, 1.0)] == [1.0, 3.0, 5.0]
    return run.loss_at(np.arange(7)).tolist()


def from_mlflow(store: Store, study: bi.Study, folder: Path) -> list[float]:
    journal = JournalReader(store, "s")
    points = StudyText("s", journal.header).curve(journal.trials, journal.ask_seconds)
    times = [at for _, at, _ in points]
    assert times == sorted(times)
    return [math.inf, *(values["best_loss"] for values, _, _ in points)]


def from_server(store: Store, study: bi.Study, folder: Path) -> list[float]:
    inside = Inside(folder)
    searched(CLOCK_OF[study], inside.store)
    curve = inside.request("GET", "/v1/studies/s/curve").json()
    found = dict(zip(curve["calls"], curve["losses"], strict=True))
    table = inside.request("GET", "/v1/studies/s/columns").json()
    rows = sorted(zip(table["position"], table["loss"], strict=True))
    assert [loss for _, loss in rows] == [loss if loss < math.inf else None for loss in LOSSES]
    known: list[float | None] = [None]
    for calls in range(7):
        known.append(found.get(calls, known[-1]))
    return [math.inf if loss is None else loss for loss in known[1:]]


CLOCK_OF: dict[Any, str] = {}
READERS = [from_history, from_run, from_mlflow, from_server]


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("reader", READERS)
def test_curves_follow_the_log(reader: Any, clock: str, tmp_path: Path) -> None:
    store, study = searched(clock)
    CLOCK_OF[study] = clock
    assert reader(store, study, tmp_path) == FALLING


def test_observations_count_from_their_place_in_the_log() -> None:
    study = bi.Study.create("s", PROBLEM, "random")
    study.add([[0.5]], [9.0])
    for loss in 8.0, 7.0:
        study.tell(study.ask()[0], loss)
    study.add([[0.6], [0.7]], [2.0, 1.0], costs=[Cost(), Cost(1)])
    calls, losses = best_so_far(study.trials)
    assert (calls.tolist(), losses.tolist()) == ([0, 1, 2, 3], [9.0, 8.0, 2.0, 1.0])
    assert summarize(study).calls_to(2.0) == 2.0


def test_late_answers_come_at_their_place_in_the_log() -> None:
    study = bi.Study.create("s", PROBLEM, "random")
    first, second = study.ask(2)
    study.journal.abandon({first.number})
    study.tell(second, 4.0)
    (again,) = study.ask(1)
    assert again.number == first.number
    study.tell(again, 3.0, attempt=1)
    study.tell(first, 1.0, attempt=0)
    calls, losses = best_so_far(study.trials)
    assert losses[0] == math.inf
    assert losses[-1] == 1.0
    assert calls[-1] == study.spent.calls
    assert losses[calls < calls[-1]].min() == 4.0
