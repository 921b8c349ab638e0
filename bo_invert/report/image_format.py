"""Pictures of designs that are images: detection of their shape and range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.report.runs import Picture, as_picture
from bo_invert.types import Array, Design

_LEAST = 4
"""Least height and width of an image in pixels. Engineering choice: smaller arrays are matrices."""
_LEAST_FLAT = 6
"""Least side of a flat square image in pixels. Engineering choice: the shortest vector that is
treated as an image has 36 numbers."""
_SLACK = 0.02
"""Tolerance of a range, as a share of it. Engineering choice: decoders without a final sigmoid
exceed their range a little."""
_EXTREME = 0.01
"""Share of values beyond each end of an unknown range. Engineering choice."""
_BYTES, _BRIGHT = 255.0, 32.0
"""Largest value of a byte, by definition, and least maximum at which numbers are in units of
bytes. Engineering choice: 16 grey levels occur, 8-bit images are brighter."""


@dataclass(frozen=True)
class ImageFormat:
    """Format of designs that are images.

    Args:
        shape: shape of a design.
        low: value of black.
        high: value of white, or of the largest intensity of a colour.
    """

    shape: tuple[int, ...]
    low: float
    high: float

    def picture(self, design: Design) -> Picture | None:
        """Return a design as a picture; None if it has another shape or is not finite."""
        values = _array(design)
        if values is None or values.shape != self.shape or not np.isfinite(values).all():
            return None
        levels = (_upright(values) - self.low) / (self.high - self.low)
        return as_picture(levels)


def image_format(designs: Sequence[Design]) -> ImageFormat | None:
    """Detect images of shape (h, w), (h, w, 1 or 3), (1 or 3, h, w) or flat squares.

    Values within [0, 1], [-1, 1] or bytes have these ranges. Others are scaled to the range of the
    given designs without the extreme 1 % at each end.

    Args:
        designs: some designs, which must all be images of one shape.

    Returns:
        The format; None if they are not images.
    """
    arrays = [_array(design) for design in designs]
    known = [one for one in arrays if one is not None and np.isfinite(one).all()]
    if not known or len(known) < len(arrays) or len({one.shape for one in known}) > 1:
        return None
    shape = known[0].shape
    if not _is_image(shape):
        return None
    return ImageFormat(shape, *_range(np.concatenate([one.ravel() for one in known])))


def _range(values: Array) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    for bottom, top in ((0.0, 1.0), (-1.0, 1.0)):
        slack = _SLACK * (top - bottom)
        if bottom - slack <= low and high <= top + slack:
            return bottom, top
    if low >= -_SLACK * _BYTES and _BRIGHT <= high <= (1.0 + _SLACK) * _BYTES:
        return 0.0, _BYTES
    # A few extreme values would leave no contrast for the others.
    low, high = np.quantile(values, [_EXTREME, 1.0 - _EXTREME]).tolist()
    return (low, high) if high > low else (low, low + 1.0)


def _is_image(shape: tuple[int, ...]) -> bool:
    if len(shape) == 1:
        side = math.isqrt(shape[0])
        return side * side == shape[0] and side >= _LEAST_FLAT
    if len(shape) == 3:
        if shape[0] not in (1, 3) and shape[2] not in (1, 3):
            return False
        shape = _spatial(shape)
    return len(shape) == 2 and min(shape) >= _LEAST


def _spatial(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return height and width of an image with three axes; channels are first or last."""
    first = shape[0] in (1, 3) and min(shape[1:]) >= _LEAST
    return shape[1:] if first else shape[:2]


def _upright(values: Array) -> Array:
    """Return an image as (height, width) or (height, width, 3)."""
    if values.ndim == 1:
        side = math.isqrt(len(values))
        return values.reshape(side, side)
    if values.ndim == 2:
        return values
    if values.shape[0] in (1, 3) and min(values.shape[1:]) >= _LEAST:
        values = np.moveaxis(values, 0, -1)
    return values[..., 0] if values.shape[-1] == 1 else values


def _array(design: Design) -> Array | None:
    """Return a numeric array or tensor as float64; None for other designs."""
    if hasattr(design, "detach"):
        design = design.detach().cpu().numpy()
    if not isinstance(design, (np.ndarray, list, tuple)):
        return None
    try:
        found = np.asarray(design)
    except ValueError:  # rows of different lengths
        return None
    numeric = found.dtype.kind in "fiub"
    return found.astype(np.float64) if numeric and found.ndim in (1, 2, 3) else None
