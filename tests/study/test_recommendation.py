"""Recommendations for noisy oracles: the point of best expected loss, not the best value."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.cli import main as cli
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.denoised_observations import MEASURED, posterior_expectation
from bo_invert.models.fitted_model import fit_model
from bo_invert.models.gp.hyperparameter_averaging import averaged_posterior
from bo_invert.models.gp.surrogate import ModelSearchSpace, fit_surrogate
from bo_invert.storage.memory import MemoryStore
from bo_invert.study.recommendation import Recommendation, known_noisy


def bowl(x: Any) -> float:
    return float(((np.asarray(x) - 0.3) ** 2).sum())


def answers(fn: Any, noise: float, seed: int = 0) -> Any:
    """``fn`` with noise on each of its outputs."""
    rng = np.random.default_rng(seed)

    def oracle(x: Any) -> Any:
        clean = fn(x)
        if isinstance(clean, dict):
            return {name: value + noise * rng.standard_normal() for name, value in clean.items()}
        return np.asarray(clean) + noise * rng.standard_normal(np.shape(clean))

    return oracle


def noisy_bowl(seed: int = 0, noise: float = 0.1, **options: Any) -> bi.Problem:
    return bi.Problem(
        bi.Box([0.0] * 2, [1.0] * 2),
        answers(bowl, noise, seed),
        bi.Minimize(),
        name="noisy",
        **options,
    )


def wavy(x: Any) -> list[float]:
    return [float(np.sin(3.0 * x[0]) + x[1]), float(x[0] * x[1])]


def ordered(found: Recommendation) -> bool:
    return all(low <= middle <= high for low, middle, high in (found.loss, *found.outputs.values()))


def test_an_exact_oracle_is_taken_at_its_word() -> None:
    problem = bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), wavy, bi.Target([1.0, 0.2]), name="exact")
    study = bi.Study.create("s", problem, strategy="random", seed=0).run(12)
    found = study.recommend()
    assert found.trial.number == study.best.number
    assert not found.noisy
    assert found.loss == (study.best.loss,) * 3
    assert [interval.expected for interval in found.outputs.values()] == list(study.best.y)
    assert found.luck == ""
    assert study.spent.calls == 12


def close_answers(noise: float) -> Any:
    """Return a study of given points around one, without repeats."""
    study = bi.Study.create("s", noisy_bowl(), strategy="random", seed=0)
    rng = np.random.default_rng(0)
    for x in 0.4 + 10.0 ** rng.uniform(-2.5, -1.0, (40, 1)) * rng.normal(size=(40, 2)):
        study.add(x[None], [[bowl(x) + noise * rng.standard_normal()]])
    return study


def test_noise_is_detected_without_declaration_or_repeats() -> None:
    assert close_answers(0.1).recommend().noisy
    assert not close_answers(0.1).recommend(noisy=False).noisy
    exact = close_answers(0.0)
    assert not exact.recommend().noisy
    assert exact.recommend().trial.number == exact.best.number


@pytest.mark.slow
def test_what_is_recommended_is_better_than_the_luckiest() -> None:
    """By the true loss, over 12 random searches of 40 calls."""
    noise = 0.1
    lucky, recommended, inside = [], [], 0
    for seed in range(12):
        study = bi.Study.create("s", noisy_bowl(seed, noise), strategy="random", seed=seed).run(40)
        found = study.recommend(noisy=True)
        lucky.append(bowl(study.best.design))
        recommended.append(bowl(found.trial.design))
        inside += found.loss.low <= recommended[-1] <= found.loss.high
    assert np.median(recommended) < 0.75 * np.median(lucky)
    assert np.mean(recommended) < np.mean(lucky)
    assert inside >= 7, "90 % intervals, chosen where they look best"


@pytest.mark.slow
def test_intervals_hold_the_truth_where_noise_is_most_of_what_is_seen() -> None:
    """There the most probable hyperparameters alone follow every answer, and are sure of it."""
    chosen = everywhere = points = single = 0
    for seed in range(5):
        space = bi.Box([0.0] * 5, [1.0] * 5)
        problem = bi.Problem(
            space, answers(bowl, 0.3, seed), bi.Minimize(), outputs=["y"], name="deep"
        )
        study = bi.Study.create("s", problem, strategy="random", seed=seed).run(60)
        clean = np.array([bowl(trial.design) for trial in study.trials])
        low, middle, high = posterior_expectation(study.statement, study.history).losses
        everywhere += int(((low <= clean) & (clean <= high)).sum())
        points += len(clean)
        at = int(middle.argmin())
        chosen += low[at] <= clean[at] <= high[at]
        with one_thread():
            usual = fit_model(
                study.statement, study.history, study.history.points, noisy=True
            ).surrogate
        mean, variance = (moment[:, 0].numpy() for moment in usual.gp(usual.gp.inputs))
        scale, offset = float(usual.weights[0, 0]), float(usual.offset[0])
        single += int(
            (np.abs(clean - mean * scale - offset) <= 1.645 * np.sqrt(variance) * scale).sum()
        )
    assert everywhere / points > 0.75
    assert chosen >= 3
    assert single < everywhere


def test_averaging_changes_nothing_that_is_settled() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.random((150, 2))
    values = (np.sin(5.0 * inputs[:, 0]) + inputs[:, 1])[:, None] + 0.1 * rng.standard_normal(
        (150, 1)
    )
    with one_thread():
        surrogate = fit_surrogate(
            inputs, values, search_space=ModelSearchSpace(("rbf",), (MEASURED,))
        )
    mean, variance = averaged_posterior(surrogate.gp, MEASURED, surrogate.gp.inputs)
    usual, spread = surrogate.gp(surrogate.gp.inputs)
    assert float((mean - usual).abs().max()) < 2.0 * float(spread.sqrt().max())
    np.testing.assert_allclose(mean, usual, atol=0.1)
    assert float(variance.mean() / spread.mean()) < 2.0


def test_the_answers_of_one_point_count_together() -> None:
    """Repeats of another point outweigh one low value."""
    study = bi.Study.create("s", noisy_bowl(), strategy="random", seed=0)
    grid = [[x, y] for x in (0.1, 0.5, 0.9) for y in (0.1, 0.5, 0.9)]
    study.add(X=grid, Y=[[1.0]] * 9)
    often = 8
    study.add(
        X=[[0.9, 0.1]] * often + [[0.1, 0.9]] * often,
        Y=[[0.4 + 0.1 * (-1) ** i] for i in range(often)] + [[-0.5], *[[1.2]] * (often - 1)],
    )
    found = study.recommend()
    assert found.noisy, "points were answered in different ways"
    assert study.best.y[0] == -0.5
    assert list(found.trial.point) == [0.9, 0.1]
    assert found.observed == often + 1
    former = "told"
    with pytest.warns(DeprecationWarning, match="use observed"):
        assert getattr(found, former) == often + 1
    assert found.trial.number == min(t.number for t in study.trials if list(t.point) == [0.9, 0.1])


def test_whether_the_oracle_is_noisy_is_read_off_strategy_and_log() -> None:
    exact = bi.Study.create("s", noisy_bowl(), strategy="random", seed=0).run(3)
    assert not exact.recommend().noisy
    exact.enqueue(point=exact.trials[0].point)
    assert exact.run(4).recommend().noisy, "the same point was answered differently"
    assert not exact.recommend(noisy=False).noisy
    inside = {
        "name": "then",
        "options": {"first": "sobol", "second": {"name": "gp", "options": {"noisy": True}}},
    }
    for strategy, expected in [
        ({"name": "gp", "options": {"noisy": True}}, True),
        (inside, True),
        ("gp", False),
    ]:
        study = bi.Study.create("s", noisy_bowl(), strategy=strategy)
        assert known_noisy(study.strategy.spec(), study.history) == expected


@pytest.mark.parametrize(
    "objective",
    [
        bi.Target([1.0, 0.2]),
        bi.Composite(lambda y: (y**2).sum(-1)),
        bi.Composite(
            lambda y: float(max(abs(float(y[0])), abs(float(y[1])))), name="not for tensors"
        ),
        bi.Maximize("y1"),
    ],
    ids=["target", "composite", "composite of numbers", "maximize"],
)
def test_every_objective(objective: bi.Target) -> None:
    space = bi.Box([0.0] * 2, [1.0] * 2)
    problem = bi.Problem(space, answers(wavy, 0.1), objective, outputs=["y0", "y1"], name="wavy")
    study = bi.Study.create("s", problem, strategy="sobol", seed=0).run(40)
    found = study.recommend(noisy=True)
    assert ordered(found)
    assert list(found.outputs) == ["y0", "y1"]
    clean = [problem.objective.loss(np.array(wavy(trial.design))) for trial in study.trials]
    assert clean[found.trial.number] <= np.quantile(clean, 0.2)
    for (low, _, high), true in zip(found.outputs.values(), wavy(found.trial.design), strict=True):
        assert low - 0.1 <= true <= high + 0.1


def test_hundreds_of_outputs() -> None:
    at = np.linspace(0.0, 1.0, 200)

    def curve(x: Any) -> Any:
        return x[0] * np.sin(6.0 * at) + x[1] * at

    problem = bi.Problem(
        bi.Box([0.0] * 2, [1.0] * 2),
        answers(curve, 0.1),
        bi.Target(curve([0.4, 0.6])),
        outputs=[f"y{i}" for i in range(200)],
        name="curve",
    )
    study = bi.Study.create("s", problem, strategy="random", seed=0).run(25)
    found = study.recommend(noisy=True)
    assert ordered(found)
    assert len(found.outputs) == 200
    clean = [problem.objective.loss(curve(trial.design)) for trial in study.trials]
    assert clean[found.trial.number] <= sorted(clean)[2]
    expected = np.array([interval.expected for interval in found.outputs.values()])
    assert np.abs(expected - curve(found.trial.design)).mean() < 0.05, "half the noise of an answer"
    assert "more outputs" in repr(found)


def test_typed_parameters_and_constraints_by_belief() -> None:
    """The best values violate the constraint ``n <= 5``; the loss falls with ``n``."""
    space = bi.Box(
        {"n": bi.Int(1, 9), "r": bi.Float(0.01, 10.0, log=True), "kind": bi.Choice("a", "b")}
    )
    clean = lambda d: {"cost": 10.0 - d["n"] + (d["kind"] == "b"), "purity": 1.0 - 0.1 * d["n"]}  # noqa: E731
    problem = bi.Problem(
        space,
        answers(clean, 0.1),
        bi.Minimize("cost"),
        constraints=["purity >= 0.45"],
        name="mixed",
    )
    study = bi.Study.create("s", problem, strategy="random", seed=1).run(60)
    found = study.recommend(noisy=True)
    assert study.best.design["n"] > 5
    assert found.trial.design["n"] == 5
    assert 0.5 <= found.probability < 1.0
    assert "probability" in repr(found)
    broken = bi.Problem(
        space, answers(clean, 0.1), bi.Minimize("cost"), constraints=["purity >= 2"], name="mixed"
    )
    hopeless = bi.Study.create("s", broken, strategy="random", seed=1).run(20)
    for noisy, words in [
        (True, "a model expects no observed point to satisfy"),
        (False, "none of the 20 completed trials"),
    ]:
        with pytest.raises(bi.InvalidInputError, match=words) as refusal:
            hopeless.recommend(noisy=noisy)
        assert "purity >= 2" in str(refusal.value)


def test_a_latent_and_few_trials() -> None:
    problem = bi.Problem(
        bi.Latent(lambda z: z, dim=3), answers(bowl, 0.1), bi.Minimize(), name="latent"
    )
    study = bi.Study.create("s", problem, strategy="prior", seed=0)
    with pytest.raises(
        bi.InvalidInputError,
        match=r"no trial of 'latent' is completed \(0 gave no outputs, 0 are open\)",
    ):
        study.recommend()
    study.tell(study.ask()[0], bi.FailedError("no sample"))
    waiting = study.ask()[0]
    with pytest.raises(bi.InvalidInputError, match="1 gave no outputs, 1 are open"):
        study.recommend(noisy=True)
    study.tell(waiting, [0.3])
    for calls in (2, 3, 20):
        assert ordered(study.run(calls).recommend(noisy=True))


@pytest.mark.slow
def test_recommending_leaves_no_trace() -> None:
    """A recommendation makes no call, no event and no random number."""
    store = MemoryStore()
    plain = bi.Study.create("s", noisy_bowl(), seed=0, noisy=True).run(8)
    asked = bi.Study.create("s", noisy_bowl(), seed=0, storage=store, noisy=True)
    asked.run(8, stop=lambda: asked.spent.calls >= 6)
    events = len(list(store.events("s")))
    first, again = asked.recommend(), asked.recommend()
    assert len(list(store.events("s"))) == events
    assert (first.trial.number, first.loss) == (again.trial.number, again.loss)
    asked.run(8)
    assert [t.query.to_json() for t in asked.trials] == [t.query.to_json() for t in plain.trials]


def test_a_noisy_study_says_so() -> None:
    study = bi.Study.create("s", noisy_bowl(), seed=0, noisy=True)
    assert "luck" not in repr(study)
    study.run(6)
    assert "study.recommend()" in repr(study)
    assert "study.recommend()" in study._repr_html_()
    assert "is biased" in repr(study.recommend())
    assert "luck" not in repr(bi.Study.create("s", noisy_bowl(), strategy="random", seed=0).run(6))


FILE = """
import numpy as np
import bo_invert as bi

rng = np.random.default_rng(0)
problem = bi.Problem(bi.Box({"a": bi.Float(0, 1), "b": bi.Int(1, 5)}),
                     lambda x: {"y": -(x["a"] - 0.3) ** 2 - x["b"] + 0.1 * rng.standard_normal()},
                     bi.Maximize("y"), outputs=["y"], name="noisy")
"""


@pytest.mark.slow
def test_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("noisy.py").write_text(FILE)

    def bo(*arguments: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["bo-invert", *arguments])
        with pytest.raises(SystemExit, match="0"):
            cli.main()
        captured = capsys.readouterr()
        return captured.out, captured.err

    storage = ("--storage", "runs.db")
    ran = bo(
        "run",
        "noisy.py",
        "--option",
        "noisy=true",
        "--budget",
        "8",
        "--name",
        "s",
        "--quiet",
        *storage,
    )
    assert "the oracle is noisy, so the best value, y=" in ran[1]
    plain, _ = bo("best", "s", *storage, "--exact", "--format", "json")
    full, printed = bo("best", "s", *storage, "--format", "json")  # the log holds the problem
    assert full == bo("best", "s", *storage, "--format", "json", "--problem", "noisy.py")[0]
    assert "is biased; a model of all observations expects y=" in printed
    record = json.loads(full)
    assert record.items() >= json.loads(plain).items()
    assert record["expected.y.low"] < record["expected.y"] < record["expected.y.high"]
    assert record["expected.loss"] == -record["expected.y"]
    assert {"recommended.number", "recommended.a", "recommended.b"} < set(record)
    assert "recommended.b" in bo("best", "s", *storage, "--problem", "noisy.py")[0]
    assert bo("best", "s", *storage, "--exact", "--format", "json") == (plain, "")
