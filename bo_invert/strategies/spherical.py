"""Thompson sampling with a linear model on a sphere: for latents of dozens to hundreds of dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.domain import Domain
from bo_invert.errors import InvalidInput
from bo_invert.history import History
from bo_invert.models.design import design, design_size, lacking
from bo_invert.objectives import Target
from bo_invert.statement import Statement
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.types import Array, Query, Trial

if TYPE_CHECKING:
    from torch import Tensor

    from bo_invert.models.outputs import Outputs
    from bo_invert.models.sphere import Chart
    from bo_invert.models.spherical import SphericalLinear


#: Share of the exploration that is left to a refining query.
_REFINING = 0.2


@dataclass(frozen=True)
class Spherical(Strategy):
    """Spherical-linear Gaussian process (Doumont et al., AISTATS 2026) with exact Thompson samples.

    After an initial design like that of ``gp``, every query is the best point of one sample of the model's outputs,
    so a batch needs no more thought than one query. In a latent the best point has a closed form for an output to
    minimise or maximise and for a ``Target`` of any number of outputs. In boxes, for a ``Composite`` and under
    constraints (penalised by how far the sample violates them) it is searched: looks, then gradients from the best.

    An ask costs milliseconds at 500 coordinates and thousands of trials. What the model cannot do is bend: in few
    coordinates, or for an optimum between bad points, take ``gp``.

    With many unknown coordinates nearly all of a sample is chance, and its best point is far from everything known.
    So where a sampled slope deviates from the mean slope by more than a share of the latter's length, the deviation
    is shortened to it. Once the coordinates are known this does nothing, and the samples are exact.

    Many points meet a sampled target as a rule; the one nearest to the incumbent is taken. Every other query refines:
    its sample keeps a fifth of the exploration and is brought in line with the told points around the incumbent, where
    a linear model's misfit fades. These are secant steps along the model's slopes, and converge where the model alone
    would stop at its own error.

    Args:
        chart: ``"directions"`` looks at a latent's directions and proposes points at radius ``sqrt(d)``, where its
            mass is; ``"stereographic"`` sees the radius too; ``"auto"`` takes the first in latents, the second in
            boxes.
        exploration: that share; 0 for the best point of the mean, None for plain Thompson sampling.
        initial: size of the initial design, data of the user's included; default ``2 d``, at least 5, at most 20
            and at most a quarter of the budget.
    """

    name = "spherical"
    chart: str = "auto"
    exploration: float | None = 0.5
    initial: int | None = None

    def __post_init__(self) -> None:
        if self.chart not in ("auto", "directions", "stereographic"):
            raise InvalidInput(
                f"strategy 'spherical': chart is 'auto', 'directions' or 'stereographic', got {self.chart!r}"
            )
        if (self.exploration is not None and self.exploration < 0) or (self.initial is not None and self.initial < 1):
            raise InvalidInput(f"strategy 'spherical': exploration is at least 0 and initial at least 1, got {self}")

    def ask(self, statement: Statement, trials: Sequence[Trial], request: Request) -> Proposal:
        history, domain = History(trials), statement.domain
        if lacking(history, design_size(domain.dim, request.budget, self.initial)):
            return Proposal(design(self.name, domain, history, request), request.memo)
        from bo_invert.threads import one_thread

        with one_thread():
            return self._sampled(statement, history, request)

    def _sampled(self, statement: Statement, history: History, request: Request) -> Proposal:
        from bo_invert.models import spherical
        from bo_invert.models.outputs import Outputs

        domain, rng = statement.domain, request.rng()
        outputs = Outputs(statement, history.y, history.losses)
        # A direction on a line is one of two points.
        directions = domain.geometry == "gaussian" and domain.dim > 1 and self.chart != "stereographic"
        model = spherical.fit(_centred(domain, history.points), outputs.values, request.memo, directions=directions)
        others = [trial.point for trial in (*history.open, *history.barren)]
        picked: list[Array] = []
        for i, sample in enumerate(model.sample(rng, request.count)):
            refining = (len(history.completed) + len(history.open) + i) % 2 == 1
            point = self._solved(sample, model, outputs, history, refining)
            if point is None:
                incumbents = np.array([trial.point for trial in history.ranking[:5]])
                weights = self._shortened(sample, model.mean)
                known = [*history.points, *others, *picked]
                point = _searched(weights, model.chart, outputs, incumbents, known, rng)
            elif _among(point, history.points) or _among(point, np.array([*others, *picked])):
                point = domain.sample(rng, 1)[0]
            picked.append(point)
        return Proposal(tuple(Query(point, origin=self.name) for point in picked), model.memo)

    def _shortened(self, weights: Array, mean: Array, part: float = 1.0) -> Array:
        """Sampled weights ``(k, D + 1)`` with their deviation from the mean cut to ``part`` of what is allowed."""
        if self.exploration is None:
            return weights
        lengths = np.linalg.norm((weights - mean)[:, :-1], axis=1, keepdims=True)
        allowed = part * self.exploration * np.linalg.norm(mean[:, :-1], axis=1, keepdims=True)
        return np.asarray(mean + np.minimum(1.0, allowed / np.maximum(lengths, 1e-300)) * (weights - mean))

    def _solved(
        self, sample: Array, model: SphericalLinear, outputs: Outputs, history: History, refining: bool
    ) -> Array | None:
        """The best point ``(d,)`` of sampled weights ``(k, D + 1)`` where it has a closed form."""
        from bo_invert.models.sphere import lowest, nearest

        statement, chart = outputs.statement, model.chart
        domain, objective = statement.domain, statement.objective
        if domain.geometry == "box" or statement.constraints:
            return None
        height = chart.height(domain.radius)
        if not outputs.composite and len(sample) == 1:
            weights = self._shortened(sample, model.mean)
            return domain.project(chart.lower(lowest(_sign(outputs) * weights[0, :-1], height)))
        if not outputs.composite or not isinstance(objective, Target):
            return None
        incumbent = history.ranking[0].point
        near = chart.lift(incumbent[None])[0, :-1]
        weights = self._shortened(sample, model.mean, _REFINING if refining else 1.0)
        if refining:
            weights = model.localised(weights, near)
        weights = weights[[outputs.columns.index(i) for i in objective.indices]]
        scale = np.array(objective.scale)
        wanted = (np.array(objective.value) - weights[:, -1]) / scale
        best = chart.lower(nearest(weights[:, :-1] / scale[:, None], wanted, near, height))
        if refining and chart.lengthscale is None:  # stay beside it in radius too
            best *= np.linalg.norm(incumbent) / chart.reach
        return domain.project(best)


def _centred(domain: Domain, points: Array) -> Array:
    """Points ``(n, d)`` around 0: a latent's as they are, a box's scaled to [-1, 1]."""
    return points if domain.geometry == "gaussian" else 2.0 * points - 1.0


def _sign(outputs: Outputs) -> float:
    """1 where the loss is the modelled number, -1 where it is minus that."""
    import torch

    low, high = outputs.loss(torch.tensor([[0.0], [1.0]], dtype=torch.float64)).tolist()
    return 1.0 if high > low else -1.0


def _searched(
    weights: Array, chart: Chart, outputs: Outputs, incumbents: Array, known: list[Array], rng: np.random.Generator
) -> Array:
    from bo_invert.models.search import maximise

    score = _score(weights, chart, outputs)
    return maximise(score, outputs.statement.domain, incumbents, known, rng, wide=128, near=64, starts=4, steps=25)


def _score(weights: Array, chart: Chart, outputs: Outputs) -> Callable[[Tensor], Tensor]:
    """Minus the sampled loss in units of the told losses' spread, less a penalty for sampled violations."""
    import torch

    domain = outputs.statement.domain
    lower, upper = (torch.tensor(_centred(domain, bound)) for bound in domain.bounds)
    slopes, constants = torch.tensor(weights[:, :-1].T.copy()), torch.tensor(weights[:, -1].copy())
    told = outputs.loss(torch.tensor(outputs.values))
    unit = max(float(told.std()), 1e-12 * (1.0 + float(told.abs().max())))

    def score(inputs: Tensor) -> Tensor:
        points = lower + inputs * (upper - lower)
        squares = points.square().sum(-1, keepdim=True) / chart.reach**2
        if chart.lengthscale is None:
            vectors = points / chart.reach / squares.clamp(min=1e-12).sqrt()
        else:
            vectors = torch.cat([2.0 * points / chart.reach, squares - 1.0], dim=-1) / (1.0 + squares)
        modelled = vectors @ slopes + constants
        return -outputs.loss(modelled) / unit - 10.0 * outputs.violation(modelled)

    return score


def _among(point: Array, known: Array) -> bool:
    """Whether a point ``(d,)`` is one of the known ones ``(n, d)``; mostly one coordinate can tell."""
    if not len(known):
        return False
    near = known[np.abs(known[:, 0] - point[0]) < 1e-9]
    return bool((np.abs(near - point) < 1e-9).all(axis=1).any())
