from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime

import bo_invert as bi
from bo_invert.domain import Domain
from bo_invert.models import acquisition, base, exact, search
from bo_invert.models.outputs import Outputs
from bo_invert.threads import one_thread


def smooth(x: np.ndarray) -> np.ndarray:
    return np.column_stack([np.sin(4 * x[:, 0]) + 0.1 * x[:, 1], 50.0 + 20.0 * np.cos(3 * x[:, 1])])


def statement(objective: Any, m: int, constraints: Any = (), d: int = 2) -> bi.Statement:
    space = bi.Box([0.0] * d, [1.0] * d)
    return bi.Problem(space, None, objective, outputs=m, constraints=constraints).statement


def test_likelihood_gradient_is_the_likelihoods() -> None:
    rng = np.random.default_rng(0)
    x, z = rng.random((12, 3)), rng.standard_normal(12)
    at = np.log([0.4, 0.9, 2.0, 0.05])
    value, gradient = base._negative_log_posterior(at, x, z, base.NOISY)
    numeric = approx_fprime(at, lambda logs: base._negative_log_posterior(logs, x, z, base.NOISY)[0], 1e-6)
    assert np.isfinite(value)
    assert np.allclose(gradient, numeric, rtol=1e-4, atol=1e-4)


def test_hyperparameters_tell_relevant_inputs_and_noise() -> None:
    rng = np.random.default_rng(1)
    x = rng.random((60, 2))
    signal = np.sin(6 * x[:, 0])
    exactly = base.fit_hyperparameters(x, (signal - signal.mean()) / signal.std(), base.EXACT)
    assert exactly.lengthscales[0] < 0.3 * exactly.lengthscales[1]
    assert exactly.noise < 1e-6
    noisy = signal + 0.3 * rng.standard_normal(60)
    roughly = base.fit_hyperparameters(x, (noisy - noisy.mean()) / noisy.std(), base.EXACT)
    assert 0.03 < roughly.noise < 0.5


@pytest.mark.parametrize("n", [1, 2, 5])
def test_constant_and_repeated_data_do_not_break_the_fit(n: int) -> None:
    x = np.full((n, 2), 0.5)
    surrogate = exact.fit(x, np.full((n, 1), 3.0))
    assert surrogate.mean(torch.full((1, 1, 2), 0.5, dtype=torch.float64)).item() == pytest.approx(3.0)


def test_surrogate_interpolates_in_raw_units() -> None:
    rng = np.random.default_rng(2)
    x = rng.random((40, 2))
    surrogate = exact.fit(x, smooth(x))
    new = rng.random((20, 2))
    with torch.no_grad():
        told = surrogate.mean(torch.tensor(x)).numpy()
        guessed = surrogate.mean(torch.tensor(new)).numpy()
    assert np.abs(told - smooth(x)).max() < 1e-3
    assert np.abs(guessed - smooth(new)).max() < 0.2


def test_many_outputs_become_few_components() -> None:
    rng = np.random.default_rng(3)
    grid = np.linspace(0.0, 1.0, 120)

    def spectrum(x: np.ndarray) -> np.ndarray:
        return np.sin(5 * grid * x[:, :1]) + np.exp(-(((grid - x[:, 1:]) / 0.3) ** 2))

    x, new = rng.random((50, 2)), rng.random((10, 2))
    surrogate = exact.fit(x, spectrum(x))
    assert 2 <= surrogate.weights.shape[0] <= exact.MANY
    with torch.no_grad():
        guessed = surrogate.mean(torch.tensor(new)).numpy()
    assert guessed.shape == (10, 120)
    assert np.abs(guessed - spectrum(new)).max() < 0.1


def test_memo_saves_a_fit_and_is_ignored_when_it_does_not_match() -> None:
    x = np.random.default_rng(4).random((30, 2))
    first = exact.fit(x[:29], smooth(x[:29]))
    assert first.memo["n"] == 29
    assert exact.fit(x, smooth(x), first.memo).memo["n"] == 30
    later = exact.fit(np.vstack([x, x + 1e-3]), smooth(np.vstack([x, x])), {**first.memo, "n": 60})
    assert later.memo["hyperparameters"] == first.memo["hyperparameters"]
    other = exact.fit(x[:, :1], smooth(x), first.memo)
    assert len(other.memo["hyperparameters"][0]) == 2


def test_outputs_model_only_what_is_read() -> None:
    y = np.random.default_rng(5).standard_normal((6, 4))
    told = statement(bi.Minimize("y2"), 4, ["y0 <= 0.5"])
    outputs = Outputs(told, y, y[:, 2])
    assert outputs.columns == [0, 2]
    modelled = torch.tensor(outputs.values)
    assert np.allclose(outputs.loss(modelled), y[:, 2])
    assert ((outputs.violation(modelled).numpy() > 0) == (y[:, 0] > 0.5)).all()
    assert not outputs.plain


def test_a_composite_without_tensors_is_modelled_by_its_loss() -> None:
    y = np.random.default_rng(6).standard_normal((5, 2))
    losses = np.abs(y).sum(-1)
    works = Outputs(statement(bi.Composite(lambda v: abs(v).sum(-1)), 2), y, losses)
    assert works.composite
    assert works.values.shape == (5, 2)
    fails = Outputs(statement(bi.Composite(lambda v: np.abs(np.asarray(v)).sum(-1)), 2, ["y1 <= 0"]), y, losses)
    assert fails.by_loss
    assert np.allclose(fails.loss(torch.tensor(fails.values)), losses)
    assert ((fails.violation(torch.tensor(fails.values)).numpy() > 0) == (y[:, 1] > 0)).all()


def test_composite_improvement_peaks_at_the_inverse() -> None:
    """Two outputs are known well enough that their joint target can be read off, which the loss alone does not show."""
    x = np.random.default_rng(7).random((40, 2))
    wanted = np.array([[0.31, 0.62]])
    target = bi.Target(smooth(wanted)[0], scale=[1.0, 20.0])
    told = statement(target, 2)
    losses = told.objective.loss(smooth(x))
    outputs = Outputs(told, smooth(x), losses)
    with exact.settled(0):
        surrogate = exact.fit(x, outputs.values)
        score = acquisition.improvement(
            surrogate, outputs, x, losses, np.ones(40, bool), pending=np.empty((0, 2)), seed=0
        )
        rng = np.random.default_rng(0)
        found = search.maximise(score, told.domain, x[np.argsort(losses)[:3]], list(x), rng)
    assert float(told.objective.loss(smooth(found[None]))[0]) < 1e-5 < losses.min()


def test_feasibility_learns_where_nothing_came_back() -> None:
    x = np.random.default_rng(8).random((60, 2))
    surrogate = exact.fit(x, (x[:, :1] < 0.6).astype(float), belief=base.LABELS)
    chance = acquisition.feasibility(surrogate)(torch.tensor([[[0.2, 0.5]], [[0.95, 0.5]]], dtype=torch.float64)).exp()
    assert chance[0] > 0.8
    assert chance[1] < 0.2


def test_search_avoids_known_points_until_none_are_left() -> None:
    domain = bi.Box({"n": bi.Int(1, 3), "kind": bi.Choice("a", "b")}).domain
    rng = np.random.default_rng(9)

    def score(inputs: torch.Tensor) -> torch.Tensor:
        return -inputs.sum((-1, -2))

    found: list[np.ndarray] = []
    for _ in range(6):
        found.append(search.maximise(score, domain, np.array(found).reshape(-1, 2), found, rng))
    assert len(np.unique(np.array(found), axis=0)) == 6
    assert found[0].tolist() == domain.encode([{"n": 1, "kind": "a"}])[0].tolist()
    assert base.seen(search.maximise(score, domain, np.array(found), found, rng)[None], found).all()


def test_search_stays_within_the_radius_of_a_latent() -> None:
    domain = Domain("gaussian", 4, {}, radius=2.5)
    rng = np.random.default_rng(10)
    point = search.maximise(lambda inputs: inputs.sum((-1, -2)), domain, np.zeros((1, 4)), [], rng)
    assert np.linalg.norm(point) == pytest.approx(2.5)
    assert np.allclose(point, 1.25, atol=1e-3)


def test_trust_region_bounds_the_search() -> None:
    domain = bi.Box([0.0] * 3, [1.0] * 3).domain
    centre = np.array([0.5, 0.5, 0.98])
    rng = np.random.default_rng(11)
    point = search.maximise_near(lambda inputs: inputs.sum((-1, -2)), domain, centre, 0.05, [centre], rng)
    assert np.allclose(point, [0.55, 0.55, 1.0])


def test_one_thread_restores_what_was_set() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_a_plateau_is_noticed_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.random((20, 2))
    smooth = np.sin(3 * inputs[:, :1])
    assert base.plateau(inputs, smooth) == 0.0
    steps = np.round(4 * inputs[:, :1])
    wide = base.plateau(inputs, steps)
    assert 0.0 < wide <= 0.1 * 2**0.5
    near = inputs[:2] + 1e-4
    found = base.plateau(np.concatenate([inputs, near]), np.concatenate([smooth, smooth[:2]]))
    assert found == pytest.approx(2 * np.sqrt(2) * 1e-4)


def test_search_keeps_its_distance_when_told_to() -> None:
    domain = bi.Box([0.0, 0.0], [1.0, 1.0]).domain
    best = np.array([0.3, 0.7])
    target = torch.tensor(best)

    def score(inputs: torch.Tensor) -> torch.Tensor:
        return -((inputs[:, 0] - target) ** 2).sum(-1)

    rng = np.random.default_rng
    free = search.maximise(score, domain, best[None], [best], rng(0))
    apart = search.maximise(score, domain, best[None], [best], rng(0), apart=0.05)
    assert np.linalg.norm(free - best) < 0.01
    assert 0.05 <= np.linalg.norm(apart - best) < 0.15
