"""Search for all solutions of a target by any strategy, and solutions by branch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.types import Array

WELLS = np.array([[0.2, 0.2], [0.8, 0.3], [0.4, 0.85]])


def depth(x: Array) -> float:
    return float(1.0 - np.exp(-40.0 * ((x - WELLS) ** 2).sum(1)).sum())


def problem() -> bi.Problem:
    target = bi.Target({"y": 0.1}, tolerance=0.05)
    return bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), depth, target, outputs=["y"])


@pytest.fixture(scope="module")
def study() -> bi.Study:
    return bi.Study.create("wells", problem(), "gp", seed=0).run(150, find="all")


def test_the_run_continues_after_the_first_solution_and_ends(study: bi.Study) -> None:
    hits = [trial.number for trial in study.trials if trial.loss <= 0.05**2]  # type: ignore[operator]
    origins = [trial.query.origin for trial in study.trials]
    first = origins.index("inverse")
    assert hits[0] < first
    assert set(origins[:first]) <= {"gp", "sobol"}
    assert set(origins[first:]) == {"inverse"}
    assert len(study.trials) < 150
    assert "cover nearly all" in study.ended


def test_solutions_are_one_of_each_branch_first(study: bi.Study) -> None:
    found = study.solutions(3)
    rings = [int(np.linalg.norm(one.design - WELLS, axis=1).argmin()) for one in found]
    assert sorted(rings) == [0, 1, 2]
    assert len({one.branch for one in found}) == 3
    assert found[0].trial.number == study.best.number  # type: ignore[union-attr]
    assert "branch" in repr(found)
    assert "of the solutions that the model expects" in repr(found)
    (best,) = study.solutions()
    assert best.branch is None


def test_distance_separates_designs_of_a_branch(study: bi.Study) -> None:
    found = [one for one in study.solutions(30, distance=0.1) if one.branch is not None]
    for one in found:
        others = [two for two in found if two.branch == one.branch and two is not one]
        gaps = [np.sqrt(np.mean((one.design - two.design) ** 2)) for two in others]
        assert min(gaps, default=1.0) >= 0.1
    with pytest.raises(bi.InvalidInputError, match="distance must be >= 0"):
        study.solutions(3, distance=-1.0)


def test_an_interrupted_run_asks_the_same_points(study: bi.Study, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/a.db"
    bi.Study.create("wells", problem(), "gp", seed=0, storage=storage).run(
        150, find="all", stop=bi.stop.cost(30)
    )
    again = bi.Study.open("wells", storage, problem())
    assert len(again.trials) == 30
    again.run(150, find="all", stop=bi.stop.cost(36))
    for one, two in zip(again.trials, study.trials, strict=False):
        assert np.array_equal(one.point, two.point)


def test_the_strategy_of_the_study_continues_with_its_own_memo(study: bi.Study) -> None:
    other = bi.Study.create("wells", problem(), "gp", seed=0)
    other.run(150, find="all", stop=bi.stop.cost(25))
    other.run(28, find="best", stop_when_hit=False)
    assert [trial.query.origin for trial in other.trials[-3:]] == ["gp"] * 3


def test_a_single_solution_is_the_default_of_other_strategies() -> None:
    found = bi.Study.create("wells", problem(), "gp", seed=0).run(150)
    assert "the target is reached" in found.ended


@pytest.mark.parametrize("find", ["every", True])
def test_invalid_values(find: object) -> None:
    made = bi.Study.create("s", problem())
    with pytest.raises(bi.InvalidInputError, match="find must be 'best' or 'all'"):
        made.run(5, find=find)  # type: ignore[arg-type]
    free = bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), depth, bi.Minimize())
    with pytest.raises(bi.InvalidInputError, match="find='all' needs a target"):
        bi.Study.create("s", free).run(5, find="all")


def test_near_misses_follow_the_solutions() -> None:
    made = bi.Study.create("s", problem(), "sobol", seed=0)
    points = list(np.concatenate([WELLS + np.array([0.05, 0.0]), [[0.5, 0.5], [0.1, 0.9]]]))
    made.add(points, [depth(x) for x in points])
    made.run(8, stop_when_hit=False)
    found = made.solutions(8)
    hits = [one.branch is not None for one in found]
    assert hits == sorted(hits, reverse=True)
    assert len(found) == 8
