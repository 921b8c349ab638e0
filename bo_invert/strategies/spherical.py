"""Thompson sampling with a linear model on a sphere: for latents of dozens to hundreds of dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.models.optim.initial_design import (
    initial_design,
    initial_design_size,
    needs_initial_design,
)
from bo_invert.objectives import Target
from bo_invert.problem_statement import ProblemStatement
from bo_invert.search_domain import Domain
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.types import Array, Query, Trial

if TYPE_CHECKING:
    from bo_invert.models.acquisition.expected_improvement import Score
    from bo_invert.models.linear.spherical_gp import SphericalLinearGP
    from bo_invert.models.output_transforms import ModelledOutputs


#: Share of the exploration that is left to a refining query.
_REFINING = 0.2


@dataclass(frozen=True)
class Spherical(Strategy):
    """Spherical-linear Gaussian process (Doumont et al., AISTATS 2026) with exact Thompson samples.

    After an initial design like that of ``gp``, every query is the best point of one sample of the model's outputs,
    so a batch needs no more thought than one query. In a latent the best point has a closed form for an output to
    minimise or maximise and for a ``Target`` of any number of outputs. In boxes, for a ``Composite`` and under
    constraints (penalised by how far the sample violates them) it is searched: looks, then gradients from the best.

    Failures are learned by a process like that of ``gp`` and by a linear model, and the more doubtful one counts. Where
    a closed form will rather fail than not, the sampled improvement times the probability of an answer is searched.
    A closed form outside a latent's ``floor`` is moved to its edge.

    An ask costs tens of milliseconds at 500 coordinates and a thousand trials, hundreds where some failed, and seconds
    whenever the models are fitted anew. What the model cannot do is bend: in few coordinates, or for an optimum between
    bad points, take ``gp``.

    With many unknown coordinates nearly all of a sample is chance, and its best point is far from everything known.
    So where a sampled slope deviates from the mean slope by more than a share of the latter's length, the deviation
    is shortened to it. Once the coordinates are known this does nothing, and the samples are exact.

    Many points meet a sampled target as a rule; the one nearest to the incumbent is taken. Every other query refines:
    its sample keeps a fifth of the exploration and is brought in line with the told points around the incumbent, where
    a linear model's misfit fades. These are secant steps along the model's slopes, and converge where the model alone
    would stop at its own error.

    Args:
        chart: ``"directions"`` looks at a latent's directions and proposes points at radius ``sqrt(d)``, where its
            mass is, or as far out as its ``floor`` allows; ``"stereographic"`` sees the radius too; ``"auto"`` takes
            the first in latents, the second in boxes.
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
            raise InvalidInputError(
                f"strategy 'spherical': chart is 'auto', 'directions' or 'stereographic', got {self.chart!r}"
            )
        if (self.exploration is not None and self.exploration < 0) or (
            self.initial is not None and self.initial < 1
        ):
            raise InvalidInputError(
                f"strategy 'spherical': exploration is at least 0 and initial at least 1, got {self}"
            )

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        history, domain = History(trials), statement.domain
        if needs_initial_design(
            history, initial_design_size(domain.dim, request.budget, self.initial)
        ):
            return Proposal(initial_design(self.name, domain, history, request), request.memo)
        from bo_invert.models.threads import one_thread

        with one_thread():
            return self._sampled(statement, history, request)

    def _sampled(self, statement: ProblemStatement, history: History, request: Request) -> Proposal:
        from bo_invert.models.acquisition.feasibility import feasibility_and_plausibility
        from bo_invert.models.acquisition.linear_thompson import (
            fit_linear_feasibility,
            thompson_score,
        )
        from bo_invert.models.linear import spherical_gp as spherical
        from bo_invert.models.optim.optimize_acquisition import optimize_acquisition
        from bo_invert.models.output_transforms import ModelledOutputs

        domain, rng, memo = statement.domain, request.rng(), request.memo or {}
        outputs = ModelledOutputs(statement, history.y, history.losses)
        # A direction on a line is one of two points.
        directions = domain.latent and domain.dim > 1 and self.chart != "stereographic"
        points = domain.centred(history.points)
        model = spherical.fit_spherical_gp(
            points, outputs.values, memo.get("outputs"), directions=directions
        )
        allowed, lessons = feasibility_and_plausibility(statement, history, memo.get("permission"))
        answered, labels = fit_linear_feasibility(
            domain, history, memo.get("labels"), directions=directions
        )
        allowed = _stricter(allowed, answered)
        others = [trial.point for trial in (*history.pending, *history.failed)]
        picked: list[Array] = []
        for i, sample in enumerate(model.sample(rng, request.count)):
            refining = (len(history.completed) + len(history.pending) + i) % 2 == 1
            point = self._solved(sample, model, outputs, history, refining)
            if point is None or not _likely(point, domain, allowed):
                incumbents = np.array([trial.point for trial in history.ranking[:5]])
                score = thompson_score(
                    self._shortened(sample, model.mean), model.projection, outputs, allowed
                )
                known = [*history.points, *others, *picked]
                point, _ = optimize_acquisition(
                    score,
                    domain,
                    incumbents,
                    known,
                    rng,
                    n_global=128,
                    n_local=64,
                    starts=4,
                    steps=25,
                )
            elif _among(point, history.points) or _among(point, np.array([*others, *picked])):
                point = _drawn(domain, allowed, rng)
            picked.append(point)
        queries = tuple(Query(point, origin=self.name) for point in picked)
        return Proposal(queries, {"outputs": model.memo, "permission": lessons, "labels": labels})

    def _shortened(self, weights: Array, mean: Array, part: float = 1.0) -> Array:
        """Sampled weights ``(k, D + 1)`` with their deviation from the mean cut to ``part`` of what is allowed."""
        if self.exploration is None:
            return weights
        lengths = np.linalg.norm((weights - mean)[:, :-1], axis=1, keepdims=True)
        allowed = part * self.exploration * np.linalg.norm(mean[:, :-1], axis=1, keepdims=True)
        return np.asarray(
            mean + np.minimum(1.0, allowed / np.maximum(lengths, 1e-300)) * (weights - mean)
        )

    def _solved(
        self,
        sample: Array,
        model: SphericalLinearGP,
        outputs: ModelledOutputs,
        history: History,
        refining: bool,
    ) -> Array | None:
        """The best point ``(d,)`` of sampled weights ``(k, D + 1)`` where it has a closed form."""
        from bo_invert.models.linear.sphere import minimise_distance, minimise_linear

        statement, chart = outputs.statement, model.projection
        domain, objective = statement.domain, statement.objective
        if not domain.latent or statement.constraints:
            return None
        height = chart.max_height(domain.radius)
        if not outputs.composite and len(sample) == 1:
            weights = self._shortened(sample, model.mean)
            return domain.project(
                chart.unproject(minimise_linear(_sign(outputs) * weights[0, :-1], height))
            )
        if not outputs.composite or not isinstance(objective, Target):
            return None
        incumbent = history.ranking[0].point
        near = chart.features(incumbent[None])[0, :-1]
        weights = self._shortened(sample, model.mean, _REFINING if refining else 1.0)
        if refining:
            weights = model.condition_locally(weights, near)
        weights = weights[[outputs.columns.index(i) for i in objective.indices]]
        scale = np.array(objective.scale)
        wanted = (np.array(objective.value) - weights[:, -1]) / scale
        best = chart.unproject(
            minimise_distance(weights[:, :-1] / scale[:, None], wanted, near, height)
        )
        if refining and chart.lengthscale is None:  # stay beside it in radius too
            best *= np.linalg.norm(incumbent) / chart.reach
        return domain.project(best)


def _sign(outputs: ModelledOutputs) -> float:
    """1 where the loss is the modelled number, -1 where it is minus that."""
    import torch

    low, high = outputs.loss(torch.tensor([[0.0], [1.0]], dtype=torch.float64)).tolist()
    return 1.0 if high > low else -1.0


def _stricter(one: Score | None, other: Score | None) -> Score | None:
    """The lower of two scores at each point."""
    import torch

    if one is None or other is None:
        return one or other
    return lambda inputs: torch.minimum(one(inputs), other(inputs))


def _likely(point: Array, domain: Domain, allowed: Score | None) -> bool:
    """Whether a point ``(d,)`` will rather be answered than not."""
    return allowed is None or float(_values(allowed, domain, point[None])[0]) > math.log(0.5)


def _drawn(domain: Domain, allowed: Score | None, rng: np.random.Generator) -> Array:
    """A draw of the reference measure ``(d,)``: where points may be refused, of many the one that is permitted most."""
    points = domain.sample(rng, 1 if allowed is None else 256)
    point: Array = points[0 if allowed is None else _values(allowed, domain, points).argmax()]
    return point


def _values(score: Score, domain: Domain, points: Array) -> Array:
    import torch

    from bo_invert.models.base import to_unit

    with torch.no_grad():
        values: Array = score(torch.tensor(to_unit(domain, points))).numpy()
    return values


def _among(point: Array, known: Array) -> bool:
    """Whether a point ``(d,)`` is one of the known ones ``(n, d)``; mostly one coordinate can tell."""
    if not len(known):
        return False
    near = known[np.abs(known[:, 0] - point[0]) < 1e-9]
    return bool((np.abs(near - point) < 1e-9).all(axis=1).any())
