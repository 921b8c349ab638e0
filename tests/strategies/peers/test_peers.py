from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.benchmark.single_run import run_one
from bo_invert.problems.examples import mixed
from bo_invert.strategies.base import Request, from_spec
from bo_invert.strategies.peers import nevergrad
from bo_invert.strategies.replay import key, penalised
from bo_invert.types import Outcome, Query, State, Trial

pytestmark = pytest.mark.peers

BOWL = np.array([0.3, 0.6, 0.8])


def bowl() -> bi.Problem:
    return bi.Problem(
        bi.Box([0.0] * 3, [1.0] * 3), lambda x: float(((x - BOWL) ** 2).sum()), bi.Minimize()
    )


def run(
    strategy: Any, budget: int, problem: bi.Problem | None = None, batch: int = 1, **options: Any
) -> bi.Study:
    study = bi.Study.create("s", problem or bowl(), strategy=strategy, seed=1, **options)
    return study.run(budget, batch=batch, stop_when_hit=False)


@pytest.mark.parametrize(
    ("strategy", "budget", "first", "options"),
    [
        ("optuna", 15, 10, {}),
        ("optuna", 40, 10, {"sampler": "tpe"}),
        ("nevergrad", 40, 10, {}),
        ("nevergrad", 40, 10, {"optimizer": "MetaModel"}),
        ("nevergrad", 40, 10, {"optimizer": "CMA"}),
        ("trust_bo", 40, 10, {}),
        ("botorch", 9, 2, {}),
        ("differential_evolution", 100, 20, {}),
        ("niching_cmaes", 100, 10, {}),
        ("ribs", 100, 10, {}),
        ("dual_annealing", 100, 10, {}),
    ],
)
def test_improves_on_its_own_first_points(
    strategy: str, budget: int, first: int, options: dict[str, Any]
) -> None:
    losses = [trial.loss for trial in run(strategy, budget, **options).trials]
    assert len(losses) == budget
    assert min(losses) < 0.5 * min(losses[:first])


@pytest.mark.parametrize(("repeats", "most"), [(1, 1e-4), (10, 1e-3)], ids=["2", "20 outputs"])
def test_botorch_models_the_outputs_of_a_target(repeats: int, most: float) -> None:
    """Two linear outputs are exact after a few calls; the squared distance is not."""

    def outputs(x: np.ndarray) -> np.ndarray:
        return np.tile([x[0] + x[1], x[0] - 0.5 * x[1]], repeats)

    problem = bi.Problem(
        bi.Box([0.0, 0.0], [1.0, 1.0]), outputs, bi.Target(outputs(np.array([0.3, 0.6])))
    )
    study = run("botorch", 10, problem, num_restarts=2, raw_samples=32)
    assert study.best is not None
    assert study.best.loss < most


def test_a_basis_of_many_outputs_restores_them_in_any_units() -> None:
    import torch

    from bo_invert.strategies.peers.botorch import Basis

    rng = np.random.default_rng(0)
    values = rng.normal(size=(30, 3)) @ rng.normal(size=(3, 20)) * np.logspace(-1, 5, 20) + 5.0
    values[:, 4] = 2.0
    basis = Basis.of(values)
    scores = basis.scores(values)
    assert scores.shape == (30, 3)
    np.testing.assert_allclose(basis.outputs(torch.tensor(scores)).numpy(), values, rtol=1e-9)
    few = Basis.of(values[:, :15])
    np.testing.assert_array_equal(few.scores(values[:, :15]), values[:, :15])


def test_botorch_observes_a_constraint_of_a_target() -> None:
    problem = bi.Problem(
        bi.Box([0.0, 0.0], [1.0, 1.0]),
        lambda x: {"sum": x[0] + x[1], "first": x[0]},
        bi.Target({"sum": 1.0}),
        constraints=["first <= 0.2"],
    )
    study = run("botorch", 10, problem, num_restarts=2, raw_samples=32)
    assert study.best is not None
    assert study.best.loss < 1e-3


def test_optuna_spends_its_budget_in_a_latent_of_few_texts() -> None:
    space = bi.Latent(lambda codes: ["".join("ab"[int(z > 1)] for z in row) for row in codes], 6)
    problem = bi.Problem(space, lambda text: float(text.count("b")), bi.Minimize())
    tpe = {"name": "optuna", "options": {"sampler": "tpe"}}
    made = run_one("optuna tpe", problem, tpe, 40)
    assert (made.bill.calls, made.ended) == (40, "budget spent")
    assert made.bill.reused > 0


@pytest.mark.parametrize(
    "strategy",
    [{"name": "optuna", "options": {"sampler": "tpe"}}, "optuna", "nevergrad", "trust_bo"],
)
def test_typed_parameters(strategy: Any) -> None:
    problem = mixed.problem()
    study = run(strategy, 14, problem, batch=2)
    points = np.array([trial.point for trial in study.trials])
    np.testing.assert_allclose(problem.space.domain.project(points), points, atol=1e-9)
    assert len({tuple(point) for point in points}) > 7


@pytest.mark.parametrize("package", ["optuna", "nevergrad", "trust_bo"])
def test_a_missing_extra_is_named_with_its_remedy(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    named = package.replace("_", "-")
    with pytest.raises(
        bi.BoInvertError, match=rf"{named}.*pip install 'bo-invert\[peers\]'"
    ) as missing:
        bi.Study.create("s", bowl(), strategy=package)
    assert isinstance(missing.value, ImportError)


def test_options_are_checked() -> None:
    with pytest.raises(bi.InvalidInputError, match="sampler must be one of 'gp', 'tpe'"):
        from_spec("optuna", sampler="cma")
    with pytest.raises(bi.InvalidInputError, match="no optimizer 'Best'"):
        bi.Study.create("s", bowl(), strategy="nevergrad", optimizer="Best")
    with pytest.raises(bi.InvalidInputError, match="at least 5"):
        from_spec("differential_evolution", members=3)


class Seen:
    """Counts like the ledger: a point seen before is no call."""

    def __init__(self) -> None:
        self.points: dict[bytes, np.ndarray] = {}

    def __call__(self, x: np.ndarray) -> Any:
        for point in np.atleast_2d(x.T):
            self.points.setdefault(point.tobytes(), point.copy())
        return ((x.T - BOWL) ** 2).sum(-1)


def test_differential_evolution_is_scipys() -> None:
    """Compare points and order with a plain SciPy run of the same seed and first generation."""
    from scipy.optimize import differential_evolution

    asked = np.array(
        [trial.point for trial in run("differential_evolution", 72, batch=5, members=12).trials]
    )
    fn, rng = Seen(), Request(seed=1).stream(0)
    first = bowl().space.domain.sobol(rng, 12)
    differential_evolution(
        fn,
        [(0, 1)] * 3,
        init=first,
        polish=False,
        vectorized=True,
        updating="deferred",
        maxiter=8,
        tol=0,
        rng=rng,
    )
    np.testing.assert_array_equal(list(fn.points.values())[:72], asked)


def test_dual_annealing_is_scipys() -> None:
    from scipy.optimize import dual_annealing

    asked = np.array([trial.point for trial in run("dual_annealing", 60).trials])
    fn = Seen()
    dual_annealing(lambda x: float(fn(x)), [(0, 1)] * 3, rng=Request(seed=1).stream(0), maxiter=20)
    np.testing.assert_array_equal(list(fn.points.values())[:60], asked)


@pytest.mark.parametrize("strategy", ["differential_evolution", "dual_annealing"])
def test_begins_at_the_best_that_was_given(strategy: str) -> None:
    study = bi.Study.create("s", bowl(), strategy=strategy, seed=1)
    study.add(points=[BOWL, BOWL / 2], Y=[[0.0], [1.0]])
    assert {trial.query.meta["from"] for trial in study.run(3).trials[2:]} == {0}


def test_ends_where_nothing_is_left_to_ask() -> None:
    space = bi.Box({"n": bi.Int(1, 3), "kind": bi.Choice("a", "b")})
    problem = bi.Problem(space, lambda d: float(d["n"]), bi.Minimize())
    with pytest.warns(UserWarning, match="6 distinct designs exist"):
        trials = run("differential_evolution", 50, problem).trials
    assert len(trials) == 6
    assert min(trial.loss for trial in trials) == 1.0


def test_penalties_keep_their_order() -> None:
    def trial(number: int, state: State, **outcome: Any) -> Trial:
        return Trial(
            number, Query(np.array([float(number)])), state, outcome=Outcome(state, **outcome)
        )

    log = [
        trial(0, State.COMPLETED, y=[1e12], loss=1e12),
        trial(1, State.COMPLETED, y=[0.0], loss=0.0, violation=0.1),
        trial(2, State.COMPLETED, y=[0.0], loss=0.0, violation=3.0),
        trial(3, State.FAILED, reason="no"),
        Trial(4, Query(np.array([4.0])), State.RUNNING),
    ]
    known = penalised(log)
    assert len(known) == 4
    seen = [known[key(each.point)] for each in log[:4]]
    assert seen == sorted(set(seen))
    assert np.isfinite(np.square(seen)).all()


def test_nevergrad_is_replayed_and_leaves_the_generators_alone() -> None:
    whole = run("nevergrad", 30, batch=3)
    before, legacy = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    nevergrad._CACHE._entries.clear()
    request = Request(30, 2, 1, 30, {"budget": 30, "workers": 3, "since": 0})
    replayed = whole.strategy.ask(whole.problem.statement, whole.trials, request)
    again = whole.strategy.ask(whole.problem.statement, whole.trials, request)
    assert [q.to_json() for q in replayed.queries] == [q.to_json() for q in again.queries]
    assert random.getstate() == before
    assert (np.random.get_state()[1] == legacy).all()  # noqa: NPY002


def test_optuna_says_nothing(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    run("optuna", 4, sampler="tpe")
    assert capfd.readouterr().err == ""


def test_an_optimiser_that_waits_in_a_thread_does_not_keep_the_interpreter() -> None:
    code = (
        "import bo_invert as bi\n"
        "box = bi.Box({'a': (0.0, 1.0), 'b': (0.0, 1.0)})\n"
        "p = bi.Problem(box, lambda x: float((x ** 2).sum()), bi.Minimize())\n"
        "s = bi.Study.create('s', p, strategy='nevergrad', optimizer='Cobyla').run(5)\n"
        "print(len(s.trials))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.split() == ["5"]
