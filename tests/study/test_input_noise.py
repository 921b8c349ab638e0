"""Robust inversion: noise of the inputs, yields, and the strategy that maximises them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.domains.input_noise import InputNoise
from bo_invert.errors import ProblemChangedError
from bo_invert.problems.json_declaration import declaration_of, problem_from_declaration


def peaks(v: dict[str, float]) -> float:
    narrow = 1.2 * np.exp(-(((v["a"] - 0.2) / 0.04) ** 2))
    broad = 1.0 * np.exp(-(((v["a"] - 0.7) / 0.2) ** 2))
    return float(narrow + broad - 0.1 * (v["b"] - 0.5) ** 2)


def noisy_problem(noise: Any = 0.06, objective: Any = None) -> bi.Problem:
    box = bi.Box({"a": bi.Float(0, 1), "b": bi.Float(0, 1)})
    target = objective or bi.Target({"y": (0.8, None)})
    return bi.Problem(box, peaks, target, outputs=["y"], input_noise=noise)


def true_yield(design: dict[str, float], size: float = 0.06) -> float:
    rng = np.random.default_rng(3)
    made = [
        {name: float(np.clip(value + size * rng.normal(), 0, 1)) for name, value in design.items()}
        for _ in range(2000)
    ]
    return float(np.mean([peaks(one) >= 0.8 for one in made]))


@pytest.fixture(scope="module")
def robust_study() -> bi.Study:
    study = bi.Study.create("robust", noisy_problem(), seed=0)
    study.enqueue({"a": 0.2, "b": 0.5})  # a narrow peak that meets the target
    return study.run(28)


def test_robust_design_lies_on_the_broad_peak(robust_study: bi.Study) -> None:
    found = robust_study.recommend()
    assert found.robust is not None
    assert found.trial.design["a"] == pytest.approx(0.7, abs=0.07)
    assert found.robust.expected == pytest.approx(true_yield(found.trial.design), abs=0.06)
    assert found.robust.low <= found.robust.expected <= found.robust.high
    nominal = robust_study.input_yield(0)
    assert nominal.expected < 0.7 * found.robust.expected
    assert nominal.expected == pytest.approx(true_yield(robust_study.trials[0].design), abs=0.1)
    assert "yield" in repr(found)


def test_run_continues_after_a_hit_and_uses_robust(robust_study: bi.Study) -> None:
    assert len(robust_study.trials) == 28
    assert {trial.origin for trial in robust_study.trials[1:]} == {"robust"}


def test_equal_logs_give_equal_proposals() -> None:
    def asked() -> list[list[float]]:
        study = bi.Study.create("same", noisy_problem(), "robust", seed=5).run(10)
        return [trial.point.tolist() for trial in study.ask(3)]

    assert asked() == asked()


def test_expected_loss_of_other_objectives() -> None:
    study = bi.Study.create("max", noisy_problem(0.06, bi.Maximize("y")), seed=0).run(30)
    found = study.recommend()
    assert found.robust is not None
    assert found.robust.kind == "expected loss"
    assert found.trial.design["a"] == pytest.approx(0.7, abs=0.07)
    sharp = study.input_yield({"a": 0.2, "b": 0.5})
    assert sharp.expected > found.robust.expected


def test_deviations_have_the_units_of_the_parameters() -> None:
    space = bi.Box(
        {
            "a": bi.Float(10.0, 30.0),
            "r": bi.Float(0.1, 10.0, log=True),
            "n": bi.Int(0, 5),
            "z": bi.Float(0, 1),
        }
    )
    noise = InputNoise.read({"a": 2.0, "r": ("uniform", 0.05)}, space.domain)
    assert noise is not None
    uniform = np.random.default_rng(0).random((4000, 2))
    point = space.domain.point({"a": 20.0, "r": 1.0, "n": 3, "z": 0.5})
    made = space.domain.values(noise.moved(space.domain, point[None], uniform)[0])
    a, r = (np.array([one[name] for one in made]) for name in ("a", "r"))
    assert a.std() == pytest.approx(2.0, rel=0.05)
    assert r.min() == pytest.approx(0.95, abs=1e-3)
    assert r.max() == pytest.approx(1.05, abs=1e-3)
    assert {(one["n"], one["z"]) for one in made} == {(3, 0.5)}


def test_statement_declaration_and_log_hold_the_noise() -> None:
    problem = noisy_problem({"a": 0.05, "b": ("uniform", 0.1)})
    stated = {"a": 0.05, "b": ["uniform", 0.1]}
    assert problem.to_json()["input_noise"] == stated
    declared = json.loads(json.dumps(declaration_of(problem)))
    rebuilt = problem_from_declaration(declared, "p")
    assert rebuilt.statement.to_json()["input_noise"] == stated
    assert "input_noise" not in noisy_problem(None).to_json()
    study = bi.Study.create("log", problem, "sobol", seed=0)
    with pytest.raises(ProblemChangedError, match="input_noise"):
        bi.Study.open("log", study._store, problem=noisy_problem(0.05))


def test_latents_have_one_size() -> None:
    problem = bi.ready_problem("digits")
    noise = InputNoise.read(0.1, problem.domain)
    assert noise is not None
    points = problem.space.sample(np.random.default_rng(0), 3)
    columns = len(noise.columns(problem.domain))
    made = noise.moved(problem.domain, points, np.random.default_rng(0).random((500, columns)))
    assert made.shape == (3, 500, problem.domain.dim)
    assert (made - points[:, None]).std() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ({"c": 0.1}, "must name real parameters among"),
        ({"a": -0.1}, "must be >= 0"),
        ({"a": "wide"}, "must be a finite number"),
        ({"a": ("triangular", 0.1)}, "'uniform', half-width"),
    ],
)
def test_invalid_noise_is_refused(noise: Any, message: str) -> None:
    with pytest.raises(bi.InvalidInputError, match=message):
        noisy_problem(noise)


def test_strategy_and_yield_need_noise() -> None:
    with pytest.raises(bi.UnsuitableStrategyError, match="needs noise of the inputs"):
        bi.Study.create("s", noisy_problem(None), "robust")
    study = bi.Study.create("t", noisy_problem(None), "sobol", seed=0).run(4)
    with pytest.raises(bi.InvalidInputError, match="input_noise"):
        study.input_yield(0)


def test_yields_far_from_clustered_observations_are_in_their_intervals() -> None:
    """Function that varies slower at its best design than at most observations."""

    def chirp(v: dict[str, float]) -> float:
        return float(np.sin(8.0 * v["a"] ** 2))

    box = bi.Box({"a": bi.Float(0, 2)})
    target = bi.Target({"y": 1.0}, tolerance=0.3)
    problem = bi.Problem(box, chirp, target, outputs=["y"], input_noise=0.05)
    study = bi.Study.create("chirp", problem, "sobol", seed=0)
    points = np.concatenate([np.linspace(1.2, 1.5, 16), [0.15, 0.6, 0.9, 1.8]])
    for a in points:
        study.enqueue({"a": float(a)})
    study.run(len(points), stop_when_hit=False)
    moves = 0.05 * np.random.default_rng(0).normal(size=4000)
    designs = np.linspace(0.0, 2.0, 21)
    covered = 0
    for a in designs:
        found = study.input_yield({"a": float(a)})
        made = np.clip(a + moves, 0.0, 2.0)
        truth = np.mean(np.abs(np.sin(8.0 * made**2) - 1.0) <= 0.3)
        covered += found.low - 0.02 <= truth <= found.high + 0.02
    assert covered >= 0.85 * len(designs)
    near = study.input_yield({"a": 1.35})
    assert near.high - near.low < 0.15


def test_recommendation_separates_outputs_without_noise(robust_study: bi.Study) -> None:
    found = robust_study.recommend()
    assert found.design == found.trial.design
    assert "without noise of the inputs: y" in repr(found)
    assert "  expected y" not in repr(found)
