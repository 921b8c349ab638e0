"""Posterior of the designs of a study."""

from __future__ import annotations

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.types import Array


def himmelblau(x: Array) -> float:
    a, b = x
    return float((a**2 + b - 11.0) ** 2 + (a + b**2 - 7.0) ** 2)


ROOTS = np.array([[3.0, 2.0], [-2.805118, 3.131312], [-3.779310, -3.283186], [3.584428, -1.848126]])


def problem(**options: object) -> bi.Problem:
    target = bi.Target({"y": 0.0}, **{"tolerance": 1.0, **options})  # type: ignore[arg-type]
    return bi.Problem(bi.Box([-6.0] * 2, [6.0] * 2), himmelblau, target, outputs=["y"])


@pytest.fixture(scope="module")
def study() -> bi.Study:
    made = bi.Study.create("himmelblau", problem(), "inverse", seed=0)
    return made.run(200)  # continues after the first hit


def test_search_finds_all_branches_and_ends_by_itself(study: bi.Study) -> None:
    hits = np.array([trial.design for trial in study.trials if trial.loss <= 1.0])  # type: ignore[operator]
    distances = np.linalg.norm(hits[:, None] - ROOTS, axis=2).min(0)
    assert (distances < 0.6).all()
    assert len(study.trials) < 150
    checks = [trial for trial in study.trials if "check" in trial.query.meta]
    assert len(checks) >= 12
    assert "cover nearly all" in study.ended


def test_samples_meet_the_target_as_often_as_stated(study: bi.Study) -> None:
    found = study.posterior(400)
    met = np.array([himmelblau(x) <= 1.0 for x in found.designs])
    assert met.mean() == pytest.approx(found.expected_hits, abs=0.15)
    assert found.expected_hits > 0.5
    assert found.verified_share > 0.9
    assert sorted(set(found.branches.tolist())) == [0, 1, 2, 3]
    nearest = np.linalg.norm(np.array(found.designs)[:, None] - ROOTS, axis=2).argmin(1)
    roots = [np.bincount(nearest[found.branches == branch]).argmax() for branch in range(4)]
    assert sorted(roots) == [0, 1, 2, 3]
    # Outlying samples count to the nearest branch.
    assert np.mean(np.array(roots)[found.branches] == nearest) > 0.98
    true = np.random.default_rng(0).uniform(-6, 6, (200_000, 2))
    share = np.mean([himmelblau(x) <= 1.0 for x in true[:50_000]])
    assert found.reachable_mass == pytest.approx(share, rel=0.5)


def test_table_and_text(study: bi.Study) -> None:
    found = study.posterior(60)
    frame = found.to_dataframe()
    assert list(frame.columns) == ["x0", "x1", "y", "hit", "branch"]
    assert len(frame) == len(found) == 60
    assert "60 samples" in repr(found)
    assert "4 branches" in repr(found)


def test_equal_seeds_give_equal_samples(study: bi.Study) -> None:
    first, second = study.posterior(50, seed=3), study.posterior(50, seed=3)
    assert np.array_equal(first.points, second.points)
    assert not np.array_equal(first.points, study.posterior(50, seed=4).points)


def test_measurement_noise_widens_the_posterior(study: bi.Study) -> None:
    narrow, wide = study.posterior(200, noise=0.5), study.posterior(200, noise={"y": 30.0})
    spread = [
        np.linalg.norm(np.array(one.designs)[:, None] - ROOTS, axis=2).min(1).mean()
        for one in (narrow, wide)
    ]
    assert spread[1] > 2.0 * spread[0]


def test_target_without_tolerance_gets_one() -> None:
    study = bi.Study.create("s", problem(tolerance=0.0), "sobol", seed=0).run(30)
    assert len(study.posterior(50)) == 50
    narrow, wide = (study.posterior(50, tolerance=width) for width in (5.0, 100.0))
    assert wide.reachable_mass > 3.0 * narrow.reachable_mass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n must be"),
        ({"tolerance": 0.0}, "tolerance must be > 0"),
        ({"tolerance": "wide"}, "tolerance must be"),
        ({"tolerance": 0.5}, "posterior: tolerance must be left out"),
        ({"noise": 0}, "standard deviation > 0"),
        ({"noise": {"y": 0.0}}, "standard deviation > 0"),
        ({"noise": -1.0}, "standard deviations >= 0"),
        ({"noise": [1.0, 2.0]}, "noise must be 1 standard deviations"),
        ({"noise": {"z": 1.0}}, "'z'.*'y'"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_arguments_are_checked(study: bi.Study, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(bi.InvalidInputError, match=message):
        study.posterior(**arguments)  # type: ignore[arg-type]


def test_other_objectives_are_refused() -> None:
    plain = bi.Problem(bi.Box([0.0], [1.0]), lambda x: float(x[0]), bi.Minimize())
    study = bi.Study.create("s", plain, "sobol", seed=0).run(5)
    with pytest.raises(bi.InvalidInputError, match="must have a target"):
        study.posterior()
    with pytest.raises(bi.UnsuitableStrategyError, match="'inverse' needs a target"):
        bi.Study.create("t", plain, "inverse")


def test_few_observations_are_refused() -> None:
    study = bi.Study.create("s", problem(), "sobol", seed=0)
    with pytest.raises(bi.InvalidInputError, match="at least 2 observations, got 0"):
        study.posterior()
