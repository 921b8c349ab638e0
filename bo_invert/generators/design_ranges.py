"""Ranges of decoded designs against those of real ones: logits, and data of another scale."""

from __future__ import annotations

import numpy as np

from bo_invert.errors import InvalidInputError, warn_user
from bo_invert.types import Array

_OUTSIDE = 0.2
"""Share of decoded values outside [0, 1] from which they may be logits. Engineering choice: linear
decoders of designs in [0, 1] exceed the range by a few values."""
_BETTER = 0.5
"""Ratio of the errors of mean designs with and without a sigmoid, below which decoded values
count as logits. Engineering choice."""
_REMEDY = (
    "Apply a sigmoid: bi.Latent(lambda z: torch.sigmoid(vae.decode(z)), dim, encoder=..., data=...)"
)


def check_reconstructions(designs: object, decoded: object) -> None:
    """Check that decoded codes of designs have the range of the designs.

    Raises:
        InvalidInputError: the decoder returns logits of designs in [0, 1], or designs have another
            scale.
    """
    pair = _numbers(designs, decoded)
    if pair is None or pair[0].size != pair[1].size:
        return
    real, made = pair
    real, low, high = real.reshape(made.shape), made.min(), made.max()
    shares = real.min() >= 0.0 and real.max() <= 1.0 and (low < -1.0 or high > 2.0)
    if shares and ((_sigmoid(made) - real) ** 2).mean() < 0.25 * ((made - real) ** 2).mean():
        raise InvalidInputError(
            f"Latent: the decoder returns logits, from {low:.3g} to {high:.3g}, for designs in "
            f"[0, 1]. {_REMEDY}"
        )
    if real.min() >= 0.0 and 100.0 < real.max() <= 255.0 and low >= -1.5 and high <= 1.5:
        raise InvalidInputError(
            f"Latent: data have values up to {real.max():g}, decoded designs from {low:.3g} to "
            f"{high:.3g}. Scale the data as in training, for example data / 255."
        )


def warn_of_logits(designs: object, decoded: object) -> None:
    """Warn if a decoder seems to return logits, while real designs lie in [0, 1].

    The mean design is then nearer to that of the sigmoids, ``1 / (1 + exp(-x))``, and many decoded
    values lie outside [0, 1].

    Args:
        designs: real designs, shape ``(n, ...)``.
        decoded: decodings of any codes of the prior, shape ``(k, ...)``.
    """
    pair = _numbers(designs, decoded)
    if pair is None:
        return
    real, made = (one.reshape(len(one), -1) for one in pair)
    outside = float(((made < 0.0) | (made > 1.0)).mean())
    if real.shape[1] != made.shape[1] or real.min() < 0.0 or real.max() > 1.0 or outside < _OUTSIDE:
        return
    plain, sigmoid = (
        float(np.abs(one.mean(axis=0) - real.mean(axis=0)).mean()) for one in (made, _sigmoid(made))
    )
    if sigmoid < _BETTER * plain:
        warn_user(
            f"Latent: designs lie in [0, 1], and {outside:.0%} of the decoded values lie outside, "
            f"from {made.min():.3g} to {made.max():.3g}; they seem to be logits. {_REMEDY}"
        )


def _numbers(designs: object, decoded: object) -> tuple[Array, Array] | None:
    """Return real and decoded designs as finite arrays; None if they are something else."""
    try:
        real = np.asarray(designs, dtype=np.float64)
        made = np.asarray(decoded, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):
        return None
    known = real.size and made.size and real.ndim and np.isfinite(made).all()
    return (real, made) if known else None


def _sigmoid(values: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-values.clip(-500, 500))))
