"""Points whose decodings come nearest to given designs, for a decoder that came without an encoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.generators.wrapped import Frozen
from bo_invert.hashing import design_name
from bo_invert.models.optim.levenberg_marquardt import levenberg_marquardt
from bo_invert.types import Array

if TYPE_CHECKING:
    from torch import Tensor

STARTS = 4
"""For each design: the draws whose decodings are nearest."""
_ROWS = 512
_NUMBERS = 2**24
"""So many numbers are held at once, of decoded draws or of Jacobians."""
_STEP = 1e-3
"""Of finite differences, in units of the reference measure: large enough for decoders in single precision."""


@dataclass(frozen=True, eq=False)
class Inversion:
    """Where designs were found in a latent, and what of them the generator could not make.

    Args:
        points: shape ``(n, d)``.
        errors: mean squared difference of each design and the decoding of its point, shape ``(n,)``.
        spread: mean squared difference of the generator's own draws from their mean.
    """

    points: Array
    errors: Array
    spread: float

    @property
    def left(self) -> Array:
        """Share of a design that is not reproduced, ``(n,)``: 0 for an exact copy, 1 if the mean design is as near."""
        return self.errors / max(self.spread, 1e-300)

    def moved(self, points: Array, decode: Callable[[Array], Any], designs: Any) -> Inversion:
        """The same designs at points ``(n, d)`` of another space with this ``decode``."""
        return Inversion(
            points, _errors(decode, points, np.asarray(designs, dtype=np.float64)), self.spread
        )


def invert(
    decode: Callable[[Array], Any],
    designs: Any,
    draw: Callable[[int], Array],
    inside: Callable[[Array], Array],
    gradient: Gradient | None = None,
) -> Inversion:
    """Points ``(n, d)`` whose decodings come nearest to n designs in mean squared difference.

    Each design starts from the nearest of many draws. A decoder with gradients is descended by Adam with a step
    annealed to zero, another by Levenberg and Marquardt's method with finite differences; one that is flat almost
    everywhere stays at the nearest draw.

    Args:
        decode: designs as numbers ``(m, ...)`` of points ``(m, d)``.
        designs: shape ``(n, ...)``.
        draw: so many points of the reference measure.
        inside: moves points to where they are allowed.
        gradient: how to descend with gradients; None for finite differences.

    Raises:
        InvalidInputError: designs that are no numbers, not finite, or of another shape than the decoder's.
    """
    try:
        rows = np.asarray(designs, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"designs for this generator are arrays of numbers: {error}"
        ) from None
    drawn = inside(draw(1))
    shape = np.shape(decode(drawn))[1:]
    if rows.shape[1:] != shape:
        raise InvalidInputError(f"designs have shape {rows.shape[1:]}, the decoder makes {shape}")
    if not np.isfinite(rows).all():
        raise InvalidInputError("designs hold values that are not finite")
    flat = rows.reshape(len(rows), math.prod(shape))
    drawn = inside(draw(max(64, min(2000, _NUMBERS // max(1, flat.shape[1])))))
    made = np.asarray(decode(drawn), dtype=np.float64).reshape(len(drawn), -1)
    spread = float(made.var(axis=0).mean())
    if not len(rows):
        return Inversion(np.empty((0, drawn.shape[1])), np.empty(0), spread)
    starts = drawn[_nearest(flat, made)]
    if gradient is not None:
        points = np.concatenate(
            [
                gradient(rows[i : i + _ROWS], starts[i : i + _ROWS])
                for i in range(0, len(rows), _ROWS)
            ]
        )
    else:
        points = np.stack(
            [_by_differences(decode, *pair, inside) for pair in zip(flat, starts, strict=True)]
        )
    points = inside(points)
    return Inversion(points, _errors(decode, points, rows), spread)


Gradient = Callable[[Any, Array], Array]
"""Points ``(n, d)`` of designs ``(n, ...)`` from starts ``(n, s, d)``."""


def encoded(
    points: Array, decode: Callable[[Array], Any], designs: Any, drawn: Any
) -> Inversion | None:
    """Designs beside the decodings of the points ``(n, d)`` that an encoder gave them.

    Args:
        points: shape ``(n, d)``.
        decode: designs of points.
        designs: n of them, numbers or anything that has a name (see ``design_name``); other ones count as lost whole.
        drawn: many designs of the generator's, which tell how far apart designs are.

    Returns:
        None where the two cannot be compared, as in arrays of other shapes.
    """
    made = decode(points)
    if isinstance(made, np.ndarray) and made.dtype.kind == "f":
        try:
            rows = np.asarray(designs, dtype=np.float64)
        except (TypeError, ValueError):
            return None
        if rows.shape != made.shape:
            return None
        spread = float(np.asarray(drawn, dtype=np.float64).var(axis=0).mean())
        return Inversion(points, _errors(lambda _: made, points, rows), spread)
    pairs = [
        (design_name(design), design_name(other))
        for design, other in zip(designs, made, strict=True)
    ]
    if any(name is None for pair in pairs for name in pair):
        return None
    return Inversion(points, np.array([float(one != other) for one, other in pairs]), 1.0)


def reproduced(found: Inversion) -> Array:
    """The points, if the generator can make the designs.

    Raises:
        InvalidInputError: a design is reproduced no better than by the mean design.
    """
    left = found.left
    if len(left) and not left.max() < 1.0:
        raise InvalidInputError(
            f"the generator makes nothing like {int((left >= 1.0).sum())} of {len(left)} designs: design "
            f"{int(left.argmax())} is reproduced no better than by the mean design. Give points instead "
            "(add(points=...), enqueue(point=...))"
        )
    return found.points


def by_gradient(
    decode: Callable[[Tensor], Tensor],
    network: Frozen,
    radius: float = math.inf,
    steps: int = 300,
    learning_rate: float = 0.05,
) -> Gradient:
    """Adam for all designs and starts side by side, kept within ``radius``; each design keeps its best end.

    Args:
        decode: designs of points, with gradients.
        network: whose device and dtype are used.
        radius: greatest norm of a point.
        steps: of Adam.
        learning_rate: of Adam, in units of the reference measure.
    """
    import torch

    def ends(designs: Any, starts: Array) -> Array:
        n, count, dim = starts.shape
        wanted = (
            torch.as_tensor(designs)
            .to(network.device, network.dtype)
            .repeat_interleave(count, dim=0)
        )
        z = (
            torch.tensor(starts)
            .reshape(n * count, dim)
            .to(network.device, network.dtype)
            .requires_grad_()
        )
        optimizer = torch.optim.Adam([z], lr=learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            optimizer.zero_grad()
            _error(decode(z), wanted).sum().backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                z *= (radius / z.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1.0)
        with torch.no_grad():
            best = _error(decode(z), wanted).reshape(n, count).nan_to_num(torch.inf).argmin(dim=1)
        found: Array = (
            z.detach()
            .cpu()
            .double()
            .numpy()
            .reshape(n, count, dim)[np.arange(n), best.cpu().numpy()]
        )
        return found

    return ends


def _by_differences(
    decode: Callable[[Array], Any], design: Array, starts: Array, inside: Callable[[Array], Array]
) -> Array:
    d = starts.shape[1]
    moves = np.concatenate([np.zeros((1, d)), _STEP * np.eye(d)])

    def linearised(points: Array) -> tuple[Array, Array]:
        around = (points[:, None] + moves).reshape(-1, d)
        made = np.asarray(decode(around), dtype=np.float64).reshape(len(points), 1 + d, -1)
        slopes: Array = (made[:, 1:] - made[:, :1]) / _STEP
        return made[:, 0] - design, np.swapaxes(slopes, 1, 2)

    ends, errors = levenberg_marquardt(linearised, starts, inside, bounded=False)
    best: Array = ends[int(np.nan_to_num(errors, nan=np.inf).argmin())]
    return best


def _nearest(designs: Array, made: Array) -> Any:
    """Numbers of the ``STARTS`` made designs nearest to each design, nearest first, shape ``(n, STARTS)``."""
    from scipy.spatial.distance import cdist

    return np.argsort(cdist(designs, made), axis=1, kind="stable")[:, :STARTS]


def _errors(decode: Callable[[Array], Any], points: Array, designs: Array) -> Array:
    ends = np.asarray(decode(points), dtype=np.float64).reshape(
        len(designs), math.prod(designs.shape[1:])
    )
    off: Array = ((ends - designs.reshape(ends.shape)) ** 2).mean(axis=1)
    return off


def _error(made: Any, wanted: Any) -> Any:
    return ((made - wanted) ** 2).flatten(1).mean(dim=1)
