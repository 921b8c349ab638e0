"""Where residuals vanish, by a model of them: Gauss-Newton steps on the model, from many starts. numpy only.

Two yardsticks take turns. One is the sum of squares itself. The other weighs what the model has been seen to predict
well (the inverse covariance of its leave-one-out errors): sharp features that nobody can predict yet then do not
hide the basin that the rest points to, and as the model learns them they count again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bo_invert.domain import Domain
from bo_invert.models.base import from_unit, to_unit
from bo_invert.models.metric import Process, fit
from bo_invert.types import JSON, Array

Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]

_MANY = 40
_VARIANCE = 1e-6
_BASIN = 0.05
"""Share of the domain's width within which evaluations are about the same minimum of the model."""
_PATIENCE = 0.9
"""Share of the least squares in a basin that another evaluation there may promise to leave, once for each before it."""
_TWINS = 2e-3
"""Share of the domain's width within which evaluations are told apart by nobody but a finishing start."""
_LARGEST = 400
"""Evaluations that are modelled: most of them the best, the others spread over the log."""


@dataclass(frozen=True)
class _Measured:
    """What is modelled: leading principal components of the residuals, and each excess over a constraint.

    Residual K of scores ``z`` is ``scale (z - zero)``, and never negative where ``hinge``.
    """

    scores: Array
    scale: Array
    zero: Array
    hinge: Flags

    @staticmethod
    def of(residuals: Array, excesses: Array) -> _Measured:
        """Of residuals ``(n, k)`` and excesses over constraints ``(n, p)``."""
        n = len(residuals)
        offset, middle = residuals.mean(0), excesses.mean(0)
        left, sizes, right = np.linalg.svd(residuals - offset, full_matrices=False)
        left_out = 1.0 - np.cumsum(sizes**2) / max(float((sizes**2).sum()), 1e-300)
        count = min(
            _MANY, 1 + int((left_out > _VARIANCE).sum()), int((sizes > 1e-12 * (1 + np.abs(residuals).max())).sum())
        )
        scale, spread = sizes[:count] / np.sqrt(n), np.maximum(excesses.std(0), 1e-12)
        return _Measured(
            np.column_stack([left[:, :count] * np.sqrt(n), (excesses - middle) / spread]),
            np.concatenate([scale, spread]),
            np.concatenate([-(right[:count] @ offset) / scale, -middle / spread]),
            np.repeat([False, True], [count, excesses.shape[1]]),
        )

    def residuals(self, z: Array) -> Array:
        """Shape ``(b, K)``, of scores ``(b, K)``."""
        found = self.scale * (z - self.zero)
        return np.asarray(np.where(self.hinge & (found < 0.0), 0.0, found))


class Model:
    """A process behind the residuals, and the search for their zero.

    Args:
        domain: where to search.
        points: evaluated, shape ``(n, d)``, n >= 2.
        residuals: scaled distances from the target there, shape ``(n, k)``.
        excesses: over the constraints there, shape ``(n, p)``; positive ones are residuals too.
        barren: points that gave no outputs, shape ``(f, d)``.
        memo: of an earlier model.
    """

    def __init__(
        self, domain: Domain, points: Array, residuals: Array, excesses: Array, barren: Array, memo: JSON = None
    ) -> None:
        self.domain = domain
        merits = (residuals**2).sum(1) + (np.maximum(excesses, 0.0) ** 2).sum(1)
        kept = _kept(to_unit(domain, points), merits)
        self.measured = _Measured.of(residuals[kept], excesses[kept])
        self.told = to_unit(domain, points)
        self.barren = to_unit(domain, barren)
        self.incumbents = self.told[np.argsort(merits, kind="stable")[:8]]
        importance = np.where(self.measured.hinge, 1.0, self.measured.scale / self.measured.scale.max(initial=0.0))
        self.process: Process | None = None
        self.memo: JSON = memo
        if self.measured.scores.shape[1]:
            self.process, self.memo = fit(self.told[kept], self.measured.scores, importance, memo)

    def propose(self, count: int, pending: Sequence[Array], rng: np.random.Generator) -> list[Array]:
        """Points ``(d,)`` to evaluate next, in turns by the two yardsticks.

        A minimum of the model next to an evaluated point is proposed only if it promises to leave less than that
        point does: a basin that has shown its floor is not asked about again. Where no minimum is left, the best
        look at some distance from everything known is proposed.

        Args:
            count: how many.
            pending: points under evaluation; they count as evaluated, with what the model believes of them.
            rng: of the looks.
        """
        picked: list[Array] = []
        process = self.process
        if process is not None and len(pending):
            process = process.with_believed(to_unit(self.domain, np.array(pending)))
        known = to_unit(self.domain, np.array(pending).reshape(-1, self.domain.dim))
        known = np.concatenate([self.told, self.barren, known])
        while len(picked) < count:
            x = self._looks(rng)[-1] if process is None else self._pick(process, known, rng)
            if process is not None:
                process = process.with_believed(x[None])
            known = np.concatenate([known, x[None]])
            picked.append(from_unit(self.domain, x[None])[0])
        return picked

    def _looks(self, rng: np.random.Generator) -> Array:
        """Inputs near the incumbents, then all over the domain, shape ``(b, d)``."""
        d = self.domain.dim
        sigmas = np.repeat([0.01, 0.03, 0.03, 0.1, 0.1, 0.2, 0.2], len(self.incumbents))
        near = np.tile(self.incumbents, (7, 1)) + sigmas[:, None] * rng.standard_normal((len(sigmas), d))
        wide = to_unit(self.domain, np.concatenate([self.domain.uniform(rng, 1000), self.domain.sample(rng, 1000)]))
        return np.concatenate([self._inside(near), wide])

    def _inside(self, x: Array) -> Array:
        return np.asarray(to_unit(self.domain, from_unit(self.domain, x)))

    def _pick(self, process: Process, known: Array, rng: np.random.Generator) -> Array:
        looks = self._looks(rng)
        hopeful = looks[~self._doomed(looks)] if len(self.barren) else looks
        if not len(hopeful):
            return np.asarray(looks[-1])
        plain = np.eye(len(self.measured.scale))
        yardsticks = [plain, self._trust(process)]
        for whiten in yardsticks[::-1] if len(known) % 2 else yardsticks:
            found = self._minimum(process, known, hopeful, whiten)
            if found is not None:
                return found
        gaps = np.linalg.norm(hopeful[:, None] - known[None], axis=2).min(1)
        far = gaps > min(_BASIN * np.sqrt(self.domain.dim), float(np.quantile(gaps, 0.8)))
        return np.asarray(hopeful[np.where(far, self._squares(process, hopeful, plain), np.inf).argmin()])

    def _minimum(self, process: Process, known: Array, looks: Array, whiten: Array) -> Array | None:
        """The least minimum of the model that is worth an evaluation, shape ``(d,)``."""
        scores = self._squares(process, looks, whiten)
        starts = [looks[np.argsort(scores, kind="stable")[:12]], looks[-4:], self.incumbents[:4] + 1e-4]
        found, squares = self._descended(process, self._inside(np.concatenate(starts)), whiten)
        reached = self._squares(process, process.inputs, whiten)
        plain = np.eye(len(whiten))
        ordinary = np.quantile(self._squares(process, process.inputs, plain), 0.25)
        squares = np.where(self._squares(process, found, plain) > ordinary, np.inf, squares)
        for i in np.argsort(squares, kind="stable"):
            gaps = np.linalg.norm(process.inputs - found[i], axis=1)
            beside = reached[gaps < _BASIN * np.sqrt(self.domain.dim)]
            if squares[i] == np.inf or (len(beside) and squares[i] > _PATIENCE ** len(beside) * beside.min()):
                continue
            if np.linalg.norm(known - found[i], axis=1).min() < 1e-9:
                continue
            if not len(self.barren) or not self._doomed(found[i : i + 1])[0]:
                return np.asarray(found[i])
        return None

    def _doomed(self, x: Array) -> Flags:
        """Whether the nearest evaluation of inputs ``(b, d)`` gave nothing, shape ``(b,)``."""
        lost = np.linalg.norm(x[:, None] - self.barren[None], axis=2).min(1)
        return np.asarray(lost < np.linalg.norm(x[:, None] - self.told[None], axis=2).min(1))

    def _trust(self, process: Process) -> Array:
        """What makes leave-one-out errors of the residuals uncorrelated and of size 1, shape ``(K, K)``."""
        errors = process.errors * self.measured.scale
        covariance = errors.T @ errors / len(errors)
        own = np.diag(covariance)
        shrunk = 0.9 * covariance + np.diag(0.1 * own + 1e-12 * own.max() + 1e-300)
        return np.asarray(np.linalg.inv(np.linalg.cholesky(shrunk)).T)

    def _squares(self, process: Process, x: Array, whiten: Array) -> Array:
        return np.asarray(((self.measured.residuals(process.mean(x)) @ whiten) ** 2).sum(1))

    def _descended(self, process: Process, x: Array, whiten: Array, steps: int = 25) -> tuple[Array, Array]:
        """Levenberg-Marquardt on the model, from inputs ``(b, d)`` side by side: their ends, and the squares left."""
        measured, d = self.measured, self.domain.dim

        def at(x: Array) -> tuple[Array, Array]:
            z, slopes = process.slopes(x)
            linear = measured.scale * (z - measured.zero)
            active = ~measured.hinge | (linear > 0.0)
            jacobian = np.swapaxes(slopes, 1, 2) * (measured.scale * active)[:, None, :]
            return np.where(active, linear, 0.0) @ whiten, np.swapaxes(jacobian @ whiten, 1, 2)

        r, jacobian = at(x)
        squares, damping = (r**2).sum(1), np.full(len(x), 1e-2)
        for _ in range(steps):
            gradient = (np.swapaxes(jacobian, 1, 2) @ r[:, :, None])[..., 0]
            normal = np.swapaxes(jacobian, 1, 2) @ jacobian
            free = np.ones_like(x, dtype=bool)
            if self.domain.geometry == "box":
                free = ~(((x <= 0.0) & (gradient > 0.0)) | ((x >= 1.0) & (gradient < 0.0)))
            size = np.trace(normal, axis1=1, axis2=2) / d + 1e-300
            normal = normal * free[:, :, None] * free[:, None, :]
            normal = normal + (size[:, None] * (damping[:, None] + ~free))[:, :, None] * np.eye(d)
            ahead = self._inside(x - np.linalg.solve(normal, (gradient * free)[..., None])[..., 0])
            r_ahead, jacobian_ahead = at(ahead)
            squares_ahead = (r_ahead**2).sum(1)
            better = squares_ahead < squares
            x, r = np.where(better[:, None], ahead, x), np.where(better[:, None], r_ahead, r)
            jacobian = np.where(better[:, None, None], jacobian_ahead, jacobian)
            squares = np.where(better, squares_ahead, squares)
            damping = np.clip(np.where(better, 0.3 * damping, 4.0 * damping), 1e-10, 1e8)
        return x, squares


def _kept(inputs: Array, merits: Array) -> Indices:
    """Which evaluations are modelled, in order.

    Of those next to each other the best alone: differences measured with a tiny step would have the model follow
    every output to its last digit there, and foretell nothing elsewhere.
    """
    order = np.argsort(merits, kind="stable")
    apart: list[int] = []
    for i in order:
        if not apart or np.linalg.norm(inputs[apart] - inputs[i], axis=1).min() > _TWINS * np.sqrt(inputs.shape[1]):
            apart.append(int(i))
    kept = np.array(apart)
    if len(kept) > _LARGEST:
        best, others = np.split(kept, [3 * _LARGEST // 4])
        kept = np.concatenate([best, others[np.linspace(0, len(others) - 1, _LARGEST - len(best)).astype(int)]])
    return np.sort(kept)
