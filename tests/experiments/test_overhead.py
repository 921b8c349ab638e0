"""The benchmark scripts of ask times: what they take, what they time, what they print."""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from bo_invert.strategies.base import from_spec


@pytest.fixture(autouse=True, scope="module")
def small_heap() -> Iterator[None]:
    """Leave what exists out of the garbage collections that the scripts call before each ask."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def scripts() -> Any:
    import asking
    import entrants
    import overhead
    import scaling

    return argparse.Namespace(asking=asking, entrants=entrants, overhead=overhead, scaling=scaling)


def test_entrants_and_cells_are_read(scripts: Any) -> None:
    entrants = scripts.entrants
    entrant = entrants.Entrant.parse('optuna:{"sampler": "tpe"}')
    assert (entrant.name, entrant.options) == ("optuna", {"sampler": "tpe"})
    assert entrants.Entrant.parse(entrant.text) == entrant
    assert entrant.label == "optuna(sampler=tpe)"
    assert entrants.Entrant.parse("gp") == entrants.Entrant("gp", {})
    assert entrants.Cell.parse("16,100,4") == (16, 100, 4)
    for wrong in ("gp:{", "gp:[1]", ":{}"):
        with pytest.raises(argparse.ArgumentTypeError):
            entrants.Entrant.parse(wrong)
    for wrong in ("16,100", "16,100,0", "a,b,c", "4,-1,1"):
        with pytest.raises(argparse.ArgumentTypeError):
            entrants.Cell.parse(wrong)


def test_the_grid_is_a_product_or_a_list(scripts: Any) -> None:
    parser = argparse.ArgumentParser()
    scripts.entrants.add_arguments(parser, ["2,10,1"])
    cells = scripts.entrants.cells_of
    assert cells(parser.parse_args(["gp"])) == [(2, 10, 1)]
    grid = cells(parser.parse_args(["gp", "--d", "4", "16", "--n", "100", "--q", "4", "1"]))
    assert grid == [(4, 100, 1), (4, 100, 4), (16, 100, 1), (16, 100, 4)]
    assert cells(parser.parse_args(["gp", "--cells", "9,9,9", "3,9,9"])) == [(3, 9, 9), (9, 9, 9)]
    with pytest.raises(SystemExit):
        cells(parser.parse_args(["gp", "--d", "4"]))


@pytest.mark.parametrize(("space", "outputs"), [("box", 1), ("box", 3), ("latent", 1)])
def test_logs_have_observations_in_the_domain_that_depend_on_the_seed(
    scripts: Any, space: str, outputs: int
) -> None:
    cell = scripts.entrants.Cell(5, 40, 2)
    study, same, other = (
        scripts.asking.observed_study(cell, space, outputs, seed) for seed in (3, 3, 4)
    )
    assert len(study.trials) == 40
    assert all(trial.state == "completed" for trial in study.trials)
    assert study.history.y.shape == (40, outputs)
    assert len(np.unique(study.history.points, axis=0)) == 40
    assert np.array_equal(study.history.points, same.history.points)
    assert not np.array_equal(study.history.points, other.history.points)
    domain = study.statement.domain
    assert np.array_equal(domain.project(study.history.points), study.history.points)
    assert domain.geometry == ("gaussian" if space == "latent" else "box")


@pytest.mark.slow
def test_warm_asks_know_the_answers_and_carry_the_memo(
    scripts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, Any]] = []
    kind = type(from_spec("random"))
    ask = kind.ask

    def noted(self: Any, statement: Any, trials: Any, request: Any) -> Any:
        from bo_invert.strategies.base import Proposal

        seen.append((sum(trial.state == "completed" for trial in trials), request.memo))
        return Proposal(ask(self, statement, trials, request).queries, {"asks": len(seen)})

    monkeypatch.setattr(kind, "ask", noted)
    study = scripts.asking.observed_study(scripts.entrants.Cell(3, 20, 4))
    timings = list(scripts.asking.timed_asks(scripts.entrants.Entrant("random"), study, 4, warm=2))
    assert seen == [(20, None), (24, {"asks": 1}), (28, {"asks": 2})]
    assert [timing.queries for timing in timings] == [4, 4, 4]
    assert study.trials[-1].origin == "random"


def test_without_a_memo_there_is_one_ask(scripts: Any) -> None:
    study = scripts.asking.observed_study(scripts.entrants.Cell(3, 20, 1))
    assert (
        len(list(scripts.asking.timed_asks(scripts.entrants.Entrant("random"), study, 1, warm=5)))
        == 1
    )


def test_a_long_ask_is_stopped(scripts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def forever(*_: Any) -> Any:
        while True:
            with suppress(Exception):  # as peers do that survive errors of their own
                time.sleep(0.01)

    monkeypatch.setattr(type(from_spec("random")), "ask", forever)
    study = scripts.asking.observed_study(scripts.entrants.Cell(2, 4, 1))
    with pytest.raises(scripts.asking.OverLimit) as stopped:
        list(scripts.asking.timed_asks(scripts.entrants.Entrant("random"), study, 1, limit=0.1))
    assert stopped.value.clock.wall >= 0.09


def test_only_a_peers_own_call_counts(scripts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Peer:
        def propose(self) -> int:
            time.sleep(0.02)
            return 7

    monkeypatch.setitem(scripts.asking.OWN_CALL, "peer", (__name__, "Peer", "propose"))
    monkeypatch.setattr(f"{__name__}.Peer", Peer, raising=False)
    original = Peer.propose
    whole = scripts.asking.Clock()
    with scripts.asking.own_clock("peer") as clock, whole.running():
        time.sleep(0.05)
        assert Peer().propose() == 7
    assert clock.wall >= 0.02
    assert whole.wall - clock.wall >= 0.05
    assert Peer.propose is original
    with scripts.asking.own_clock("gp") as clock:
        assert clock is None


def record(strategy: str, turn: int = 0, **fields: Any) -> dict[str, Any]:
    return {"strategy": strategy, "d": 4, "n": 50, "q": 1, "round": turn, **fields}


def test_the_table_shows_medians_ratios_and_what_was_stopped(scripts: Any) -> None:
    times = {"gp": [0.1, 0.2, 0.3], "ax": [4.0, 8.0, 60.0]}
    records = [
        record(name, turn, kind="cold", wall=wall, cpu=wall / 2, whole=wall, queries=1)
        for name, walls in times.items()
        for turn, wall in enumerate(walls)
    ]
    records += [
        record("gp", kind="warm", wall=wall, cpu=wall, whole=wall, queries=1)
        for wall in (0.05, 0.05, 0.7)
    ]
    records += [
        record("slow", kind="cold", stopped_wall=90.0, stopped_cpu=30.0),
        record("huge", skipped="stopped"),
    ]
    records += [
        record("odd", kind="cold", error="ValueError: no"),
        record("none", kind="cold", wall=1.0, queries=0),
    ]
    text = scripts.overhead.tables(records, "ax", 3)
    head, _, row = text.splitlines()[2:5]
    columns = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    assert columns["gp, cold"] == "0.20 (40x)"
    assert columns["gp, warm"] == "0.050 to 0.70 [1 of 3] (160x)"
    assert columns["ax"] == "8.0"
    assert columns["slow"] == "> 90"
    assert columns["huge"] == "not tried"
    assert columns["odd"] == "failed"
    assert columns["none |"] == "no proposal |"
    bounded = scripts.overhead.tables(records, "slow", 3).splitlines()
    assert "0.20 (> 450x)" in bounded[4]
    assert "0.10 (> 300x)" in bounded[10], "of CPU seconds"
    assert "`ax` has cold asks alone, and warm ones are compared with these" in text.splitlines()[0]


def test_cold_asks_are_compared_with_cold_ones_and_warm_with_warm(scripts: Any) -> None:
    walls = {
        ("gp", "cold"): 0.2,
        ("gp", "warm"): 0.05,
        ("turbo", "cold"): 0.8,
        ("turbo", "warm"): 0.1,
    }
    records = [
        record(name, kind=kind, wall=wall, cpu=wall, whole=wall, queries=1)
        for (name, kind), wall in walls.items()
    ]
    text = scripts.overhead.tables(records, "turbo", 1)
    head, _, row = text.splitlines()[2:5]
    columns = dict(zip(head.strip("| ").split(" | "), row.strip("| ").split(" | "), strict=True))
    assert columns["gp, cold"] == "0.20 (4.0x)"
    assert columns["gp, warm"] == "0.050 to 0.050 (2.0x)"
    assert (columns["turbo, cold"], columns["turbo, warm"]) == ("0.80", "0.10 to 0.10")
    assert "cold by cold and warm by warm" in text.splitlines()[0]
    stopped = [r for r in records if (r["strategy"], r["kind"]) != ("turbo", "warm")]
    elsewhere = {**record("turbo", kind="warm", wall=0.1, cpu=0.1, whole=0.1, queries=1), "n": 99}
    first = scripts.overhead.tables([*stopped, elsewhere], "turbo", 1).splitlines()[4]
    assert "0.050 to 0.050 |" in first, (
        "no warm ask of the reference there: no ratio, rather than one by a cold one"
    )


def test_every_strategy_is_first_once(scripts: Any) -> None:
    orders = [scripts.overhead.rotated(["a", "b", "c"], turn) for turn in range(3)]
    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]
    assert scripts.overhead.rotated([], 2) == []


@pytest.mark.slow
def test_cells_larger_than_a_stopped_one_are_not_tried(scripts: Any) -> None:
    options = argparse.Namespace(
        rounds=2, warm=0, limit=5.0, spend=9.0, space="box", outputs=1, seed=0
    )
    before = [{"strategy": "random", "d": 2, "n": 10, "q": 1, "stopped_wall": 5.0, "kind": "cold"}]
    entrants, cell = (
        [scripts.entrants.Entrant("random"), scripts.entrants.Entrant("sobol")],
        scripts.entrants.Cell,
    )
    larger = scripts.overhead.measured(entrants, cell(2, 20, 1), options, before)
    assert [r["strategy"] for r in larger if "skipped" in r] == ["random"]
    assert {r["strategy"] for r in larger if "wall" in r} == {"sobol"}
    smaller = scripts.overhead.measured(entrants, cell(1, 20, 1), options, before)
    assert [r["strategy"] for r in smaller] == ["random", "sobol", "sobol", "random"]
    wrong = scripts.overhead.measured(
        [scripts.entrants.Entrant("random", {"x": 1})], cell(2, 5, 1), options, []
    )
    assert [set(r) >= {"error"} for r in wrong] == [True], "asked once, and not again"


def test_a_process_of_its_own_reports_its_stages(scripts: Any) -> None:
    options = argparse.Namespace(from_cold=None, warm=0, space="box", outputs=1, seed=0, limit=60.0)
    cell = scripts.entrants.Cell(3, 12, 2)
    ready, cold = scripts.scaling.child(scripts.entrants.Entrant("random"), cell, options)
    assert (ready["stage"], cold["stage"], cold["queries"]) == ("told", "cold", 2)
    assert 0 < ready["at"] <= cold["at"]
    assert 10 < ready["peak_mb"] <= cold["peak_mb"]
    (ended,) = scripts.scaling.child(scripts.entrants.Entrant("nothing"), cell, options)
    assert "no strategies named 'nothing'" in ended["why"]
    text = scripts.scaling.table([ready, cold, {**ended, "strategy": "nothing"}])
    assert "| random | 3 | 12 | 2 |" in text
    assert "no strategies named" in text
    assert "| random | 12 |" in scripts.scaling.starts([ready, cold])
