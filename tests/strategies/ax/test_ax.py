"""Ax as a strategy, a study as an Ax client, and our strategies inside Ax's own loop."""

from __future__ import annotations

import json
import logging
import os
import random
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from forked import ends, start

import bo_invert as bi
from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.errors import MissingExtraError
from bo_invert.strategies.ax.strategy import Ax
from bo_invert.strategies.base import Proposal, Request, Strategy, from_spec
from bo_invert.types import Outcome, Query, State, Trial

pytestmark = pytest.mark.peers

EVERY_KIND = bi.Box(
    {
        "a real": bi.Float(-2, 3),
        "rate": bi.Float(1e-3, 10.0, log=True),
        "narrow": bi.Float(1e-6, 1e-5, log=True),
        "n": bi.Int(1, 9),
        "many": bi.Int(1, 1000, log=True),
        "kind": bi.Choice("u", "v", "w"),
        "flag": bi.Choice(True, False),
        "size": bi.Choice(8, 2, 4, ordered=True),
        "step": bi.Choice(0.5, 1, 2),
        "odd": bi.Choice(1, "x", 2.5),
        "metadata": bi.Float(0, 1),
    }
)


def observed(problem: bi.Problem, points: Any, origin: str = "") -> list[Trial]:
    queries = [Query(point, origin=origin) for point in points]
    outcomes = problem.evaluate(queries)
    return [
        Trial(i, q, o.state, outcome=o)
        for i, (q, o) in enumerate(zip(queries, outcomes, strict=True))
    ]


def mixed() -> bi.Problem:
    def fn(design: dict[str, Any]) -> dict[str, float]:
        return {
            "E": (design["x"] - 0.3) ** 2 + (design["kind"] != "b"),
            "pass rate": design["x"] + design["n"] / 9,
        }

    space = bi.Box({"x": bi.Float(0, 1), "n": bi.Int(1, 9), "kind": bi.Choice("a", "b")})
    return bi.Problem(space, fn, bi.Minimize("E"), constraints=["pass rate >= 0.5"], name="mixed")


def bowl(objective: Any = None, dim: int = 2) -> bi.Problem:
    return bi.Problem(
        bi.Box([0.0] * dim, [1.0] * dim),
        lambda x: float(((x - 0.3) ** 2).sum()),
        objective or bi.Minimize(),
    )


def seen(problem: bi.Problem, n: int = 6) -> list[Trial]:
    return observed(problem, problem.space.sample(np.random.default_rng(0), n))


def points(proposal: Proposal) -> list[list[float]]:
    return [query.point.tolist() for query in proposal.queries]


# The strategy ------------------------------------------------------------------------------------


def test_ask_is_pure_and_leaves_the_global_generators_alone() -> None:
    import torch

    problem = mixed()
    trials = [
        *seen(problem),
        Trial(6, Query(problem.space.sample(np.random.default_rng(5), 1)[0]), State.RUNNING, 0),
    ]
    request = Request(number=3, seed=7)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    first = Ax().ask(problem.statement, trials, request)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert before[2] == random.getstate()

    torch.rand(3)
    replayed = [
        replace(
            trial,
            query=Query.from_json(json.loads(json.dumps(trial.query.to_json()))),
            outcome=trial.outcome
            and Outcome.from_json(json.loads(json.dumps(trial.outcome.to_json()))),
        )
        for trial in trials
    ]
    assert points(Ax().ask(problem.statement, replayed, request)) == points(first)
    assert {query.meta["node"] for query in first.queries} == {"MBM"}
    for query in first.queries:
        assert (problem.space.domain.project(query.point) == query.point).all()


def propose_there(folder: Path) -> None:
    """Write a proposal to a file, and what else is written to standard error to another."""
    with (folder / "stderr").open("w") as stream:
        os.dup2(stream.fileno(), 2)
    problem = constrained()
    proposal = Ax().ask(problem.statement, seen(problem), Request(number=2, seed=1))
    (folder / "points").write_text(json.dumps(points(proposal)))


def test_another_process_proposes_the_same(tmp_path: Path) -> None:
    """It has another seed of string hashes."""
    there = start(propose_there, tmp_path)
    problem = constrained()
    here = points(Ax().ask(problem.statement, seen(problem), Request(number=2, seed=1)))
    assert ends([there]) == [0]
    assert json.loads((tmp_path / "points").read_text()) == here
    assert "INFO" not in (tmp_path / "stderr").read_text()


def constrained() -> bi.Problem:
    def fn(x: Any) -> dict[str, float]:
        return {"loss": float(x[0]), "low": float(x[1]), "high": float(x[0] + x[1])}

    constraints = ["low >= 0.2", "high <= 1.5", "loss >= 0.1"]
    return bi.Problem(
        bi.Box([0.0, 0.0], [1.0, 1.0]), fn, bi.Target({"loss": 0.3}), constraints=constraints
    )


def test_first_points_are_the_centre_and_one_sobol_sequence_however_they_are_asked() -> None:
    problem = bowl()
    trials: list[Trial] = []
    for k in range(4):
        (query,) = Ax().ask(problem.statement, trials, Request(number=k, seed=3)).queries
        trials.append(replace(observed(problem, [query.point])[0], number=k, query=query))
    at_once = Ax().ask(problem.statement, [], Request(number=0, count=4, seed=3))
    one_by_one = [trial.query.point.tolist() for trial in trials]
    assert one_by_one == points(at_once)
    assert one_by_one[0] == [0.5, 0.5]
    assert len({tuple(point) for point in one_by_one}) == 4
    other = Ax().ask(problem.statement, [], Request(number=0, count=4, seed=4))
    assert points(other)[1:] != one_by_one[1:]


def test_given_data_counts_as_initialization() -> None:
    problem = bowl()
    node = {
        n: Ax(initialization_budget=4)
        .ask(problem.statement, seen(problem, n), Request())
        .queries[0]
        .meta["node"]
        for n in (1, 4)
    }
    assert node == {1: "Sobol", 4: "MBM"}


def test_it_optimises() -> None:
    study = bi.Study.create("ax", bowl(bi.Target(0.0), dim=2), strategy="ax", seed=0)
    study.run(budget=9)
    assert study.best is not None
    assert study.best.loss < 1e-3
    assert {trial.origin for trial in study.trials} == {"ax"}


def test_does_not_return_to_where_it_failed() -> None:
    """Ax proposes failed trials again, so they are handed over as abandoned."""
    problem = bi.Problem(
        bi.Box([0.0, 0.0], [1.0, 1.0]), lambda x: -x[0] if x[0] < 0.5 else np.nan, bi.Minimize()
    )
    trials = observed(problem, np.random.default_rng(1).random((9, 2)))
    for k in range(3):
        (query,) = Ax().ask(problem.statement, trials, Request(number=k)).queries
        distance = np.linalg.norm(
            [query.point - trial.point for trial in trials if trial.state is State.FAILED], axis=1
        )
        assert distance.min() > 0.02
        trials.append(replace(observed(problem, [query.point])[0], number=len(trials)))


def test_a_latent_takes_points_beyond_its_bounds_and_proposes_within_its_radius() -> None:
    domain = gaussian_domain(3, radius=2.5)
    statement = bi.ProblemStatement("latent", domain, ("y",), bi.Maximize().bind(["y"]))
    codes = np.random.default_rng(0).standard_normal((6, 3)) * 4
    trials = [
        Trial(
            i,
            Query(z),
            State.COMPLETED,
            outcome=Outcome(State.COMPLETED, [-abs(z).sum()], abs(z).sum()),
        )
        for i, z in enumerate(codes)
    ]
    assert abs(codes).max() > 3
    proposal = Ax().ask(statement, trials, Request(count=2))
    assert len(proposal.queries) == 2
    assert all(np.linalg.norm(query.point) <= 2.5 + 1e-9 for query in proposal.queries)


def test_is_done_when_every_combination_was_tried() -> None:
    problem = bi.Problem(
        bi.Box({"n": bi.Int(0, 1), "kind": bi.Choice("a", "b")}), lambda d: d["n"], bi.Minimize()
    )
    trials = observed(
        problem, problem.space.encode([{"n": n, "kind": k} for n in (0, 1) for k in "ab"])
    )
    assert Ax().ask(problem.statement, trials, Request()).queries == ()
    assert points(Ax().ask(problem.statement, trials[:3], Request(count=2))) == [
        trials[3].point.tolist()
    ]


def test_says_nothing_and_leaves_logging_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    loggers = logging.Logger.manager.loggerDict

    def state() -> dict[str, Any]:
        found = {
            n: (x.level, x.filters[:], x.disabled)
            for n, x in loggers.items()
            if isinstance(x, logging.Logger)
        }
        return found | {
            "handlers": [(h.level, h.filters[:]) for h in logging.getLogger("ax").handlers]
        }

    Ax().ask(bowl().statement, [], Request())  # whatever is imported late, is imported now
    capfd.readouterr()
    before = state()
    Ax().ask(bowl().statement, seen(bowl(), 3), Request())
    assert state() == before
    assert capfd.readouterr().err == ""


def test_options_are_checked() -> None:
    with pytest.raises(bi.InvalidInputError, match="method must be one of 'fast'"):
        Ax(method="best")
    with pytest.raises(bi.InvalidInputError, match="at least 2"):
        Ax(initialization_budget=1)
    wide = bi.Problem(
        bi.Box({"c": bi.Choice(list(range(1001)))}), lambda d: d["c"], bi.Minimize(), name="wide"
    )
    with pytest.raises(
        bi.UnsuitableStrategyError, match=r"'ax' supports at most 1000 .*'c'.*'wide'"
    ):
        Ax().check(wide.statement)


# The bridge --------------------------------------------------------------------------------------


def test_parameters_are_mapped_natively_and_back() -> None:
    from ax.core.parameter import ChoiceParameter, ParameterType, RangeParameter

    from bo_invert.strategies.ax.conversion import Frame, client_from

    problem = bi.Problem(EVERY_KIND, lambda d: 0.0, bi.Minimize())
    space = client_from(problem.statement, [])._experiment.search_space.parameters
    assert list(space) == [*list(EVERY_KIND.domain.parameters)[:-1], "metadata_"]
    real, rate, n = space["a real"], space["rate"], space["n"]
    assert isinstance(real, RangeParameter)
    assert (real.lower, real.upper, real.log_scale) == (-2, 3, False)
    assert (rate.lower, rate.upper, rate.log_scale) == (1e-3, 10.0, True)
    assert (n.lower, n.upper, n.parameter_type) == (1, 9, ParameterType.INT)
    assert space["many"].log_scale
    assert isinstance(space["kind"], ChoiceParameter)
    assert (space["kind"].values, space["kind"].is_ordered) == (["u", "v", "w"], False)
    assert (space["flag"].parameter_type, space["step"].parameter_type) == (
        ParameterType.BOOL,
        ParameterType.FLOAT,
    )
    assert space["size"].values == ["8", "2", "4"], "Ax would sort numbers"
    assert space["size"].is_ordered

    frame = Frame(EVERY_KIND.domain)
    client = client_from(problem.statement, [])
    for point in EVERY_KIND.sample(np.random.default_rng(0), 40):
        parameters = frame.to_ax(point)
        client._experiment.search_space.validate_membership(parameters)
        back = frame.from_ax(parameters)
        np.testing.assert_allclose(back, point, atol=1e-12)
        assert (EVERY_KIND.domain.project(back) == back).all()
    over = frame.from_ax(
        {**frame.to_ax(point), "rate": 10.000000000000002, "a real": -2.0000000000000004}
    )
    assert EVERY_KIND.decode(over[None])[0]["rate"] == 10.0


def test_goals_and_constraints_are_stated_natively() -> None:
    from bo_invert.strategies.ax.conversion import client_from

    def config(objective: Any, constraints: list[str], outputs: list[str]) -> tuple[Any, list[Any]]:
        problem = bi.Problem(
            bi.Box([0.0], [1.0]), None, objective, constraints=constraints, outputs=outputs
        )
        found = client_from(problem.statement, [])._experiment.optimization_config
        limits = [(c.metric_names[0], c.op.name, c.bound) for c in found.outcome_constraints]
        return (found.objective.expression, found.objective.minimize), limits

    assert config(bi.Minimize("y"), ["q >= 1e-05", "r <= -2.5"], ["y", "q", "r"]) == (
        ("-y", True), [("q", "GEQ", 1e-5), ("r", "LEQ", -2.5)],
    )  # fmt: skip
    assert config(bi.Maximize("y"), [], ["y", "q"]) == (("y", False), [])
    # Names: a sympy constant, not an identifier, and Ax's prefix of a baseline.
    assert config(bi.Maximize("E"), ["pass rate >= 0.5", "x <= 1"], ["E", "pass rate", "x"]) == (
        ("m_E", False), [("pass_rate", "GEQ", 0.5), ("x", "LEQ", 1.0)],
    )  # fmt: skip
    assert config(bi.Minimize("x0"), ["baseline <= 1"], ["x0", "baseline"])[0] == ("-x0_m", True)
    # structured, or constrained itself: the loss is a metric of its own
    assert config(bi.Target({"y": 2.0}), ["loss <= 3"], ["y", "loss"]) == (
        ("-loss_m", True),
        [("loss", "LEQ", 3.0)],
    )
    assert config(bi.Maximize("y"), ["y <= 3"], ["y"]) == (("-loss", True), [("y", "LEQ", 3.0)])


def test_trials_keep_their_states_and_data() -> None:
    from bo_invert.strategies.ax.conversion import client_from

    problem = constrained()
    states = [State.FAILED, State.INFEASIBLE, State.CANCELLED, State.RUNNING, State.LOST]
    trials = seen(problem, 3)
    trials += [
        Trial(3 + i, Query([0.1 * i, 0.5]), s, outcome=Outcome(s, reason="why"))
        for i, s in enumerate(states)
    ]
    experiment = client_from(problem.statement, trials)._experiment
    names = [trial.status.name for trial in experiment.trials.values()]
    assert names == ["COMPLETED"] * 3 + ["FAILED", "ABANDONED", "ABANDONED", "RUNNING", "RUNNING"]
    data = experiment.lookup_data().df.pivot(
        index="trial_index", columns="metric_name", values="mean"
    )
    assert sorted(data.columns) == ["high", "loss", "loss_m", "low"]
    assert data["loss_m"].tolist() == [trial.loss for trial in trials[:3]]
    assert data["high"].tolist() == [trial.y[2] for trial in trials[:3]]


def test_a_study_becomes_a_client_that_ax_can_analyse_and_store(tmp_path: Path) -> None:
    from ax.analysis.plotly.cross_validation import CrossValidationPlot
    from ax.analysis.summary import Summary
    from ax.api.client import Client

    def fn(design: dict[str, Any]) -> dict[str, float]:
        if design["n"] == 9:
            raise RuntimeError("nine")
        return {"a": design["x"], "b": design["n"] / 9, "E": design["x"] ** 2}

    space = bi.Box({"x": bi.Float(0, 1), "n": bi.Int(1, 9), "kind": bi.Choice("u", "v", "w")})
    problem = bi.Problem(
        space,
        fn,
        bi.Target({"a": 0.3, "b": 0.6}),
        constraints=["E <= 0.5"],
        outputs=["a", "b", "E"],
    )
    study = bi.Study.create("to ax", problem, strategy="sobol").run(budget=9)
    study.ask(1)
    client = study.to_ax()

    table = client.summarize()
    assert list(table["trial_status"]) == [
        {"completed": "COMPLETED", "failed": "FAILED", "running": "RUNNING"}[t.state]
        for t in study.trials
    ]
    assert "FAILED" in set(table["trial_status"])
    assert {"a", "b", "m_E", "loss", "x", "n", "kind"} <= set(table.columns)
    best, _, number, _ = client.get_best_parameterization(use_model_predictions=False)
    assert number == study.best.number
    assert best == study.best.design
    cards = client.compute_analyses(
        [Summary(), CrossValidationPlot(metric_names=["loss"])], display=False
    )
    assert not any("Error" in type(card).__name__ for card in cards)

    path = str(tmp_path / "study.json")
    client.save_to_json_file(path)
    loaded = Client.load_from_json_file(path)
    pd.testing.assert_frame_equal(loaded.summarize(), table, check_like=True)
    assert set(loaded.get_next_trials(1)) == {len(study.trials)}


# Our strategies in Ax's loop ---------------------------------------------------------------------


def ax_client(node: Any, constraints: list[str] | None = None, objective: str = "-cost") -> Any:
    from ax.api.client import Client
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
    from ax.generation_strategy.generation_strategy import GenerationStrategy

    client = Client()
    client.configure_experiment(
        [
            RangeParameterConfig("x", (0.0, 1.0), "float"),
            RangeParameterConfig("rate", (1e-4, 1.0), "float", scaling="log"),
            RangeParameterConfig("n", (1, 9), "int"),
            ChoiceParameterConfig("kind", ["u", "v", "w"], "str", is_ordered=False),
            ChoiceParameterConfig("fixed", [3], "int"),
        ],
        parameter_constraints=constraints,
    )
    client.configure_optimization(objective, ["quality >= 0.2"])
    client.set_generation_strategy(GenerationStrategy(nodes=[node]))
    return client


def answer(client: Any, index: int, parameters: dict[str, Any]) -> None:
    if index == 3:
        client.mark_trial_failed(index)
    else:
        cost = (parameters["x"] - 0.4) ** 2 + 0.1 * parameters["n"]
        client.complete_trial(index, {"cost": cost, "quality": parameters["x"]})


@dataclass(frozen=True)
class Spy(Strategy):
    """Sobol, with notes: proves what a strategy inside Ax is shown."""

    name = "spy"

    def ask(self, statement: Any, trials: Any, request: Request) -> Proposal:
        assert request.memo == (None if request.number == 0 else f"memo {request.number - 1}")
        mine = [t.query.meta["k"] for t in trials if t.origin == self.name]
        assert sorted(mine) == list(range(request.number))
        assert all(abs(t.loss - t.y[0]) < 1e-12 for t in trials if t.state is State.COMPLETED)
        point = statement.domain.sobol(request.stream(0), 1, skip=request.number)[0]
        states = [str(t.state) for t in trials]
        return Proposal(
            (Query(point, origin=self.name, meta={"k": request.number, "states": states}),),
            f"memo {request.number}",
        )


def test_a_strategy_serves_ax_and_is_shown_everything() -> None:
    from bo_invert.strategies.ax.generation_node import generation_node, statement_of

    client = ax_client(generation_node(Spy(), seed=5))
    client.attach_trial({"x": 0.5, "rate": 0.1, "n": 2, "kind": "v", "fixed": 3})
    client.complete_trial(0, {"cost": 1.0, "quality": 0.5})
    asked = {}
    for _ in range(4):
        proposed = client.get_next_trials(2)
        asked.update(proposed)
        for index, parameters in proposed.items():
            answer(client, index, parameters)
    assert list(asked) == list(range(1, 9))
    statement, held = statement_of(client._experiment)
    assert held == {"fixed": 3}
    assert str(statement.constraints[0]) == "quality >= 0.2"
    assert statement.objective.to_json() == bi.Minimize("cost").to_json()
    sequence = statement.domain.values(statement.domain.sobol(Request(seed=5).stream(0), 8))
    assert [{k: v for k, v in row.items() if k != "fixed"} for row in asked.values()] == sequence
    last = (
        client._experiment.trials[8].generator_runs[0].gen_metadata["bo_invert"][0]["query"]["meta"]
    )
    assert last["states"] == ["completed"] * 3 + ["failed"] + ["completed"] * 3 + ["running"]


def test_a_node_goes_on_from_a_stored_experiment(tmp_path: Path) -> None:
    from ax.api.client import Client
    from ax.generation_strategy.generation_strategy import GenerationStrategy
    from ax.storage.json_store.load import load_experiment
    from ax.storage.json_store.save import save_experiment

    from bo_invert.strategies.ax.generation_node import generation_node

    client = ax_client(generation_node(Spy(), seed=5))
    for index, parameters in client.get_next_trials(5).items():
        answer(client, index, parameters)
    path = str(tmp_path / "experiment.json")
    save_experiment(client._experiment, path)
    resumed = Client()
    resumed.set_experiment(load_experiment(path))
    resumed.set_generation_strategy(GenerationStrategy(nodes=[generation_node(Spy(), seed=5)]))
    assert resumed.get_next_trials(2) == client.get_next_trials(2)


@pytest.mark.parametrize("strategy", ["gp", "cmaes"])
def test_real_strategies_run_in_ax(strategy: str) -> None:
    from bo_invert.strategies.ax.generation_node import generation_node

    client = ax_client(generation_node(strategy, seed=1))
    while len(client._experiment.trials) < 8:
        for index, parameters in client.get_next_trials(1).items():
            client._experiment.search_space.validate_membership(parameters)
            answer(client, index, parameters)
    assert client.summarize()["trial_status"].tolist().count("COMPLETED") == 7


def test_a_node_refuses_what_it_cannot_serve() -> None:
    from bo_invert.strategies.ax.generation_node import generation_node

    with pytest.raises(bi.InvalidInputError, match="no option"):
        generation_node("sobol", colour="red")
    with pytest.raises(bi.InvalidInputError, match="exactly one objective"):
        ax_client(generation_node("sobol"), objective="cost, -time").get_next_trials(1)
    with pytest.raises(bi.UnsuitableStrategyError, match="needs gradients"):
        ax_client(generation_node("gradient")).get_next_trials(1)


def test_parameter_constraints_of_ax_are_input_constraints() -> None:
    from bo_invert.strategies.ax.generation_node import generation_node

    client = ax_client(generation_node("sobol"), constraints=["x + n <= 3"])
    found = [one for _ in range(6) for one in client.get_next_trials(1).values()]
    assert all(float(one["x"]) + float(one["n"]) <= 3 + 1e-9 for one in found)  # type: ignore[arg-type]


def test_linear_constraints_are_native_in_ax() -> None:
    from bo_invert.strategies.ax.conversion import Frame

    box = bi.Box(
        {
            "a": bi.Float(0, 1),
            "flow rate": bi.Float(0, 0.8),
            "c": bi.Float(0, 1),
            "n": bi.Int(0, 5),
        },
        constraints=["a + flow rate + c == 1", "a <= flow rate", "n + 2 a <= 3"],
    )
    frame = Frame(box.domain)
    # The equality determines one fraction, whose range is two inequalities.
    assert len(frame.axes) == 3
    assert len(frame.parameter_constraints) == 4
    points = box.domain.sample(np.random.default_rng(0), 5)
    for point in points:
        np.testing.assert_allclose(frame.from_ax(frame.to_ax(point)), point, atol=1e-9)


def test_a_scalarized_objective_is_understood() -> None:
    from bo_invert.strategies.ax.generation_node import generation_node, statement_of

    client = ax_client(generation_node("random"), objective="2*gain - cost")
    statement, _ = statement_of(client._experiment)
    y = np.array([{"gain": 3.0, "cost": 1.0, "quality": 0.0}[name] for name in statement.outputs])
    assert float(statement.objective.loss(y)) == pytest.approx(-5.0)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("bo_invert.strategies.ax")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'bo-invert\[ax\]'"):
        from_spec("ax")
