"""What every strategy promises, run over the registry: a new line there is tested here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert import registry
from bo_invert.storage.events import Log
from bo_invert.storage.memory import MemoryStore
from bo_invert.strategies.base import Request, from_spec
from bo_invert.types import Trial

BUDGET = 16
STRATEGIES = registry.names("strategies")
#: Slow asks: one problem each is enough here; they have tests of their own.
SLOW = {"ax", "botorch", "optuna"}
#: A model of theirs takes what is open for evaluated.
MODELLED = {"auto", "gp", "least_squares", "pcn", "o3"}
#: They know what they have asked, and wait for it where they must. Others draw anew with every request.
COUNTING = {"sobol", "cmaes", "differential_evolution", "dual_annealing", "scipy_least_squares"}


class Troubled:
    """Counts its calls, and does something wrong at some of them."""

    def __init__(
        self, fn: Callable[[Any], Any], trouble: Callable[[int], Any] | None = None
    ) -> None:
        self.fn, self.trouble, self.calls = fn, trouble, 0

    def __call__(self, x: Any) -> Any:
        self.calls += 1
        wrong = self.trouble(self.calls) if self.trouble else None
        return self.fn(x) if wrong is None else wrong


def one_in_five(call: int) -> Any:
    if call % 5:
        return None
    kind = (call // 5) % 4
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
    return bi.Problem(
        bi.Latent(decoder, dim=3), torch_module(oracle), bi.Target(1.2), name="latent"
    ), oracle


def mixed(trouble: Any = None) -> tuple[bi.Problem, Troubled]:
    oracle = Troubled(
        lambda d: {
            "cost": (d["n"] - 3) ** 2 + d["r"] + (d["kind"] == "b"),
            "purity": 1.0 - 0.1 * d["r"],
        },
        trouble,
    )
    space = bi.Box(
        {"n": bi.Int(1, 9), "r": bi.Float(0.01, 10.0, log=True), "kind": bi.Choice("a", "b", "c")}
    )
    problem = bi.Problem(
        space, oracle, bi.Minimize("cost"), constraints=["purity >= 0.5"], name="mixed"
    )
    return problem, oracle


PROBLEMS = {"bowl": bowl, "circle": circle, "latent": latent, "mixed": mixed}
#: Here a call of the oracle is a call in the ledger; a torch oracle answers whole batches at once.
COUNTED = {"bowl", "circle", "mixed"}


def suitable(strategy: str, problem: bi.Problem) -> bool:
    try:
        from_spec(strategy).check(problem.statement)
    except bi.UnsuitableStrategyError:
        return False
    return True


def pairs() -> Iterator[Any]:
    for strategy in STRATEGIES:
        kinds = [name for name, make in PROBLEMS.items() if suitable(strategy, make()[0])]
        for kind in kinds[:1] if strategy in SLOW else kinds:
            yield pytest.param(strategy, PROBLEMS[kind], id=f"{strategy}-{kind}")


each_pair = pytest.mark.parametrize(("strategy", "make"), list(pairs()))


def places(trials: Iterable[Trial]) -> set[bytes]:
    """Where values are asked for; descents may begin at one point and go different ways."""
    return {trial.query.point.tobytes() for trial in trials if trial.query.descent is None}


def described(trials: tuple[Trial, ...]) -> list[Any]:
    return [trial.query.to_json() for trial in trials]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_suits_something_and_refuses_clearly(strategy: str) -> None:
    problems = [make()[0] for make in PROBLEMS.values()]
    assert any(suitable(strategy, problem) for problem in problems)
    for problem in problems:
        if not suitable(strategy, problem):
            with pytest.raises(bi.UnsuitableStrategyError) as refusal:
                bi.Study.create("s", problem, strategy=strategy)
            said = str(refusal.value)
            assert repr(strategy) in said
            assert repr(problem.name) in said
            assert len(said) > 80, "a refusal names the remedy"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_survives_its_own_spec(strategy: str) -> None:
    made = from_spec(strategy)
    again = from_spec(made.spec())
    assert again == made
    assert again.spec() == made.spec()
    with pytest.raises(bi.InvalidInputError, match="no option"):
        from_spec(strategy, no_such_option=1)


@each_pair
def test_ask_is_pure(strategy: str, make: Any) -> None:
    """At every stage of a study the same log gives the same points, from a log read back from its events too."""
    problem, _ = make()
    store = MemoryStore()
    study = bi.Study.create("s", problem, strategy=strategy, seed=3, storage=store)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    for stage in (1, 6, 12):
        study.run(stage, batch=3, stop_when_hit=False)
        log = Log()
        log.apply(store.events("s"))
        request = Request(log.asks, 2, 3, BUDGET, log.memo)
        first = study.strategy.ask(problem.statement, study.trials, request)
        again = from_spec(strategy).ask(problem.statement, log.trials, request)
        assert [q.to_json() for q in first.queries] == [q.to_json() for q in again.queries]
        assert first.memo == again.memo
        assert len(first.queries) <= 2
    assert (np.random.get_state()[1] == state).all(), "the global generator is not ours"  # noqa: NPY002


@each_pair
def test_resume_is_exact(strategy: str, make: Any) -> None:
    """Interrupted in the middle of a call and reopened, a study proposes what it would have proposed anyway."""
    whole = bi.Study.create("s", make()[0], strategy=strategy, seed=1).run(
        BUDGET, batch=2, stop_when_hit=False
    )
    store = MemoryStore()
    broken = bi.Study.create(
        "s", make(interrupt_at(7))[0], strategy=strategy, seed=1, storage=store
    )
    try:
        broken.run(BUDGET, batch=2, stop_when_hit=False)
        interrupted = False
    except KeyboardInterrupt:
        interrupted = True
    before = broken.spent
    resumed = bi.Study.open("s", store, problem=make()[0]).run(BUDGET, batch=2, stop_when_hit=False)
    assert described(resumed.trials) == described(whole.trials)
    assert [t.loss for t in resumed.trials] == [t.loss for t in whole.trials]
    assert resumed.spent.lost == before.lost
    assert interrupted == (before.lost > 0)
    assert resumed.spent.attempts == whole.spent.attempts + before.lost


@each_pair
def test_lives_with_a_troubled_oracle(strategy: str, make: Any) -> None:
    """A fifth of the calls go wrong in every way an oracle can: the study ends in good order, with a true bill."""
    problem, oracle = make(one_in_five)
    study = bi.Study.create("s", problem, strategy=strategy, seed=2).run(
        BUDGET, batch=2, stop_when_hit=False
    )
    trials, spent = study.trials, study.spent
    assert spent.running == 0
    assert not any(trial.state.open for trial in trials)
    if problem.name in COUNTED:
        assert spent.values == oracle.calls == spent.attempts
    assert spent.calls >= BUDGET - 1 or strategy == "least_squares"
    healthy = [trial for trial in trials if trial.feasible]
    if healthy:
        assert study.best is not None
        assert study.best.loss == min(trial.loss for trial in healthy)
    for trial in trials:
        assert trial.state is bi.State.COMPLETED or trial.outcome.reason


@each_pair
def test_survives_an_oracle_that_always_fails(strategy: str, make: Any) -> None:
    problem, oracle = make(always)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        study = bi.Study.create("s", problem, strategy=strategy, seed=2).run(
            BUDGET, batch=2, stop_when_hit=False
        )
    assert study.best is None
    assert study.spent.attempts >= 1
    assert study.spent.failed == study.spent.attempts
    assert oracle.calls >= 1
    assert "no licence" in study.trials[0].outcome.reason
    if len(study.trials) >= 11:
        assert any("all failed" in str(warning.message) for warning in caught)


@each_pair
def test_takes_results_in_any_order(strategy: str, make: Any) -> None:
    problem, _ = make()
    study = bi.Study.create("s", problem, strategy=strategy, seed=4)
    open_trials: list[Trial] = []
    for turn in range(6):
        asked = study.ask(2, budget=BUDGET)
        assert strategy == "nevergrad" or not places(asked) & places(open_trials), (
            "what is open is not asked again"
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


@pytest.mark.parametrize(
    ("strategy", "make"), [pair for pair in pairs() if pair.values[0] in MODELLED | COUNTING]
)
def test_open_trials_move_the_next_points(strategy: str, make: Any) -> None:
    """The same request, once more with what was asked still open: other points, or none until there are answers."""
    problem, _ = make()
    study = bi.Study.create("s", problem, strategy=strategy, seed=4)
    study.run(8, batch=2, stop_when_hit=False)
    log = study.journal.read()
    request = Request(log.asks, 3, 4, 40, log.memo)
    asked = study.ask(3, budget=40)
    again = study.strategy.ask(
        problem.statement, study.trials, replace(request, memo=study.journal.read().memo)
    ).queries
    assert asked
    assert len(places(asked)) == len(asked)
    assert not places(asked) & {query.point.tobytes() for query in again}
    if strategy in MODELLED:
        points = np.array([trial.query.point for trial in asked] + [query.point for query in again])
        assert len(points) == 6
        gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)[np.triu_indices(6, 1)]
        assert gaps.min() > 1e-4, "what is known soon is not asked for"


@each_pair
def test_stays_inside_the_domain(strategy: str, make: Any) -> None:
    problem, _ = make()
    study = bi.Study.create("s", problem, strategy=strategy, seed=5).run(
        BUDGET, batch=4, stop_when_hit=False
    )
    points = np.array([trial.point for trial in study.trials])
    np.testing.assert_allclose(problem.space.domain.project(points), points, atol=1e-9)


@each_pair
def test_uses_what_the_user_knows(strategy: str, make: Any) -> None:
    """Points added or enqueued by the user are in the log before the strategy's own, and it copes."""
    problem, _ = make()
    study = bi.Study.create("s", problem, strategy=strategy, seed=6)
    points = problem.space.sample(np.random.default_rng(0), 3)
    outcomes = problem.evaluate([bi.Query(point) for point in points[:2]])
    study.add(points=points[:2], Y=[outcome.y for outcome in outcomes])
    study.enqueue(point=points[2])
    study.run(8, stop_when_hit=False)
    trials = study.trials
    assert [trial.origin for trial in trials[:3]] == ["data", "data", "user"]
    assert trials[0].cost.calls == 0
    assert study.spent.values == sum(trial.cost.values for trial in trials[2:])
