"""CMA-ES with restarts, from the package pycma."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy, option
from bo_invert.strategies.peers.cma_run import CMARun, RunPlan
from bo_invert.strategies.replay import ReplayCache, start_trial
from bo_invert.types import Array, Query, Trial


@dataclass(frozen=True)
class CMAES(Strategy):
    """CMA-ES of pycma with BIPOP restarts (Hansen 2009), replayed from the log.

    The first run starts at the best observation of the log, else at the centre of the domain.
    Restarts begin at draws from the reference measure, or at a better observation of the user or
    another strategy. BIPOP alternates populations that double with small ones of random size and
    step, so that both spend equal numbers of calls.

    A generation ends when none of its trials is pending; a batch of the population's size keeps
    all workers busy. Infeasible trials rank after feasible ones, by violation, and failed trials
    last. Integers and choices are rounded before evaluation. Above 100 coordinates the covariance
    is diagonal. Use it for more than about 100 calls per coordinate, or for rugged functions.

    Args:
        sigma0: initial step size; default 0.25 of the width of a box, 1 in a latent.
        popsize: population of the first run; default ``4 + 3 ln d``.
    """

    sigma0: float | None = option(None, gt=0, lt=math.inf)
    popsize: int | None = option(None, ge=3)
    name = "cmaes"

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        log = _GenerationLog(trials, self.name)
        study = (self, statement.domain, request.seed)
        replay = _CACHE.take(study)
        if replay is None or not replay.agrees(log):
            replay = _Replay(*study)
        try:
            return Proposal(tuple(replay.advance(log, request.count)))
        finally:
            _CACHE.put(study, replay)


class _GenerationLog:
    """Trials of this strategy by run, generation and index."""

    def __init__(self, trials: Sequence[Trial], origin: str) -> None:
        self.trials = trials
        self.origin = origin
        self.own: dict[tuple[int, int, int], list[Trial]] = {}
        for trial in trials:
            if trial.origin == origin:
                meta = trial.query.meta
                self.own.setdefault((meta["start"], meta["generation"], meta["index"]), []).append(
                    trial
                )

    def members(self, run: int, generation: int, points: Array) -> list[Trial | None]:
        """Return the trial of each point of a generation; None if it is not in the log yet."""
        return [
            next(
                (
                    t
                    for t in self.own.get((run, generation, i), ())
                    if np.array_equal(t.query.point, point)
                ),
                None,
            )
            for i, point in enumerate(points)
        ]


class _Replay:
    """State after the log: plans of the runs, completed generations, and the current run."""

    def __init__(self, options: CMAES, domain: Domain, seed: int) -> None:
        self.options, self.domain, self.study = options, domain, Request(seed=seed)
        self.plans: list[RunPlan] = []
        self.completed: list[tuple[int, int, Array, Array]] = []
        """Run, generation, points ``(p, d)`` and scores ``(p,)`` of completed generations."""
        self.current: CMARun | None = None

    def agrees(self, log: _GenerationLog) -> bool:
        """Return True if the log begins with the generations and plans of this replay."""
        for run, generation, points, scores in self.completed:
            logged = _scores(log.members(run, generation, points))
            if logged is None or not np.array_equal(logged, scores):
                return False
        return all(self._plan(run, log) == plan for run, plan in enumerate(self.plans))

    def advance(self, log: _GenerationLog, count: int) -> list[Query]:
        """Replay the log; return the missing queries of the first incomplete generation."""
        while True:
            if self.current is None or self.current.points is None:
                run = len(self.plans)
                self.plans.append(self._plan(run, log))
                self.current = CMARun(run, self.plans[-1], self.domain, self.study)
                continue
            now, points = self.current, self.current.points
            members = log.members(now.run, now.number, points)
            scores = _scores(members)
            # The covariance update ranks a whole generation, so it waits for the last trial.
            if scores is None:
                meta = {"start": now.run, "from": now.plan.given, "generation": now.number}
                return [
                    Query(points[i], origin=self.options.name, meta={**meta, "index": i})
                    for i, trial in enumerate(members)
                    if trial is None
                ][:count]
            self.completed.append((now.run, now.number, points, scores))
            now.tell(scores)

    def _plan(self, run: int, log: _GenerationLog) -> RunPlan:
        domain, rng = self.domain, self.study.stream(run)
        given = start_trial(log.trials, log.origin, run)
        if given is not None:
            start = given.point
        else:
            start = domain.sample(rng, 1)[0] if run > 0 else np.full(domain.dim, domain.centre)
        sigma = self.options.sigma0 or domain.step
        if domain.latent and start.any():
            sigma *= 0.5  # from a point of the shell, full steps would leave it
        first = self.options.popsize or 4 + int(3 * math.log(domain.dim))
        # The large population doubles with every large run (IPOP, Auger & Hansen 2005).
        popsize = first * 2 ** sum(plan.large for plan in self.plans[:run])
        plan = RunPlan(tuple(start), sigma, popsize, None if given is None else given.number)
        # Calls of runs with small and with large populations.
        spent = [0, 0]
        for former, _, points, _ in self.completed:
            spent[self.plans[former].large] += len(points) if former < run else 0
        if spent[False] >= spent[True] or run == 1:
            return plan
        # BIPOP (Hansen 2009): a small population with a random exponent and a smaller step.
        u, v = rng.random(2)
        small = int(first * (0.5 * popsize / first) ** (u * u))
        generations = max(1.0, 0.5 * spent[True] / small)
        sigma *= 10 ** (-2 * v)
        return replace(plan, sigma=sigma, popsize=small, large=False, generations=generations)


def _scores(members: Sequence[Trial | None]) -> Array | None:
    """Return scores ``(popsize,)`` that rank a generation; None while a trial is not complete."""
    if any(trial is None or trial.state.open for trial in members):
        return None
    ranks = [_rank(trial) for trial in members if trial is not None]
    losses = [loss for worse, loss in ranks if worse == 0.0]
    # CMA-ES uses ranks only. Infeasible trials follow the worst feasible loss at equal gaps.
    top = max(losses, default=0.0)
    gap = max(top - min(losses, default=0.0), abs(top), 1.0)
    behind = sorted({worse for worse, _ in ranks if worse > 0.0})
    return np.array(
        [loss if worse == 0.0 else top + gap * (1 + behind.index(worse)) for worse, loss in ranks]
    )


def _rank(trial: Trial) -> tuple[float, float]:
    """Return violation, infinite for a failed trial, and loss."""
    if trial.outcome is None or trial.loss is None:
        return math.inf, 0.0
    return max(trial.outcome.violation, 0.0), trial.loss


_CACHE: ReplayCache[_Replay] = ReplayCache()
