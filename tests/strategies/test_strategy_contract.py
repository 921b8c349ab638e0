"""Contract of every registered strategy; a new registry entry is tested without further code.

One recorded run of each strategy on each problem serves several tests, whole or as a prefix.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert import registry
from bo_invert.storage.log_replay import Log
from bo_invert.storage.memory import MemoryStore
from bo_invert.strategies.base import Request, from_spec
from bo_invert.types import JSON, Trial

BUDGET = 8
STRATEGIES = registry.names("strategies")
#: Strategies with slow asks, or made of others, are tested on one problem each here; they have test
#: files of their own.
ONCE = {"ax", "botorch", "optuna", "polish", "then"}
PEERS = {
    "ax",
    "botorch",
    "optuna",
    "nevergrad",
    "trust_bo",
    "niching_cmaes",
    "ribs",
    "scipy_least_squares",
    "dual_annealing",
    "differential_evolution",
}
#: Surrogate-based strategies treat pending points as observed.
MODELLED = {"auto", "gp", "least_squares", "pcn"}
#: Strategies that count their own queries and wait for results. Others resample at each request.
COUNTING = {
    "sobol",
    "cmaes",
    "niching_cmaes",
    "ribs",
    "differential_evolution",
    "dual_annealing",
    "scipy_least_squares",
}
#: Options that save time: one kernel and no warp instead of a model selection (which ``auto`` tests
#: with its defaults), few initial points, smaller networks and shorter walks.
PLAIN_GP: JSON = {"kernel": "matern", "warp": False, "initial": 4}
FAST: dict[str, dict[str, JSON]] = {
    "gp": PLAIN_GP,
    "turbo": PLAIN_GP,
    "then": {"second": {"name": "gp", "options": PLAIN_GP}},
    "polish": {"base": {"name": "gp", "options": PLAIN_GP}},
    "pcn": {"walkers": 4, "steps": 20, "initial": 4},
    "amortized": {"width": 8, "repeats": 1},
    "ax": {"initialization_budget": 8},
    "botorch": {"num_restarts": 2, "raw_samples": 32},
}


class Troubled:
    """An oracle that counts its calls and misbehaves at some of them."""

    def __init__(
        self, fn: Callable[[Any], Any], trouble: Callable[[int], Any] | None = None
    ) -> None:
        self.fn, self.trouble, self.calls = fn, trouble, 0

    def __call__(self, x: Any) -> Any:
        self.calls += 1
        wrong = self.trouble(self.calls) if self.trouble else None
        return self.fn(x) if wrong is None else wrong


def one_in_two(call: int) -> Any:
    if call % 2:
        return None
    kind = (call // 2) % 4
    if kind == 0:
        raise RuntimeError("the simulator crashed")
    if kind == 3:
        raise bi.InfeasibleError("no mesh")
    return np.nan if kind == 1 else [1.0, 2.0, 3.0, 4.0]


def always(call: int) -> Any:
    raise OSError(f"no licence at call {call}")


def interrupt_at(number: int) -> Callable[[int], Any]:
    def trouble(call: int) -> Any:
        if call == number:
            raise KeyboardInterrupt

    return trouble


def bowl(trouble: Any = None) -> tuple[bi.Problem, Troubled]:
    oracle = Troubled(lambda x: float(((x - 0.3) ** 2).sum()), trouble)
    return bi.Problem(bi.Box([0.0, 0.0], [1.0, 1.0]), oracle, bi.Minimize(), name="bowl"), oracle


def circle(trouble: Any = None) -> tuple[bi.Problem, Troubled]:
    oracle = Troubled(lambda x: [np.cos(x[0]) + x[1], np.sin(x[0]) * x[2]], trouble)
    space = bi.Box([-1.0, -1.0, -1.0], [1.0, 1.0, 1.0])
    return bi.Problem(space, oracle, bi.Target([0.8, 0.3]), name="circle"), oracle


def torch_module(fn: Troubled) -> Any:
    import torch

    class Regressor(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            fn(x)
            return (torch.sin(2 * x[:, :1]) + x[:, 1:2] ** 2) * self.scale

    return Regressor()


def latent(trouble: Any = None) -> tuple[bi.Problem, Troubled]:
    import torch

    generator = torch.Generator().manual_seed(0)
    decoder = torch.nn.Linear(3, 4, dtype=torch.float64)
    with torch.no_grad():
        decoder.weight.copy_(torch.randn(4, 3, generator=generator, dtype=torch.float64))
        decoder.bias.zero_()
    oracle = Troubled(lambda x: None, trouble)
    space = bi.Latent(decoder, dim=3)
    return bi.Problem(space, torch_module(oracle), bi.Target(1.2), name="latent"), oracle


def mixed(trouble: Any = None) -> tuple[bi.Problem, Troubled]:
    def cost(d: Any) -> dict[str, float]:
        return {
            "cost": (d["n"] - 3) ** 2 + d["r"] + (d["kind"] == "b"),
            "purity": 1.0 - 0.1 * d["r"],
        }

    oracle = Troubled(cost, trouble)
    space = bi.Box(
        {"n": bi.Int(1, 9), "r": bi.Float(0.01, 10.0, log=True), "kind": bi.Choice("a", "b", "c")}
    )
    return bi.Problem(
        space, oracle, bi.Minimize("cost"), constraints=["purity >= 0.5"], name="mixed"
    ), oracle


def manufactured(trouble: Any = None) -> tuple[bi.Problem, Troubled]:
    problem, oracle = circle(trouble)
    return bi.Problem(
        problem.space, oracle, bi.Target([0.8, 0.3], tolerance=0.1), name="manufactured",
        input_noise=0.05,
    ), oracle  # fmt: skip


def changed(trouble: Any = None) -> tuple[bi.Problem, Troubled]:
    problem, oracle = circle(trouble)
    goal = bi.Nearest(
        problem.space.decode(np.full((1, 3), 0.3))[0], bi.Target([0.8, 0.3], tolerance=0.1)
    )
    return bi.Problem(problem.space, oracle, goal, name="changed"), oracle


PROBLEMS = {
    "bowl": bowl,
    "circle": circle,
    "latent": latent,
    "mixed": mixed,
    "manufactured": manufactured,
    "changed": changed,
}
SPECIAL = {"manufactured": "robust", "changed": "nearest"}
"""Problems of a single strategy; others ignore the noise of the inputs, or see a known output."""
#: Problems whose ledger counts the calls of the oracle; a torch oracle answers a batch in one call.
COUNTED = {"bowl", "circle", "mixed", "manufactured", "changed"}


def suitable(strategy: str, problem: bi.Problem) -> bool:
    try:
        from_spec(strategy).check(problem.statement)
    except bi.UnsuitableStrategyError:
        return False
    return True


def pairs(of: Collection[str] = STRATEGIES, every: int = 1) -> list[Any]:
    """Return strategies with every ``every``-th suitable problem, from the first."""

    def made() -> Iterator[Any]:
        for strategy in (name for name in STRATEGIES if name in of):
            kinds = [name for name, make in PROBLEMS.items() if suitable(strategy, make()[0])]
            kinds = [name for name in kinds if SPECIAL.get(name, strategy) == strategy]
            for kind in kinds[:1] if strategy in ONCE else kinds[::every]:
                marks = [pytest.mark.peers] if strategy in PEERS else []
                yield pytest.param(strategy, kind, id=f"{strategy}-{kind}", marks=marks)

    return list(made())


each_pair = pytest.mark.parametrize(("strategy", "kind"), pairs())
#: Of four problems the first and the third: a box, and a latent with gradients.
each_second_pair = pytest.mark.parametrize(("strategy", "kind"), pairs(every=2))


def begin(
    strategy: str, kind: str, trouble: Any = None, seed: int = 1, **more: Any
) -> tuple[bi.Study, Troubled]:
    problem, oracle = PROBLEMS[kind](trouble)
    return bi.Study.create(
        "s", problem, strategy=strategy, seed=seed, **FAST.get(strategy, {}), **more
    ), oracle


@cache
def recorded(strategy: str, kind: str) -> tuple[bi.Study, list[JSON]]:
    """A run of the whole budget in batches of two, and its events as a file would hold them."""
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    store = MemoryStore()
    study, _ = begin(strategy, kind, storage=store)
    study.run(BUDGET, batch=2, stop_when_hit=False)
    unchanged = (np.random.get_state()[1] == state).all()  # noqa: NPY002
    assert unchanged, "the run changed numpy's global generator"
    return study, json.loads(json.dumps(store.events("s")))


def continued(
    strategy: str, kind: str, calls: int, trouble: Any = None
) -> tuple[bi.Study, MemoryStore]:
    """The recorded run as it stood when ``calls`` or more were answered and no trial was open."""
    whole, events = recorded(strategy, kind)
    log = Log()
    for event in events:
        log.apply([event])
        if log.calls >= calls and log.committed == log.calls:
            break
    store = MemoryStore()
    store.create("s", whole.journal.header, events[: log.seq])
    return bi.Study.open("s", store, problem=PROBLEMS[kind](trouble)[0]), store


def places(trials: Iterable[Trial]) -> set[bytes]:
    """Points whose value is requested; descents may share a starting point."""
    return {trial.query.point.tobytes() for trial in trials if trial.query.descent is None}


def described(trials: tuple[Trial, ...]) -> list[Any]:
    return [trial.query.to_json() for trial in trials]


def assert_inside(study: bi.Study) -> None:
    assert study.problem is not None
    points = np.array([trial.point for trial in study.trials])
    np.testing.assert_allclose(study.problem.space.domain.project(points), points, atol=1e-9)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_suits_a_problem_and_refuses_others_with_a_remedy(strategy: str) -> None:
    problems = [make()[0] for make in PROBLEMS.values()]
    assert any(suitable(strategy, problem) for problem in problems)
    for problem in problems:
        if not suitable(strategy, problem):
            with pytest.raises(bi.UnsuitableStrategyError) as refusal:
                bi.Study.create("s", problem, strategy=strategy)
            message = str(refusal.value)
            assert repr(strategy) in message
            assert repr(problem.name) in message
            assert len(message) > 80, "a refusal names the remedy"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_survives_its_own_spec(strategy: str) -> None:
    for given in ({}, FAST.get(strategy, {})):
        made = from_spec(strategy, **given)
        again = from_spec(made.spec())
        assert again == made
        assert again.spec() == made.spec()
    with pytest.raises(bi.InvalidInputError, match="no option"):
        from_spec(strategy, no_such_option=1)


@pytest.mark.slow
@each_pair
def test_ask_is_pure(strategy: str, kind: str) -> None:
    """Check that a new strategy object proposes the same points from the stored log."""
    study, events = recorded(strategy, kind)
    asks = [i for i, event in enumerate(events) if event["kind"] == "asked"]
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    for i in {asks[0], asks[-1]}:
        log = Log()
        log.apply(events[:i])
        count = int(min(2, BUDGET - log.committed))
        request = Request(log.asks, count, study.seed, BUDGET, log.memo)
        asked = from_spec(study.strategy.spec()).ask(study.statement, log.trials, request)
        queries = [query.to_json() for query in asked.queries]
        assert queries[: len(events[i]["queries"])] == events[i]["queries"]
        assert asked.memo == events[i]["memo"]
        assert len(queries) <= count
    assert (np.random.get_state()[1] == state).all(), "the global generator is not ours"  # noqa: NPY002


@pytest.mark.filterwarnings("ignore:study 's' continues with changes")
@each_pair
def test_resume_is_exact(strategy: str, kind: str) -> None:
    """Compare a study that is interrupted and reopened with an uninterrupted one."""
    whole, _ = recorded(strategy, kind)
    broken, store = continued(strategy, kind, 4, interrupt_at(3))
    interrupted = False
    try:
        broken.run(BUDGET, batch=2, stop_when_hit=False)
    except KeyboardInterrupt:
        interrupted = True
    before = broken.spent
    resumed = bi.Study.open("s", store, problem=PROBLEMS[kind]()[0])
    resumed.run(BUDGET, batch=2, stop_when_hit=False)
    assert described(resumed.trials) == described(whole.trials)
    assert [t.loss for t in resumed.trials] == [t.loss for t in whole.trials]
    assert resumed.spent.lost == before.lost
    assert interrupted == (before.lost > 0)
    assert resumed.spent.attempts == whole.spent.attempts + before.lost


@each_second_pair
@pytest.mark.slow
def test_lives_with_a_troubled_oracle(strategy: str, kind: str) -> None:
    """Failures of every kind leave a study in good order, with a correct ledger."""
    study, oracle = begin(strategy, kind, one_in_two, seed=2)
    study.run(BUDGET, batch=2, stop_when_hit=False)
    trials, spent = study.trials, study.spent
    assert spent.running == 0
    assert not any(trial.state.open for trial in trials)
    if kind in COUNTED:
        assert spent.values == oracle.calls == spent.attempts
    assert spent.calls >= BUDGET - 1 or strategy == "least_squares"
    healthy = [trial for trial in trials if trial.feasible]
    if healthy:
        assert study.best is not None
        assert study.best.loss == min(trial.loss for trial in healthy)
    for trial in trials:
        assert trial.state is bi.State.COMPLETED or trial.outcome.reason
    assert_inside(study)


@each_pair
@pytest.mark.slow
def test_survives_an_oracle_that_always_fails(strategy: str, kind: str) -> None:
    study, oracle = begin(strategy, kind, always, seed=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        study.run(12, batch=4, stop_when_hit=False)
    assert study.best is None
    assert study.spent.attempts >= 1
    assert study.spent.failed == study.spent.attempts
    assert oracle.calls >= 1
    assert "no licence" in study.trials[0].outcome.reason
    if len(study.trials) >= 11:
        assert any("trials failed" in str(warning.message) for warning in caught)
    assert_inside(study)


@pytest.mark.filterwarnings("ignore:study 's' continues with changes")
@each_second_pair
def test_accepts_results_in_any_order(strategy: str, kind: str) -> None:
    study, _ = continued(strategy, kind, 4)
    problem = study.problem
    open_trials: list[Trial] = []
    for turn in range(3):
        asked = study.ask(2, budget=BUDGET)
        assert strategy == "nevergrad" or not places(asked) & places(open_trials), (
            "a pending point again"
        )
        open_trials += asked
        if not open_trials:
            break
        for trial in open_trials[::-1][: 1 + turn % 3]:
            study.journal.finish(trial.number, problem.evaluate([trial.query])[0])
            open_trials.remove(trial)
    for trial in open_trials:
        study.tell(trial, bi.FailedError("the sample was dropped"))
    numbers = [trial.number for trial in study.trials]
    assert numbers == list(range(len(numbers)))
    assert study.spent.running == 0


@pytest.mark.filterwarnings("ignore:study 's' continues with changes")
@pytest.mark.parametrize(("strategy", "kind"), pairs(MODELLED | COUNTING))
def test_pending_points_move_the_next_points(strategy: str, kind: str) -> None:
    """Check that pending proposals change the next proposals or prevent them."""
    study, _ = continued(strategy, kind, 8)
    log = study.journal.read()
    request = Request(log.asks, 3, study.seed, 40, log.memo)
    asked = study.ask(3, budget=40)
    memo = study.journal.read().memo
    again = study.strategy.ask(study.statement, study.trials, replace(request, memo=memo)).queries
    assert asked
    assert len(places(asked)) == len(asked)
    assert not places(asked) & {query.point.tobytes() for query in again}
    if strategy in MODELLED:
        points = np.array([trial.query.point for trial in asked] + [query.point for query in again])
        assert len(points) == 6
        gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)[np.triu_indices(6, 1)]
        assert gaps.min() > 1e-5, "a point next to a pending one"


@each_pair
def test_stays_inside_the_domain(strategy: str, kind: str) -> None:
    assert_inside(recorded(strategy, kind)[0])


@each_second_pair
def test_uses_the_points_of_the_user(strategy: str, kind: str) -> None:
    """Points that the user adds or enqueues precede the strategy's own in the log."""
    study, _ = begin(strategy, kind, seed=6)
    problem = study.problem
    points = problem.space.sample(np.random.default_rng(0), 3)
    outcomes = problem.evaluate([bi.Query(point) for point in points[:2]])
    study.add(points=points[:2], Y=[outcome.y for outcome in outcomes])
    study.enqueue(point=points[2])
    study.run(3, stop_when_hit=False)
    trials = study.trials
    assert [trial.origin for trial in trials[:3]] == ["data", "data", "user"]
    assert trials[0].cost.calls == 0
    assert study.spent.values == sum(trial.cost.values for trial in trials[2:])
