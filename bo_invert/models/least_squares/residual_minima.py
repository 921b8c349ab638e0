"""Search for minima of modelled residuals from many starts; numpy only.

Two weightings alternate: the sum of squares itself, and residuals weighted by the inverse
covariance of the leave-one-out errors. The second one ignores sharp features until the model
predicts them, so that they do not hide a basin.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.models.base import from_unit, to_unit
from bo_invert.models.least_squares.residual_gp import ResidualModel
from bo_invert.models.optim.levenberg_marquardt import levenberg_marquardt
from bo_invert.types import Array, Mask

_BASIN_RADIUS = 0.05
"""Radius of a basin of attraction in units of the domain's width. Engineering choice."""
_REPEAT_FACTOR = 0.9
"""Factor by which a predicted minimum must improve on its basin, per evaluation there.
Engineering choice."""
_MAX_NUMBERS = 1 << 21
"""Numbers in an array of distances: 16 MiB. Engineering choice."""


class ResidualSearch:
    """Search for a zero of modelled residuals.

    Args:
        domain: Search domain.
        model: Model of the residuals; None without variation.
        points: Observed points, best first, shape ``(n, d)``.
        failed: Points of failed trials, shape ``(f, d)``.
    """

    def __init__(
        self,
        domain: Domain,
        model: ResidualModel | None,
        points: Array,
        failed: Array,
    ) -> None:
        self.domain, self.model = domain, model
        self.observed, self.failed = to_unit(domain, points), to_unit(domain, failed)
        self.incumbents = self.observed[:8]

    def propose(
        self, count: int, pending: Sequence[Array], rng: np.random.Generator
    ) -> list[Array]:
        """Propose points ``(d,)``, alternating between the weightings.

        A minimum of the model near an observation is proposed only if it predicts a sufficiently
        lower sum of squares. Without such a minimum, the best candidate away from all known points
        is proposed. Pending and proposed points are fantasies, so that a batch covers several
        basins where the model is certain, and learns slopes where it is not.

        Args:
            count: Number of points.
            pending: Pending points.
            rng: Random generator of candidates and fantasies.
        """
        picked: list[Array] = []
        model = self.model
        waiting = to_unit(self.domain, np.array(pending).reshape(-1, self.domain.dim))
        if model is not None and len(waiting):
            model = model.fantasize(waiting, rng)
        known = np.concatenate([self.observed, self.failed, waiting])
        while len(picked) < count:
            x = self._candidates(rng)[-1] if model is None else self._pick(model, known, rng)
            if model is not None:
                model = model.fantasize(x[None], rng)
            known = np.concatenate([known, x[None]])
            picked.append(from_unit(self.domain, x))
        return picked

    def _candidates(self, rng: np.random.Generator) -> Array:
        """Draw inputs ``(b, d)`` near the incumbents and over the whole domain."""
        sigmas = np.repeat([0.01, 0.03, 0.03, 0.1, 0.1, 0.2, 0.2], len(self.incumbents))
        steps = sigmas[:, None] * rng.standard_normal((len(sigmas), self.domain.dim))
        near = np.tile(self.incumbents, (7, 1)) + steps
        wide = np.concatenate([self.domain.uniform(rng, 1000), self.domain.sample(rng, 1000)])
        return self._valid(np.concatenate([near, to_unit(self.domain, wide)]))

    def _valid(self, x: Array) -> Array:
        return to_unit(self.domain, from_unit(self.domain, x))

    def _pick(self, model: ResidualModel, known: Array, rng: np.random.Generator) -> Array:
        """Return the next unit input ``(d,)``."""
        candidates = self._candidates(rng)
        feasible = candidates[~self._near_failure(candidates)]
        if not len(feasible):
            return np.asarray(candidates[-1])
        # The number of known points decides which weighting comes first.
        weightings = [model.identity, model.whitening()]
        for weights in weightings[::-1] if len(known) % 2 else weightings:
            found = self._minimum(model, known, feasible, weights)
            if found is not None:
                return found
        distances = _distances(feasible, known)
        radius = _BASIN_RADIUS * np.sqrt(self.domain.dim)
        # The quantile leaves candidates even if all of them are near known points.
        far = distances > min(radius, float(np.quantile(distances, 0.8)))
        squares = np.where(far, model.squares(feasible, model.identity), np.inf)
        return np.asarray(feasible[squares.argmin()])

    def _minimum(
        self, model: ResidualModel, known: Array, candidates: Array, weights: Array
    ) -> Array | None:
        """Return the lowest minimum ``(d,)`` of the model that is worth an evaluation."""
        order = np.argsort(model.squares(candidates, weights), kind="stable")
        # Best candidates, random ones, and incumbents moved off their observation.
        starts = [candidates[order[:12]], candidates[-4:], self.incumbents[:4] + 1e-4]
        found, squares = levenberg_marquardt(
            lambda x: model.linearise(x, weights),
            self._valid(np.concatenate(starts)),
            self._valid,
            bounded=not self.domain.latent,
        )
        # Both sides of a comparison are predictions, so errors of the model cancel.
        observed = model.gp.inputs
        reached = model.squares(observed, weights)
        ordinary = np.quantile(model.squares(observed, model.identity), 0.25)
        fair = model.squares(found, model.identity) <= ordinary
        found, squares = found[fair], squares[fair]
        for i in np.argsort(squares, kind="stable"):
            distances = np.linalg.norm(observed - found[i], axis=1)
            basin = reached[distances < _BASIN_RADIUS * np.sqrt(self.domain.dim)]
            # Each evaluation in a basin lowers the prediction that justifies another one.
            bound = _REPEAT_FACTOR ** len(basin) * basin.min(initial=np.inf)
            new = np.linalg.norm(known - found[i], axis=1).min() >= 1e-9
            if squares[i] <= bound and new and not self._near_failure(found[i : i + 1])[0]:
                return np.asarray(found[i])
        return None

    def _near_failure(self, x: Array) -> Mask:
        """Return whether the nearest trial of inputs ``(b, d)`` failed, shape ``(b,)``."""
        return np.asarray(_distances(x, self.failed) < _distances(x, self.observed))


def _distances(x: Array, known: Array) -> Array:
    """Return the distance of each input ``(b, d)`` from the nearest of ``(n, d)``, shape ``(b,)``.

    |x - y|^2 = |x|^2 + |y|^2 - 2 x.y is fast in many dimensions, with an error of about 1e-8.
    Without known inputs the distance is infinite.
    """
    norms, rows = (known**2).sum(1), max(1, _MAX_NUMBERS // max(1, len(known)))
    blocks = [x[i : i + rows] for i in range(0, len(x), rows)]
    least = [
        (block**2).sum(1) + (norms - 2.0 * block @ known.T).min(1, initial=np.inf)
        for block in blocks
    ]
    return np.asarray(np.sqrt(np.maximum(np.concatenate(least), 0.0)))
