"""Expected reduction of the variance of the indicator, against simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.history import History
from bo_invert.models.inverse.fit import TargetOptions, fit_target_model
from bo_invert.models.inverse.information import information
from bo_invert.models.inverse.posterior_model import TargetModel


def fitted(outputs: int, points: int = 10) -> TargetModel:
    names = [f"y{j}" for j in range(outputs)]
    phases = np.linspace(0.0, 1.0, outputs)
    problem = bi.Problem(
        bi.Box([0.0] * 2, [1.0] * 2), lambda x: np.sin(4 * x[0] + 3 * x[1] ** 2 + phases),
        bi.Target(dict.fromkeys(names, 0.3), tolerance=1.0), outputs=names,
    )  # fmt: skip
    study = bi.Study.create("s", problem, "sobol", seed=0)
    study.run(points, stop_when_hit=False)
    return fit_target_model(problem.statement, History(study.trials), TargetOptions()).model


def test_reduction_agrees_with_simulated_observations() -> None:
    model = fitted(4)  # one Gaussian process per output: no average over hyperparameters
    rng = np.random.default_rng(0)
    particles, candidates = rng.random((200, 2)), rng.random((5, 2))
    # Simulations do not resolve changes of tiny probabilities.
    particles = particles[model.log_acceptance(particles) > np.log(0.1)]
    found = information(model, particles, candidates)
    before = model.log_acceptance(particles)
    simulated = []
    gp = model.surrogate.gp
    for candidate in candidates:
        inputs = model.unit(candidate[None])
        mean, variance = gp(inputs)
        spread = (variance[0] * model.inflation + gp.typical_noise.clamp(min=1e-8)).sqrt()
        seconds = []
        for normal in torch.randn(500, 4, generator=torch.Generator().manual_seed(1)).double():
            y = mean[0] + spread * normal
            after = TargetModel(
                model.domain, model.surrogate, model.region,
                gp=gp.extend(inputs, y[:, None, None]),
            )  # fmt: skip
            seconds.append(np.exp(2 * after.log_acceptance(particles)))
        a = np.exp(before)
        simulated.append(np.mean(np.mean(seconds, 0) / a - a))
    assert found == pytest.approx(simulated, rel=0.15, abs=0.005)


def test_known_points_inform_less_than_unknown_ones() -> None:
    model = fitted(1)
    particles = np.random.default_rng(1).random((100, 2))
    known = np.asarray(model.surrogate.gp.inputs.numpy())
    found = information(model, particles, np.concatenate([known, particles]))
    assert found[: len(known)].max() < 0.1 * found[len(known) :].max()


def test_pending_points_inform_no_more() -> None:
    model = fitted(1)
    particles = np.random.default_rng(2).random((100, 2))
    candidate = np.array([[0.9, 0.1]])
    before, after = (
        float(information(one, particles, candidate)[0]) for one in (model, model.given(candidate))
    )
    assert after < 0.2 * before


def test_principal_components_inform_where_undecided() -> None:
    model = fitted(20)
    assert model.share < 1.0
    found = information(
        model, np.random.default_rng(3).random((50, 2)), np.random.default_rng(4).random((4, 2))
    )
    assert (found > 0).all()
    assert (found <= 1).all()
