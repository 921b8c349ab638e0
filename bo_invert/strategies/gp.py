"""Bayesian optimization with Gaussian processes of the outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.errors import InvalidInput, Unsuitable
from bo_invert.history import History
from bo_invert.rng import draw_seed
from bo_invert.statement import Statement
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.types import JSON, Array, Query, Trial

if TYPE_CHECKING:
    from torch import Tensor


_GREEDY = 8
"""So many points of a batch know of each other; the others are the best ones of functions drawn from the posterior."""
ACQUISITIONS = ("ei", "ucb_pe")
KERNELS = {"rbf": ("rbf",), "matern": ("matern",), "auto": ("rbf", "matern")}


@dataclass(frozen=True)
class GP(Strategy):
    """Bayesian optimization: dimension-scaled Gaussian process, log expected improvement.

    After an initial design (a Sobol sequence in a box, draws from the reference measure in a latent) every ask fits
    one process per raw output (Hvarfner et al., ICML 2024) and maximises the log expected improvement (Ament et al.,
    NeurIPS 2023). For ``Target`` and ``Composite`` it is the improvement of the composite function (Astudillo &
    Frazier, ICML 2019), so the model learns from how every output missed, not only from the loss. More than 15
    outputs are modelled by their principal components. A ``Composite`` whose function cannot take torch tensors is
    modelled by its loss.

    Outcome constraints weigh the improvement by the probability that they hold; as long as nothing feasible is known,
    their violation is reduced first. Places where the oracle gave nothing are learned by a
    second process; points less plausible than the ``floor`` of a latent are avoided. Open trials
    count as evaluated with an unknown outcome. The points of a batch are chosen one after the other, given those
    before; beyond eight, each is the best of a function drawn from the posterior. Beyond 1,000 told points the model
    is given the best, those near them and a spread of the others. Points told or open are proposed again only when no
    others are left. What is expected of a query is noted with it, as 90 % intervals (``query.meta["foretold"]``).

    Args:
        noisy: the oracle answers differently to the same point; then improvement is over what the model believes
            of the told points (qLogNEI).
        initial: size of the initial design, data of the user's included; default ``2 d``, at least 5, at most 20
            and at most a quarter of the budget.
        samples: of the quasi-Monte Carlo estimate.
        kernel: ``"rbf"``, ``"matern"``, or ``"auto"`` for whichever predicts left-out values better.
        warp: straighten the heavy tail of a plain loss where that predicts left-out values better.
        acquisition: ``"ei"``, or ``"ucb_pe"`` (GP-UCB-PE, Contal et al., ECML 2013): the highest upper bound once for
            every change of the data, for all other points the greatest uncertainty where the optimum may be. For plain
            losses, in large or asynchronous batches of noisy oracles.
    """

    name = "gp"
    noisy: bool = False
    initial: int | None = None
    samples: int = 128
    kernel: str = "auto"
    warp: bool = True
    acquisition: str = "ei"

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise InvalidInput(f"strategy 'gp': kernel is one of {', '.join(map(repr, KERNELS))}, got {self.kernel!r}")
        if self.acquisition not in ACQUISITIONS:
            names = ", ".join(map(repr, ACQUISITIONS))
            raise InvalidInput(f"strategy 'gp': acquisition is one of {names}, got {self.acquisition!r}")
        if self.samples < 1 or (self.initial is not None and self.initial < 1):
            raise InvalidInput(f"strategy 'gp': samples and initial must be at least 1, got {self}")

    def ask(self, statement: Statement, trials: Sequence[Trial], request: Request) -> Proposal:
        history = History(trials)
        if len(history.completed) < 2 or len(history.completed) + len(history.open) < self._design_size(
            statement.domain.dim, request.budget
        ):
            return Proposal(self._design(statement, trials, request), request.memo)
        from bo_invert.models.exact import settled

        rng = request.rng()
        with settled(draw_seed(rng)):
            queries, memo = self._improving(statement, history, request, rng)
        return Proposal(queries, memo)

    def _design_size(self, d: int, budget: int | None) -> int:
        if self.initial is not None:
            return self.initial
        size = min(max(5, 2 * d), 20)
        return size if budget is None else min(size, max(2, budget // 4))

    def _design(self, statement: Statement, trials: Sequence[Trial], request: Request) -> tuple[Query, ...]:
        from bo_invert.models.search import unseen

        domain = statement.domain
        drawn = sum("design" in trial.query.meta for trial in trials)
        many = request.count + 32
        if domain.geometry == "box":
            pool = domain.sobol(request.stream(0), many, skip=drawn)
        else:
            pool = domain.sample(request.rng(), many)
        points = unseen(domain, pool, _known(trials), request.count)
        return tuple(Query(point, origin=self.name, meta={"design": drawn + i}) for i, point in enumerate(points))

    def _improving(
        self, statement: Statement, history: History, request: Request, rng: np.random.Generator
    ) -> tuple[tuple[Query, ...], JSON]:
        from bo_invert.models import acquisition, exact, search
        from bo_invert.models.base import plateau, to_unit
        from bo_invert.models.bounds import confidence
        from bo_invert.models.fit import EXACT, NOISY
        from bo_invert.models.foretold import foretell
        from bo_invert.models.outputs import Outputs
        from bo_invert.models.paths import thompson
        from bo_invert.models.permission import permission
        from bo_invert.models.region import Region
        from bo_invert.models.selection import telling

        domain, memo = statement.domain, request.memo or {}
        everything = to_unit(domain, history.points)
        some = telling(everything, history.order)
        told, losses, feasible = everything[some], history.losses[some], history.violations[some] <= 0.0
        outputs = Outputs(statement, history.y[some], losses)
        beliefs = (NOISY,) if self.noisy else (EXACT, NOISY)
        choice = exact.Choice(KERNELS[self.kernel], beliefs, outputs.tails if self.warp else None)
        surrogate = exact.fit(told, outputs.values, memo.get("outputs"), choice, told=len(everything))
        note: dict[str, JSON] = {"outputs": surrogate.memo}
        allowed, note["permission"] = permission(statement, history, memo.get("permission"))
        taken, pending = _known(history.trials), history.open_points.reshape(-1, domain.dim)
        incumbents = np.array([trial.point for trial in history.ranking[:5]])
        apart = plateau(told, history.y[some]) if domain.continuous and not self.noisy else 0.0
        picked = np.empty((0, domain.dim))
        exploring = self.acquisition == "ucb_pe"
        if exploring and outputs.direct is None:
            raise Unsuitable(
                f"strategy 'gp': acquisition 'ucb_pe' wants a loss that is plus or minus one output without a "
                f"constraint on it, {statement.name!r} has {statement.objective}; use acquisition='ei'"
            )
        latest = {"asked_at": len(history.completed)}
        note.update(latest if exploring else {})
        while len(picked) < (request.count if exploring else min(request.count, _GREEDY)):
            waiting = to_unit(domain, np.concatenate([pending, picked]))
            known = acquisition.Known(told, losses, feasible, waiting, self.noisy)
            if exploring:
                seen = len(picked) > 0 or memo.get("asked_at") == latest["asked_at"]
                score = confidence(surrogate, outputs, known, explore=seen)
            else:
                score = acquisition.improvement(surrogate, outputs, known, seed=draw_seed(rng), samples=self.samples)
            both = score if allowed is None else _sum(score, allowed)
            point = search.maximise(both, domain, incumbents, np.concatenate([taken, picked]), rng, apart=apart)
            picked = np.concatenate([picked, point[None]])
        if len(picked) < request.count:
            scores = thompson(surrogate, outputs, request.count - len(picked), draw_seed(rng))
            drawn = scores if allowed is None else _sum(scores, allowed)
            everywhere = Region(domain, to_unit(domain, incumbents[0]), np.full(domain.dim, 2.0))
            for points in everywhere.ranked(drawn, search.looks(domain, incumbents, rng), follow=1):
                point = search.unseen(domain, points, np.concatenate([taken, picked]), 1, apart)
                picked = np.concatenate([picked, point])
        said = foretell(surrogate, outputs, statement, history.trials, to_unit(domain, picked))
        return tuple(Query(x, origin=self.name, meta=words) for x, words in zip(picked, said, strict=True)), note


def _known(trials: Sequence[Trial]) -> Array:
    return np.array([trial.point for trial in trials])


def _sum(score: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda inputs: score(inputs) + other(inputs)
