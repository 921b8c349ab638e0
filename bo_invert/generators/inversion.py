"""Inversion of decoders without an encoder: points whose decodings are nearest to given designs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from tqdm.auto import tqdm

from bo_invert.errors import InvalidInputError, bar_options
from bo_invert.generators.network_outputs import same_entries
from bo_invert.generators.wrapped import TorchFunction
from bo_invert.hashing import design_name
from bo_invert.models.optim.levenberg_marquardt import levenberg_marquardt
from bo_invert.types import Array
from bo_invert.user_data import numbers

if TYPE_CHECKING:
    from torch import Tensor

STARTS = 4
"""Number of starts per design: the draws with the nearest decodings."""
# Engineering choice: number of designs in one batch of gradient descent; bounds the memory.
_BATCH_DESIGNS = 512
# Engineering choice: largest number of entries of the decoded draws, 128 MiB in float64.
_MAX_ENTRIES = 2**24
# Engineering choice: step of finite differences in units of the reference measure. It exceeds the
# square root 3.5e-4 of the float32 machine epsilon, which balances rounding and truncation.
_STEP = 1e-3
# Adam steps, and the first step size in units of the reference measure, annealed to zero.
# Engineering choices: the errors of VAEs and GANs of digits hardly fall afterwards.
_STEPS, _LEARNING_RATE = 300, 0.05


@dataclass(frozen=True, eq=False)
class Inversion:
    """Pre-images of n designs in a latent space, with their reconstruction errors.

    Args:
        points: pre-images, shape ``(n, d)``.
        errors: mean squared difference of each design and its reconstruction, shape ``(n,)``.
        spread: mean squared difference of the generator's draws from their mean.
    """

    points: Array
    errors: Array
    spread: float

    @property
    def left(self) -> Array:
        """Relative reconstruction errors ``(n,)``: 0 if exact, 1 as large as the mean design's."""
        return self.errors / max(self.spread, 1e-300)

    def moved(self, points: Array, decode: Callable[[Array], Any], designs: ArrayLike) -> Inversion:
        """Replace the points by points ``(n, d)`` of another space with decoder ``decode``."""
        return Inversion(
            points, _errors(decode, points, np.asarray(designs, dtype=np.float64)), self.spread
        )


def invert(
    decode: Callable[[Array], Any],
    designs: ArrayLike,
    draw: Callable[[int], Array],
    inside: Callable[[Array], Array],
    gradient: Gradient | None = None,
) -> Inversion:
    """Find points z ``(n, d)`` that minimise ``mean((decode(z) - design)^2)`` for n designs.

    Each search starts from the draws with the nearest decodings. Decoders with gradients use Adam
    with a cosine-annealed step size. Others use Levenberg-Marquardt with finite differences. If
    the decoder is piecewise constant, the result is the nearest draw.

    Args:
        decode: map from points ``(m, d)`` to designs, arrays of numbers ``(m, ...)``.
        designs: shape ``(n, ...)``.
        draw: function from m to m points ``(m, d)`` of the reference measure.
        inside: projection of points onto the domain.
        gradient: descent method of ``by_gradient``; None for finite differences.

    Raises:
        InvalidInputError: designs are not numeric, not finite, or not of the decoder's shape.
    """
    # Many draws and their decodings find the basin of attraction; the descent refines it.
    try:
        rows = numbers(designs)
    except TypeError as error:
        raise InvalidInputError(
            f"designs for this generator must be arrays of numbers; a value {error}"
        ) from None
    shape = np.shape(decode(inside(draw(1))))[1:]
    if rows.shape[1:] != shape and same_entries(rows.shape[1:], shape):
        rows = rows.reshape(len(rows), *shape)
    if rows.shape[1:] != shape:
        raise InvalidInputError(
            f"designs must have the decoder's shape {shape}, got {rows.shape[1:]}"
        )
    if not np.isfinite(rows).all():
        raise InvalidInputError("designs must be finite, got NaN or inf")
    flat = rows.reshape(len(rows), math.prod(shape))
    drawn = inside(draw(max(64, min(2000, _MAX_ENTRIES // max(1, flat.shape[1])))))
    made = np.asarray(decode(drawn), dtype=np.float64).reshape(len(drawn), -1)
    spread = float(made.var(axis=0).mean())
    if not len(rows):
        return Inversion(np.empty((0, drawn.shape[1])), np.empty(0), spread)
    # Several starts per design, since the error may have several minima.
    starts = drawn[np.argsort(cdist(flat, made), axis=1, kind="stable")[:, :STARTS]]
    if gradient is not None:
        batches = [slice(i, i + _BATCH_DESIGNS) for i in range(0, len(rows), _BATCH_DESIGNS)]
        points = np.concatenate([gradient(rows[batch], starts[batch]) for batch in batches])
    else:
        points = np.stack(
            [_by_differences(decode, *pair, inside) for pair in zip(flat, starts, strict=True)]
        )
    points = inside(points)
    return Inversion(points, _errors(decode, points, rows), spread)


Gradient = Callable[[Array, Array], Array]
"""Descent method from designs ``(n, ...)`` and starts ``(n, s, d)`` to points ``(n, d)``."""


def encoded(
    points: Array, decode: Callable[[Array], Any], designs: Sequence[object], drawn: ArrayLike
) -> Inversion | None:
    """Compare n designs with the decodings of their codes.

    Arrays of numbers are compared by mean squared difference. Other designs are compared by
    ``design_name``: the error is 0 if the names are equal, else 1.

    Args:
        points: codes of the designs by an encoder, shape ``(n, d)``.
        decode: map from points to designs.
        designs: n original designs.
        drawn: designs drawn from the generator, which set the scale of the errors.

    Returns:
        None if designs and decodings are not comparable, such as arrays of different shapes.
    """
    made = decode(points)
    if isinstance(made, np.ndarray) and made.dtype.kind == "f":
        try:
            rows = np.asarray(designs, dtype=np.float64)
        except (TypeError, ValueError):
            return None
        if len(rows) != len(made) or not same_entries(rows.shape[1:], made.shape[1:]):
            return None
        rows = rows.reshape(made.shape)
        spread = float(np.asarray(drawn, dtype=np.float64).var(axis=0).mean())
        return Inversion(points, _errors(lambda _: made, points, rows), spread)
    names = [[design_name(one) for one in some] for some in (designs, made)]
    if None in names[0] + names[1]:
        return None
    differ = [float(one != other) for one, other in zip(*names, strict=True)]
    return Inversion(points, np.array(differ), 1.0)


def reproduced(found: Inversion) -> Array:
    """Return the points after checking the reconstruction errors.

    Raises:
        InvalidInputError: a reconstruction is no better than the mean design.
    """
    left = found.left
    if len(left) and not left.max() < 1.0:
        raise InvalidInputError(
            f"the generator cannot reproduce {int((left >= 1.0).sum())} of {len(left)} designs: "
            f"the reconstruction of design {int(left.argmax())} is no better than the mean design. "
            "Pass points instead (add(points=...), enqueue(point=...))."
        )
    return found.points


def by_gradient(
    decode: Callable[[Tensor], Tensor],
    network: TorchFunction,
    radius: float = math.inf,
    progress: bool | None = False,
) -> Gradient:
    """Create a descent method: projected Adam (Kingma and Ba 2015) from all starts in one batch.

    Each step is projected onto the ball of norm ``radius``. Each design gets the best of its ends.

    Args:
        decode: differentiable map from points to designs.
        network: decoder that sets device and dtype.
        radius: largest norm of a point.
        progress: show a progress bar on stderr; see ``bar_options``.
    """
    import torch

    def descend(designs: Array, starts: Array) -> Array:
        n, count, dim = starts.shape
        # Adam needs single precision at least; the network converts.
        device, dtype = network.device, torch.promote_types(network.dtype, torch.float32)
        wanted = torch.as_tensor(designs).to(device, dtype).repeat_interleave(count, dim=0)
        z = torch.tensor(starts).reshape(n * count, dim).to(device, dtype).requires_grad_()
        optimizer = torch.optim.Adam([z], lr=_LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
        for _ in tqdm(
            range(_STEPS), desc="inverting designs", unit="step", leave=False,
            **bar_options(progress),
        ):  # fmt: skip
            optimizer.zero_grad()
            torch.autograd.backward(_error(decode(z), wanted).sum())
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                z *= (radius / z.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1.0)
        with torch.no_grad():
            best = _error(decode(z), wanted).reshape(n, count).nan_to_num(torch.inf).argmin(dim=1)
        ends = z.detach().cpu().double().numpy().reshape(n, count, dim)
        return np.asarray(ends[np.arange(n), best.cpu().numpy()])

    return descend


def _by_differences(
    decode: Callable[[Array], Any], design: Array, starts: Array, inside: Callable[[Array], Array]
) -> Array:
    """Run Levenberg-Marquardt with forward differences from each start; return the best end."""
    d = starts.shape[1]
    # One decoder call evaluates each point and its d displaced copies, shape (m (1 + d), d).
    moves = np.concatenate([np.zeros((1, d)), _STEP * np.eye(d)])

    # Residuals r ``(m, p)`` and Jacobians J ``(m, p, d)``; J[:, :, j] = (r(z + h e_j) - r(z)) / h.
    def linearised(points: Array) -> tuple[Array, Array]:
        around = (points[:, None] + moves).reshape(-1, d)
        made = np.asarray(decode(around), dtype=np.float64).reshape(len(points), 1 + d, -1)
        return made[:, 0] - design, np.swapaxes((made[:, 1:] - made[:, :1]) / _STEP, 1, 2)

    ends, errors = levenberg_marquardt(linearised, starts, inside, bounded=False)
    return np.asarray(ends[np.nan_to_num(errors, nan=np.inf).argmin()])


def _errors(decode: Callable[[Array], Any], points: Array, designs: Array) -> Array:
    """Return the mean squared reconstruction errors ``(n,)`` of designs ``(n, ...)``."""
    ends = np.asarray(decode(points), dtype=np.float64).reshape(
        len(designs), math.prod(designs.shape[1:])
    )
    return np.asarray(((ends - designs.reshape(ends.shape)) ** 2).mean(axis=1))


def _error(made: Tensor, wanted: Tensor) -> Tensor:
    return ((made - wanted) ** 2).flatten(1).mean(dim=1)
