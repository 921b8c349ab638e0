"""One run of pycma, generation by generation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cma
import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.strategies.base import Request
from bo_invert.types import Array


@dataclass(frozen=True)
class RunPlan:
    """Start of a run; ``given`` is the number of the trial at which it begins."""

    start: tuple[float, ...]
    sigma: float
    popsize: int
    given: int | None
    large: bool = True
    generations: float = math.inf


class CMARun:
    """Run of pycma that waits for the scores of generation ``number``.

    ``points`` is None at its end.
    """

    def __init__(self, run: int, plan: RunPlan, domain: Domain, study: Request) -> None:
        self.run, self.plan, self.domain, self.study = run, plan, domain, study
        self.number = 0
        # pycma would seed the global generator, so a method replaces ``numpy.random.randn``.
        self.rng = np.random.default_rng(0)
        options = {
            "randn": self._randn,
            "seed": math.nan,
            "popsize": plan.popsize,
            "CMA_diagonal": domain.dim > 100,
            "verbose": -10,
            "verb_log": 0,
            "verb_disp": 0,
        }
        if domain.dim == 1:  # pycma does not limit the step in one dimension
            options["maxstd"] = math.inf
        elif not domain.continuous:
            # A fifth of a level: below it, a rounded coordinate would never change again.
            parameters = domain.parameters.values()
            options["minstd"] = [0.2 / p.levels for p in parameters for _ in range(p.width)]
        if not domain.latent:
            options["bounds"] = list(domain.limits)
        self.es = cma.CMAEvolutionStrategy(np.array(plan.start), plan.sigma, options)
        self._draw()

    def _randn(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape)

    def tell(self, scores: Array) -> None:
        self.es.tell(self.raw, scores.tolist())
        self.number += 1
        self._draw()

    def _draw(self) -> None:
        self.points: Array | None = None
        if not self.es.stop() and self.number < self.plan.generations:
            # One stream per generation: a replay from the cache draws as one from the start.
            self.rng = self.study.stream(self.run, self.number)
            self.raw = self.es.ask()
            self.points = self.domain.project(np.array(self.raw))
