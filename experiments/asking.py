"""Logs of a smooth problem and timed asks, for overhead.py and scaling.py."""

from __future__ import annotations

import gc
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from entrants import Cell, Entrant

# scaling.py measures the memory of subprocesses; its own process must not load torch.
if TYPE_CHECKING:
    import bo_invert as bi
    from bo_invert.types import Query

#: Peers with a state of their own. Their strategies rebuild it from the log at every ask.
#: Only the seconds inside this method count, because our interface causes the rebuild.
OWN_CALL = {
    "ax": ("ax.api.client", "Client", "get_next_trials"),
    "optuna": ("optuna.study", "Study", "ask"),
}


class Smooth:
    """Smooth function of d coordinates with decaying weights: ``(m,)`` outputs of a point."""

    def __init__(self, cell: Cell, outputs: int, geometry: str, seed: int) -> None:
        rng = np.random.default_rng([seed, *cell])
        self.gaussian = geometry == "latent"
        self.centre = rng.uniform(0.2, 0.8, cell.d)
        self.weights = rng.permutation(1.0 / np.arange(1, cell.d + 1))
        self.waves = rng.standard_normal((outputs, cell.d)) * np.sqrt(self.weights)

    def __call__(self, x: Any) -> Any:
        unit = np.asarray(x) / 6.0 + 0.5 if self.gaussian else np.asarray(x)
        away = unit - self.centre
        return (self.weights * away**2).sum() + np.sin(2.0 * self.waves @ away)


def observed_study(
    cell: Cell, space: str = "box", outputs: int = 1, seed: int = 0, constraints: int = 0
) -> bi.Study:
    """Create a study in memory with n observations.

    Half come from the reference measure, half lie around one point, as in a search. One output is
    minimised, several have to reach a target; each constraint bounds one more output.
    """
    import bo_invert as bi
    from bo_invert.storage.memory import MemoryStore

    function = Smooth(cell, outputs + constraints, space, seed)
    made = (
        bi.Box([0.0] * cell.d, [1.0] * cell.d)
        if space == "box"
        else bi.Latent(lambda codes: codes, cell.d)
    )
    middle = function(made.decode(np.zeros((1, cell.d)))[0])
    names = ["y"] if outputs == 1 else [f"y{i}" for i in range(outputs)]
    goal = (
        bi.Minimize("y")
        if outputs == 1
        else bi.Target(dict(zip(names, middle[:outputs].tolist(), strict=True)))
    )
    bounded = [f"c{i}" for i in range(constraints)]
    bounds = [f"{name} <= {float(y)}" for name, y in zip(bounded, middle[outputs:], strict=True)]
    problem = bi.Problem(
        made,
        bi.Function(function, outputs=[*names, *bounded]),
        goal,
        outputs=[*names, *bounded],
        constraints=bounds,
        name="smooth",
    )
    study = bi.Study.create(
        "overhead", problem, strategy="random", seed=seed, storage=MemoryStore()
    )
    rng = np.random.default_rng([seed, *cell, 1])
    points = made.sample(rng, cell.n)
    near = points[cell.n // 2 :]
    place = made.sample(rng, 1)
    near[:] = 0.8 * place + 0.6 * near if space == "latent" else place + 0.15 * (near - 0.5)
    points = made.domain.project(points)
    if cell.n:
        study.add(points=points, Y=[function(design) for design in made.decode(points)])
    return study


def tell(study: bi.Study, queries: Sequence[Query]) -> None:
    """Evaluate queries and record them as the strategy's own."""
    assert study.problem is not None
    study.journal.add(queries, study.problem.evaluate(queries))


@dataclass
class Clock:
    """Seconds, and CPU seconds of all threads, spent inside ``with`` blocks."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall += time.perf_counter() - wall
            self.cpu += time.process_time() - cpu


class OverLimit(BaseException):
    """Ask over its time limit; ``clock`` holds the time that counts.

    It derives from ``BaseException`` because peers catch ``Exception``.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(f"stopped after {clock.wall:.1f} s")
        self.clock = clock


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise ``OverLimit`` in the main thread after ``seconds``."""

    def stop(*_: Any) -> None:
        raise OverLimit(Clock(seconds))

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def own_clock(name: str) -> Iterator[Clock | None]:
    """Measure the peer's own call; yield None for strategies without one."""
    if name not in OWN_CALL:
        yield None
        return
    module, owner, method = OWN_CALL[name]
    kind = getattr(import_module(module), owner)
    inner, clock = getattr(kind, method), Clock()

    def timed(*args: Any, **kwargs: Any) -> Any:
        with clock.running():
            return inner(*args, **kwargs)

    setattr(kind, method, timed)
    try:
        yield clock
    finally:
        setattr(kind, method, inner)


@dataclass(frozen=True)
class Timing:
    """Timing of one ask: counted seconds and CPU seconds, seconds of the call, queries returned."""

    wall: float
    cpu: float
    whole: float
    queries: int

    def to_json(self) -> dict[str, Any]:
        return {key: round(value, 6) for key, value in asdict(self).items()}


def timed_asks(
    entrant: Entrant, study: bi.Study, count: int, warm: int = 0, limit: float | None = None
) -> Iterator[Timing]:
    """Time one ask without a memo and up to ``warm`` asks with one.

    A warm ask follows the outcomes of the ask before and gets its memo. Strategies without a
    memo are asked once.

    Raises:
        OverLimit: an ask took longer than ``limit`` seconds.
    """
    from bo_invert.strategies.base import Request, from_spec

    strategy = from_spec({"name": entrant.name, "options": entrant.options})
    strategy.check(study.statement)
    memo, first = None, len(study.trials) // count
    for number in range(1 + warm):
        statement, trials = study.statement, study.trials
        request = Request(
            number=first + number, count=count, seed=study.seed, budget=None, memo=memo
        )
        gc.collect()
        whole = Clock()
        with own_clock(entrant.name) as own:
            counted = own or whole
            try:
                with nullcontext() if limit is None else time_limit(limit), whole.running():
                    proposal = strategy.ask(statement, trials, request)
            except OverLimit:
                raise OverLimit(counted) from None
        yield Timing(counted.wall, counted.cpu, whole.wall, len(proposal.queries))
        memo = proposal.memo
        if memo is None or not proposal.queries:
            return
        tell(study, proposal.queries)


def import_everything(
    entrant: Entrant, space: str, outputs: int, limit: float | None = None
) -> None:
    """Run two asks so that later timings exclude imports and other work of the first ask."""
    list(
        timed_asks(entrant, observed_study(Cell(3, 30, 1), space, outputs), 1, warm=1, limit=limit)
    )
