"""Amortised inverse: a network from noise to points, trained on the loss of the oracle.

A strategy never holds the oracle. With gradients, each training sample is a query. The chain rule

    ``d loss / d weights = (d loss / d point) (d point / d weights)``

needs the oracle for the first factor only, so the network is a replay of the observed gradients
through Adam. Without gradients, an ensemble of regressors of the outputs replaces the oracle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch

from bo_invert.domains.search_domain import Domain
from bo_invert.history import History
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.ensemble import fit_ensemble
from bo_invert.objectives.base import Objective
from bo_invert.objectives.outcome_constraint import OutcomeConstraint
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.single_output import Minimize
from bo_invert.strategies.base import (
    Proposal,
    Request,
    Strategy,
    draw_seed,
    option,
    stream_generator,
)
from bo_invert.types import Array, Query, State, Trial

# Numbers of the random streams of a study: by definition different, no unit.
_WEIGHTS, _NOISE, _FREE, _MEMBERS = range(4)
_Batch = tuple[int, tuple[int, ...], bytes]
"""Observed batch: its number, the rows with gradients, and the bytes of the gradients."""
_Loss = Callable[["_Generator"], "torch.Tensor"]
"""Mean loss of samples of the network."""


@dataclass(frozen=True)
class Amortized(Strategy):
    """Amortised inverse ``g(noise) -> point``, initially the identity on the reference measure.

    The network minimises over its samples ``z = g(noise)``

        ``mean loss(z) + prior mean(z^2) / 2 - diversity mean log(|z - z'|^2 / d)``.

    The second term (latents only) keeps points plausible, the third keeps samples different.
    With gradients, the last part of the budget is spent on values of samples. Use it to generate
    many different solutions; for a single one, ``gradient`` or ``gp`` need fewer calls.

    Args:
        batch: samples per training round; default: from the budget, 2 to 16.
        width: width of the two hidden layers.
        learning_rate: learning rate of Adam for the weights.
        repeats: Adam steps per observed batch of gradients.
        prior: weight of the prior term.
        diversity: weight of the diversity term.
        trust: distance per coordinate up to which an observed gradient is followed, in standard
            deviations of the reference measure.
        final: with gradients, the share of the budget for values of samples of the network.
        initial: without gradients, the share of the budget for draws to which the first ensemble
            is fitted.
    """

    batch: int | None = option(None, ge=1)
    width: int = option(48, ge=1)
    learning_rate: float = option(0.01, gt=0)
    repeats: int = option(10, ge=1)
    prior: float = option(0.05, ge=0)
    diversity: float = option(0.02, ge=0)
    trust: float = 0.4
    final: float = option(0.2, ge=0, lt=1)
    initial: float = option(0.25, ge=0, lt=1)

    name = "amortized"

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        # Larger batches without gradients: each round fits a new ensemble.
        share = 25 if statement.differentiable else 10
        size = self.batch or (
            8 if request.budget is None else min(16, max(2, request.budget // share))
        )
        left = math.inf if request.budget is None else request.budget - History(trials).committed
        mine = [t for t in trials if t.origin == self.name]
        with one_thread():
            if statement.differentiable:
                queries = self._train_on_oracle(statement.domain, mine, request, size, left)
            else:
                queries = self._train_on_ensemble(statement, trials, request, size, left)
        return Proposal(queries)

    def _train_on_oracle(
        self, domain: Domain, mine: Sequence[Trial], request: Request, size: int, left: float
    ) -> tuple[Query, ...]:
        final = 0.0 if request.budget is None else self.final * request.budget
        queries: list[Query] = []
        # A gradient query costs two calls. The rest of the budget buys values of samples.
        for batch, row in _next_rows(mine, "batch", size, request.count):
            if left - 2 < final:
                break
            net = _replayed(self, domain, request.seed, _gradients(mine, batch))
            point = _points(net, domain, _noise(domain, request.seed, batch, row))
            queries.append(
                Query(point, gradient=True, origin=self.name, meta={"batch": batch, "row": row})
            )
            left -= 2
        if not queries and left >= 1:
            net = _replayed(self, domain, request.seed, _gradients(mine))
            noise = domain.sample(request.rng(), int(min(request.count, left)))
            queries = [Query(point, origin=self.name) for point in _points(net, domain, noise)]
        return tuple(queries)

    def _train_on_ensemble(
        self,
        statement: ProblemStatement,
        trials: Sequence[Trial],
        request: Request,
        size: int,
        left: float,
    ) -> tuple[Query, ...]:
        domain, count = statement.domain, int(min(request.count, max(left, 0)))
        mine = [trial for trial in trials if trial.origin == self.name]
        wanted = max(2 * size, int(self.initial * (request.budget or 0)))
        known = sum(
            t.state is State.COMPLETED or t.state.open
            for t in trials
            if "round" not in t.query.meta
        )
        if known < wanted:
            points = domain.sample(request.rng(), min(count, wanted - known))
            return tuple(Query(point, origin=self.name, meta={"draw": True}) for point in points)
        queries = []
        # All samples of a round come from one network, fitted to the trials before the round.
        for turn, row in _next_rows(mine, "round", size, count):
            begun = min(
                (t.number for t in mine if t.query.meta.get("round") == turn), default=len(trials)
            )
            net = _fitted_to_ensemble(self, statement, History(trials[:begun]), request.seed)
            point = _points(net, domain, _noise(domain, request.seed, turn, row))
            queries.append(Query(point, origin=self.name, meta={"round": turn, "row": row}))
        return tuple(queries)


def _next_rows(mine: Sequence[Trial], key: str, size: int, count: int) -> list[tuple[int, int]]:
    """Return batch and row of the next ``count`` samples, after those in the log."""
    batches = [t.query.meta[key] for t in mine if key in t.query.meta]
    batch = max(batches, default=0)
    # A batch that was begun with a larger size is complete.
    row = min(batches.count(batch), size)
    return [(batch + (row + i) // size, (row + i) % size) for i in range(count)]


def _gradients(mine: Sequence[Trial], before: float = math.inf) -> tuple[_Batch, ...]:
    """Return the observed gradients by batch, of batches before ``before``."""
    batches: dict[int, dict[int, Array]] = {}
    for trial in mine:
        gradient = None if trial.outcome is None else trial.outcome.gradient
        if gradient is not None and trial.query.meta.get("batch", math.inf) < before:
            batches.setdefault(trial.query.meta["batch"], {})[trial.query.meta["row"]] = gradient
    return tuple(
        (batch, tuple(sorted(rows)), np.array([rows[row] for row in sorted(rows)]).tobytes())
        for batch, rows in sorted(batches.items())
    )


def _noise(domain: Domain, seed: int, batch: int, row: int) -> Array:
    """Draw the noise of a sample from the reference measure, shape ``(d,)``."""
    return np.asarray(domain.sample(stream_generator(seed, _NOISE, batch, row), 1)[0])


class _Generator:
    """Residual network on unconstrained coordinates, initially the identity.

    ``h(u) = exp(s) u + W3 tanh(W2 tanh(W1 u + b1) + b2) + b3``. A box maps its coordinates by
    the logit and back. The scale s lets the network reduce the effect of the noise in few steps.
    """

    def __init__(self, domain: Domain, width: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.domain = domain

        def layer(inputs: int, outputs: int, gain: float) -> list[torch.Tensor]:
            weight = (
                torch.randn(inputs, outputs, generator=generator, dtype=torch.float64)
                * gain
                / math.sqrt(inputs)
            )
            return [weight, torch.zeros(outputs, dtype=torch.float64)]

        d = domain.dim
        # The gain 0 of the last layer and the log scale 0 make the initial network the identity.
        self.weights = [
            *layer(d, width, 1.0),
            *layer(width, width, 1.0),
            *layer(width, d, 0.0),
            torch.zeros(d, dtype=torch.float64),
        ]
        for weight in self.weights:
            weight.requires_grad_()

    def __call__(self, noise: torch.Tensor) -> torch.Tensor:
        w1, b1, w2, b2, w3, b3, scale = self.weights
        # The clamp bounds the logit by about 4, where the sigmoid still has a slope of 0.02.
        start = noise.clamp(0.02, 0.98).logit() if not self.domain.latent else noise
        hidden = (((start @ w1 + b1).tanh()) @ w2 + b2).tanh()
        moved = start * scale.exp() + hidden @ w3 + b3
        if not self.domain.latent:
            points: torch.Tensor = moved.sigmoid()
            return points
        lengths = moved.norm(dim=-1, keepdim=True).clamp(min=1e-9)
        shrink: torch.Tensor = (self.domain.radius / lengths).clamp(max=1.0)
        return moved * shrink


def _points(net: _Generator, domain: Domain, noise: Array) -> Array:
    """Map noise ``(..., d)`` to valid points of the same shape."""
    with torch.no_grad():
        points = net(torch.from_numpy(np.atleast_2d(noise))).numpy()
    return domain.project(points).reshape(noise.shape)


def _train(
    net: _Generator, options: Amortized, seed: int, losses: Iterable[tuple[_Loss, int]]
) -> None:
    """Train with Adam on pairs of a loss and a number of steps.

    The prior and diversity terms use a batch of their own, which costs no calls.
    """
    optimizer = torch.optim.Adam(net.weights, lr=options.learning_rate)
    noise = torch.from_numpy(net.domain.sample(stream_generator(seed, _FREE), 32))
    for loss_of, steps in losses:
        for _ in range(steps):
            points = net(noise)
            # 1e-6 bounds the repulsion of two equal samples.
            apart = torch.nn.functional.pdist(points) ** 2 / net.domain.dim
            loss = loss_of(net) - options.diversity * (apart + 1e-6).log().mean()
            if net.domain.latent:
                # mean(z^2) / 2 is -log N(z; 0, I) / d up to a constant.
                loss = loss + options.prior * 0.5 * (points**2).mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()


@lru_cache(maxsize=8)
def _replayed(
    options: Amortized, domain: Domain, seed: int, observed: tuple[_Batch, ...]
) -> _Generator:
    """Return the network after training on observed gradients."""

    def losses() -> Iterable[tuple[_Loss, int]]:
        norms: list[float] = []
        for batch, rows, data in observed:
            slopes = np.frombuffer(data).reshape(len(rows), domain.dim)
            lengths = np.linalg.norm(slopes, axis=1, keepdims=True)
            norms.extend(lengths[:, 0])
            # Dividing by sqrt(|g|^2 + median^2) bounds the weight of a single steep gradient.
            soft = np.sqrt(lengths**2 + np.median(norms) ** 2 + 1e-300)
            upstream = torch.from_numpy(slopes / soft)
            noise = torch.from_numpy(np.array([_noise(domain, seed, batch, row) for row in rows]))
            with torch.no_grad():
                before = net(noise)
            yield partial(_chain_rule, upstream, noise, before, reach), options.repeats

    reach = options.trust * math.sqrt(domain.dim) * domain.scale
    net = _Generator(domain, options.width, draw_seed(stream_generator(seed, _WEIGHTS)))
    _train(net, options, seed, losses())
    return net


def _chain_rule(
    upstream: torch.Tensor, noise: torch.Tensor, before: torch.Tensor, reach: float, net: _Generator
) -> torch.Tensor:
    """Compute ``mean(g.m + |m|^2 / 2)`` with the moves m of samples in units of ``reach``.

    The proximal term limits the moves, because a gradient g holds near its point only.
    """
    # g.m + |m|^2 / 2 is least at m = -g. As |g| < 1, that moves no sample by more than reach.
    move = (net(noise) - before) / reach
    return ((upstream * move).sum(dim=1) + 0.5 * (move**2).sum(dim=1)).mean()


def _fitted_to_ensemble(
    options: Amortized, statement: ProblemStatement, history: History, seed: int
) -> _Generator:
    """Return the network trained on an ensemble fitted to the observed outputs."""
    loss, targets = _tensor_loss(statement), history.y
    if loss is None:  # without torch support of the objective, the ensemble models the loss
        loss, targets = Minimize(), history.losses[:, None]
    constraints = statement.constraints if targets.shape == history.y.shape else ()
    table = (history.points.tobytes(), targets.tobytes(), targets.shape[1])
    return _fitted_to(options, statement.domain, loss, constraints, seed, table)


def _tensor_loss(statement: ProblemStatement) -> Objective | None:

    try:
        statement.objective.loss(
            torch.zeros(2, len(statement.outputs), dtype=torch.float64)
        ).sum().item()
    except Exception:
        return None
    return statement.objective


@lru_cache(maxsize=4)
def _fitted_to(
    options: Amortized,
    domain: Domain,
    objective: Objective,
    constraints: tuple[OutcomeConstraint, ...],
    seed: int,
    table: tuple[bytes, bytes, int],
) -> _Generator:
    net = _Generator(domain, options.width, draw_seed(stream_generator(seed, _WEIGHTS)))
    points = np.frombuffer(table[0]).reshape(-1, domain.dim)
    y = np.frombuffer(table[1]).reshape(-1, table[2])
    if len(points) < 3:
        return net
    ensemble = fit_ensemble(points, y, draw_seed(stream_generator(seed, _MEMBERS)))
    noise = torch.from_numpy(domain.sample(stream_generator(seed, _FREE, 1), 32))
    observed = objective.loss(torch.from_numpy(y.copy()))
    # Losses in units of their spread make the weights of all terms comparable.
    spread = float(observed.std().clamp(min=1e-12))

    def loss_of(net: _Generator) -> torch.Tensor:
        outputs = ensemble(net(noise))
        loss: torch.Tensor = objective.loss(outputs) / spread
        for constraint in constraints:
            # An L1 penalty is exact if its factor exceeds the multiplier (Nocedal & Wright 2006,
            # section 17.2).
            loss = loss + 10.0 * constraint.excess(outputs).clamp(min=0.0)
        return loss.mean()

    _train(net, options, seed, [(loss_of, 120)])
    return net
