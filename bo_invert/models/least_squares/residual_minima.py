"""Where residuals vanish, by a model of them: its minima, from many starts. numpy only.

Two yardsticks take turns. One is the sum of squares itself. The other weighs what the model has been seen to predict
well (the inverse covariance of its leave-one-out errors): sharp features that nobody can predict yet then do not
hide the basin that the rest points to, and as the model learns them they count again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from bo_invert.models.base import to_unit
from bo_invert.models.least_squares.residual_gp import ResidualModel
from bo_invert.models.optim.levenberg_marquardt import levenberg_marquardt
from bo_invert.search_domain import Domain
from bo_invert.types import Array

_BASIN_RADIUS = 0.05
"""Share of the domain's width within which evaluations are about the same minimum of the model."""
_REPEAT_FACTOR = 0.9
"""Share of the least squares in a basin that another evaluation there may promise to leave, once for each before it."""
_BLOCK = 1 << 21
"""Numbers at most in an array of distances."""


class ResidualSearch:
    """The search for a zero of modelled residuals.

    Args:
        domain: where to search.
        inside: moves points to where they may be evaluated.
        model: of the residuals; None where nothing is known to vary.
        points: evaluated, best first, shape ``(n, d)``.
        barren: points that gave no outputs, shape ``(f, d)``.
    """

    def __init__(
        self,
        domain: Domain,
        inside: Callable[[Array], Array],
        model: ResidualModel | None,
        points: Array,
        barren: Array,
    ) -> None:
        self.domain, self.inside, self.model = domain, inside, model
        self.observed, self.failed = to_unit(domain, points), to_unit(domain, barren)
        self.incumbents = self.observed[:8]

    def propose(
        self, count: int, pending: Sequence[Array], rng: np.random.Generator
    ) -> list[Array]:
        """Points ``(d,)`` to evaluate next, in turns by the two yardsticks.

        A minimum of the model next to an evaluated point is proposed only if it promises to leave less than that
        point does: a basin that has shown its floor is not asked about again. Where no minimum is left, the best
        look at some distance from everything known is proposed.

        Points under evaluation and those picked before count as evaluated, to outputs drawn from what the model
        believes of them. So the next point is a step on, as it may have to be taken: where the model is sure it
        turns to another basin, where it is not a batch stays near the best and learns the slopes there.

        Args:
            count: how many.
            pending: points under evaluation.
            rng: of the looks, and of what is imagined.
        """
        picked: list[Array] = []
        model = self.model
        waiting = to_unit(self.domain, np.array(pending).reshape(-1, self.domain.dim))
        if model is not None and len(waiting):
            model = model.fantasize(waiting, rng)
        known = np.concatenate([self.observed, self.failed, waiting])
        while len(picked) < count:
            x = self._looks(rng)[-1] if model is None else self._pick(model, known, rng)
            if model is not None:
                model = model.fantasize(x[None], rng)
            known = np.concatenate([known, x[None]])
            picked.append(self._point(x))
        return picked

    def _looks(self, rng: np.random.Generator) -> Array:
        """Inputs near the incumbents, then all over the domain, shape ``(b, d)``."""
        d = self.domain.dim
        sigmas = np.repeat([0.01, 0.03, 0.03, 0.1, 0.1, 0.2, 0.2], len(self.incumbents))
        near = np.tile(self.incumbents, (7, 1)) + sigmas[:, None] * rng.standard_normal(
            (len(sigmas), d)
        )
        wide = to_unit(
            self.domain,
            np.concatenate([self.domain.uniform(rng, 1000), self.domain.sample(rng, 1000)]),
        )
        return self._allowed(np.concatenate([near, wide]))

    def _point(self, x: Array) -> Array:
        """The points ``(..., d)`` that may be evaluated and are nearest to inputs ``(..., d)``."""
        lower, upper = self.domain.bounds
        return self.inside(lower + x * (upper - lower))

    def _allowed(self, x: Array) -> Array:
        return to_unit(self.domain, self._point(x))

    def _pick(self, model: ResidualModel, known: Array, rng: np.random.Generator) -> Array:
        looks = self._looks(rng)
        hopeful = looks[~self._doomed(looks)]
        if not len(hopeful):
            return np.asarray(looks[-1])
        yardsticks = [model.identity, model.whitening()]
        for yardstick in yardsticks[::-1] if len(known) % 2 else yardsticks:
            found = self._minimum(model, known, hopeful, yardstick)
            if found is not None:
                return found
        gaps = _gaps(hopeful, known)
        far = gaps > min(_BASIN_RADIUS * np.sqrt(self.domain.dim), float(np.quantile(gaps, 0.8)))
        return np.asarray(
            hopeful[np.where(far, model.squares(hopeful, model.identity), np.inf).argmin()]
        )

    def _minimum(
        self, model: ResidualModel, known: Array, looks: Array, yardstick: Array
    ) -> Array | None:
        """The least minimum of the model that is worth an evaluation, shape ``(d,)``."""
        scores = model.squares(looks, yardstick)
        starts = [
            looks[np.argsort(scores, kind="stable")[:12]],
            looks[-4:],
            self.incumbents[:4] + 1e-4,
        ]
        found, squares = levenberg_marquardt(
            lambda x: model.linearised(x, yardstick), self._allowed(np.concatenate(starts)), self._allowed,
            bounded=not self.domain.latent,
        )  # fmt: skip
        reached = model.squares(model.inputs, yardstick)
        ordinary = np.quantile(model.squares(model.inputs, model.identity), 0.25)
        squares = np.where(model.squares(found, model.identity) > ordinary, np.inf, squares)
        for i in np.argsort(squares, kind="stable"):
            gaps = np.linalg.norm(model.inputs - found[i], axis=1)
            beside = reached[gaps < _BASIN_RADIUS * np.sqrt(self.domain.dim)]
            if squares[i] == np.inf or (
                len(beside) and squares[i] > _REPEAT_FACTOR ** len(beside) * beside.min()
            ):
                continue
            if np.linalg.norm(known - found[i], axis=1).min() < 1e-9:
                continue
            if not self._doomed(found[i : i + 1])[0]:
                return np.asarray(found[i])
        return None

    def _doomed(self, x: Array) -> NDArray[np.bool_]:
        """Whether the nearest evaluation of inputs ``(b, d)`` gave nothing, shape ``(b,)``."""
        if not len(self.failed):
            return np.zeros(len(x), dtype=bool)
        return np.asarray(_gaps(x, self.failed) < _gaps(x, self.observed))


def _gaps(x: Array, known: Array) -> Array:
    """Distance of each input ``(b, d)`` from the nearest of the known ``(n, d)``, shape ``(b,)``.

    Up to rounding of about 1e-8, since thousands of coordinates' differences would take seconds one by one.
    """
    norms, rows = (known**2).sum(1), max(1, _BLOCK // len(known))
    blocks = [x[i : i + rows] for i in range(0, len(x), rows)]
    least = [(block**2).sum(1) + (norms - 2.0 * block @ known.T).min(1) for block in blocks]
    return np.asarray(np.sqrt(np.maximum(np.concatenate(least), 0.0)))
