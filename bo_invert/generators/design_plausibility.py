"""Plausibility of designs from cycle error and code density, calibrated on real designs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.errors import InvalidInputError
from bo_invert.generators.latent_plausibility import Measure, as_codes
from bo_invert.generators.wrapped import as_function
from bo_invert.types import Array
from bo_invert.user_code import own_settings
from bo_invert.user_data import real_array


class RankCalibration:
    """Plausibility in [0, 1] from several scores of a design, high for plausible designs.

    With r_k the rank in [0, 1] of score k among the held-out designs, the plausibility is
    F(min_k r_k), where F is the empirical distribution function of the minimum on these designs.
    The minimum of uniform ranks is not uniform; F makes it uniform.

    Args:
        scores: scores of the held-out designs, one array ``(n,)`` per score.
    """

    def __init__(self, *scores: Array) -> None:
        self._sorted = [np.sort(one) for one in scores]
        self._lowest = np.sort(self._lowest_rank(scores))

    def __call__(self, *scores: Array) -> Array:
        """Return the plausibility of m designs, shape ``(m,)``, from their scores."""
        return _share_below(self._lowest, self._lowest_rank(scores))

    def _lowest_rank(self, scores: Sequence[Array]) -> Array:
        ranks = [_share_below(*pair) for pair in zip(self._sorted, scores, strict=True)]
        return np.asarray(np.min(ranks, axis=0))


class DesignRealism:
    """Calibrated plausibility in [0, 1]: share of held-out real designs that rank no higher.

    A design x has two scores. The cycle error ``mean((x - decode(encode(x)))^2)`` is large if the
    generator cannot reproduce x. The log density of ``encode(x)`` is small far from the training
    codes. With r_e and r_p the ranks in [0, 1] of the two scores among the held-out real designs,

        plausibility(x) = F(min(r_e(x), r_p(x))),

    where F is the empirical distribution function of ``min(r_e, r_p)`` on the held-out designs.
    New real designs therefore have uniform plausibility, and 0.05 marks the least plausible 5 %.

    Args:
        encoder: map from designs ``(n, ...)`` to codes ``(n, d)``: a torch module, a method of
            one, or a callable on a batch.
        decoder: map from codes ``(n, d)`` to designs ``(n, ...)``.
        measure: distribution of the codes of *other* real designs.
        real: held-out real designs, shape ``(k, ...)``, used neither for training nor for
            ``measure``.

    Raises:
        InvalidInputError: there are no held-out designs, or shapes do not match.
    """

    def __init__(
        self,
        encoder: Callable[..., Any],
        decoder: Callable[..., Any],
        measure: Measure,
        real: ArrayLike,
    ) -> None:
        self._encoder = as_function(encoder, "DesignRealism: the encoder")
        self._decoder = as_function(decoder, "DesignRealism: the decoder")
        self.measure = measure
        rows = real_array("DesignRealism: real", real)
        if len(rows) == 0:
            raise InvalidInputError(
                "DesignRealism: real must hold at least one held-out design, got none"
            )
        errors, densities = self.scores(rows)
        # A low error is plausible and a high density is plausible.
        self._calibrated = RankCalibration(-errors, densities)

    @own_settings()
    def scores(self, designs: ArrayLike) -> tuple[Array, Array]:
        """Return cycle errors ``(n,)`` and log densities of codes ``(n,)`` of n designs.

        Raises:
            InvalidInputError: designs are not finite, or decode to another shape.
        """
        rows = real_array("DesignRealism: designs", designs)
        codes = as_codes(self._encoder(rows), len(self.measure.mean), "DesignRealism: codes")
        cycled = np.asarray(self._decoder(codes))
        if cycled.shape != rows.shape:
            raise InvalidInputError(
                f"DesignRealism: the decoder must return designs of shape {rows.shape}, "
                f"got {cycled.shape}"
            )
        # Mean squared error per number, so that the size of a design has no influence.
        errors = ((rows - cycled) ** 2).reshape(len(rows), -1).mean(axis=1)
        return errors, self.measure.reference.log_density(self.measure.whiten(codes))

    def __call__(self, designs: ArrayLike) -> Array:
        """Return the plausibility of n designs, shape ``(n,)``; 0 for designs with NaN or inf."""
        rows = real_array("DesignRealism: designs", designs)
        plausible = np.zeros(len(rows))
        finite = np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))
        if finite.any():
            errors, densities = self.scores(rows[finite])
            plausible[finite] = self._calibrated(-errors, densities)
        return plausible


def _share_below(ordered: Array, values: Array) -> Array:
    """Return for each value the share of ``ordered`` (sorted) that is <= the value."""
    return np.searchsorted(ordered, values, side="right") / len(ordered)
