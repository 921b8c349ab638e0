"""Mixtures of seeds: their geometry, which seeds are taken, and that searching among them pays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import ks_2samp

import bo_invert as bi
from bo_invert.strategies.sampling import Prior
from bo_invert.strategies.surrogate_latent import coordinates, mixtures, weights
from bo_invert.types import Array


def slope(d: int = 40, **options: Any) -> bi.Problem:
    """A latent whose decoder changes nothing, and a straight slope in it."""
    direction = np.random.default_rng(0).standard_normal(d)
    direction /= np.linalg.norm(direction)
    return bi.Problem(
        bi.Latent(lambda z: z, dim=d), lambda x: float(x @ direction), bi.Minimize(), **options
    )


@pytest.mark.parametrize("k", [2, 3, 8])
def test_weights_are_uniform_on_the_positive_sphere(k: int) -> None:
    rng = np.random.default_rng(11)
    w = weights(rng.random((4000, k)))
    assert w.shape == (4000, k)
    assert (w >= 0).all()
    np.testing.assert_allclose((w**2).sum(1), 1.0)
    normal = np.abs(rng.standard_normal((4000, k)))
    expected = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    for j in range(k):
        assert ks_2samp(w[:, j], expected[:, j]).pvalue > 1e-3
    np.testing.assert_allclose(w.T @ w / len(w), expected.T @ expected / len(w), atol=0.03)


def test_coordinates_of_weights() -> None:
    w = weights(np.random.default_rng(2).random((50, 5)))
    np.testing.assert_allclose(weights(coordinates(w)), w, atol=1e-6)
    np.testing.assert_allclose(weights(coordinates(np.eye(5))), np.eye(5), atol=1e-5)
    corners = weights(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]))
    np.testing.assert_allclose(np.linalg.norm(corners, axis=1), 1.0)


def test_mixtures_stay_on_the_shell_of_their_seeds() -> None:
    rng = np.random.default_rng(3)
    many = mixtures(weights(rng.random((200, 6))), rng.standard_normal((6, 1000)))
    assert np.abs(np.linalg.norm(many, axis=1) / np.sqrt(1000) - 1).max() < 0.1
    alike = np.array([[2.0, 0.1], [2.0, -0.1], [1.9, 0.3]])
    few = mixtures(weights(rng.random((200, 3))), alike)
    assert np.linalg.norm(few, axis=1).max() <= np.linalg.norm(alike, axis=1).max() + 1e-9


def test_boxes_are_refused() -> None:
    problem = bi.Problem(bi.Box([0.0], [1.0]), lambda x: float(x[0]), bi.Minimize(), name="boxed")
    with pytest.raises(bi.UnsuitableStrategyError, match=r"'o3' .*'boxed' is a box.*'gp'"):
        bi.Study.create("s", problem, strategy="o3")


def test_bad_options_are_refused() -> None:
    for options in ({"seeds": 1}, {"draws": 3, "seeds": 4}, {"renew": -1}):
        with pytest.raises(bi.InvalidInputError, match="o3"):
            bi.Study.create("s", slope(), strategy={"name": "o3", "options": options})


def test_seeds_are_the_best_draws_and_do_not_drift() -> None:
    study = bi.Study.create(
        "s", slope(), strategy={"name": "o3", "options": {"seeds": 3, "draws": 9, "renew": 0}}
    )
    study.run(12)
    first = study.trials[9].query.meta["seeds"]
    assert first == [int(i) for i in np.argsort([t.loss for t in study.trials[:9]])[:3]]
    study.add(points=-20.0 * study.trials[0].point[None], Y=[[-100.0]])
    study.run(15)
    mixed = [trial for trial in study.trials if "w" in trial.query.meta]
    assert [trial.query.meta["seeds"] for trial in mixed] == [first] * 6
    corners = np.array([study.trials[number].point for number in first])
    for trial in mixed:
        at = mixtures(np.array([trial.query.meta["w"]]), corners)
        np.testing.assert_allclose(study.problem.space.domain.project(at)[0], trial.point)


@pytest.mark.slow
def test_better_seeds_are_taken_in_time() -> None:
    study = bi.Study.create(
        "s", slope(), strategy={"name": "o3", "options": {"seeds": 3, "draws": 6, "renew": 4}}
    )
    study.run(16)
    seeds = [trial.query.meta["seeds"] for trial in study.trials[6:]]
    assert seeds[3] == seeds[0]
    assert seeds[4] != seeds[0]
    worst = max(study.trials[number].loss for number in seeds[4])
    assert worst < max(study.trials[number].loss for number in seeds[0])


def test_data_of_the_user_are_draws() -> None:
    problem = slope()
    study = bi.Study.create(
        "s", problem, strategy={"name": "o3", "options": {"seeds": 3, "draws": 5}}
    )
    points: Array = problem.space.sample(np.random.default_rng(4), 5)
    study.add(points=points, Y=[problem.evaluate([bi.Query(point)])[0].y for point in points])
    (trial,) = study.ask(1)
    assert len(trial.query.meta["w"]) == 3


@pytest.mark.slow
def test_mixing_beats_drawing() -> None:
    problem = slope()
    o3 = {"name": "o3", "options": {"draws": 24, "seeds": 6}}
    for seed in range(1):
        mixed, drawn = (
            bi.Study.create("s", problem, strategy=spec, seed=seed).run(36, batch=4).best.loss
            for spec in (o3, Prior())
        )
        assert mixed < drawn - 0.2


@pytest.mark.slow
def test_of_many_mixtures_some_are_modelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of an ask must not grow with the third power of the log."""
    from bo_invert.models import fitted_model
    from bo_invert.models.gp.surrogate import fit_surrogate
    from bo_invert.strategies import surrogate_latent as selection

    sizes: list[int] = []
    fit, telling = fit_surrogate, selection.select_subset

    def counted(inputs: Array, *args: Any, **options: Any) -> Any:
        sizes.append(len(inputs))
        return fit(inputs, *args, **options)

    monkeypatch.setattr(
        selection, "select_subset", lambda inputs, ranking: telling(inputs, ranking, 12)
    )
    monkeypatch.setattr(fitted_model, "fit_surrogate", counted)
    strategy = {"name": "o3", "options": {"seeds": 3, "draws": 6, "renew": 0}}
    bi.Study.create("s", slope(), strategy=strategy).run(25, batch=3)
    assert max(sizes) == 12
