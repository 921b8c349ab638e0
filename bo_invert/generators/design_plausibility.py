"""How plausible a design is, whatever space it comes from: cycle error and code density, ranked among real designs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.errors import InvalidInputError
from bo_invert.generators.latent_plausibility import Measure, as_codes
from bo_invert.generators.wrapped import as_function
from bo_invert.types import Array


class DesignRealism:
    """A calibrated number in [0, 1]: the share of held-out real designs that look no more real than this one.

    Two scores are taken of a design x: the cycle error ``|x - decode(encode(x))|^2``, large where the generator cannot
    make it, and the density of ``encode(x)``, small where the generator was never taught. Each is ranked among the
    held-out real designs; the lower of the two ranks is ranked once more among theirs. Fresh real designs therefore
    get uniform numbers, and 0.05 means that 95 % of them look more real.

    Args:
        encoder: designs ``(n, ...)`` to codes ``(n, d)``; a torch module, a method of one, or a callable on a batch.
        decoder: the way back.
        measure: of the codes of *other* real designs.
        real: held-out real designs, shape ``(k, ...)``, that neither the generator nor ``measure`` saw.

    Raises:
        InvalidInputError: no held-out designs, or shapes that do not match.
    """

    def __init__(self, encoder: Any, decoder: Any, measure: Measure, real: Any) -> None:
        self._encoder = as_function(encoder, "DesignRealism: the encoder")
        self._decoder = as_function(decoder, "DesignRealism: the decoder")
        self.measure = measure
        if len(real) == 0:
            raise InvalidInputError(
                "DesignRealism: held-out real designs are needed to rank against"
            )
        errors, densities = self.scores(real)
        self._errors, self._densities = np.sort(errors), np.sort(densities)
        self._lower = np.sort(self._lower_rank(errors, densities))

    def scores(self, designs: ArrayLike) -> tuple[Array, Array]:
        """Cycle errors ``(n,)`` and log densities of codes ``(n,)`` of n designs.

        Raises:
            InvalidInputError: the designs hold values that are not finite, or decode to another shape.
        """
        rows = np.asarray(designs, dtype=np.float64)
        codes = as_codes(self._encoder(rows), len(self.measure.mean), "DesignRealism: codes")
        cycled = np.asarray(self._decoder(codes))
        if cycled.shape != rows.shape:
            raise InvalidInputError(
                f"DesignRealism: designs of shape {rows.shape} come back from a cycle as {cycled.shape}"
            )
        errors = ((rows - cycled) ** 2).reshape(len(rows), -1).mean(axis=1)
        return errors, self.measure.reference.log_density(self.measure.whiten(codes))

    def __call__(self, designs: ArrayLike) -> Array:
        """Plausibility of n designs, shape ``(n,)``; 0 for one with values that are not finite."""
        rows = np.asarray(designs, dtype=np.float64)
        plausible = np.zeros(len(rows))
        sound = (
            np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
            if len(rows)
            else np.zeros(0, dtype=bool)
        )
        if sound.any():
            plausible[sound] = _share_below(
                self._lower, self._lower_rank(*self.scores(rows[sound]))
            )
        return plausible

    def _lower_rank(self, errors: Array, densities: Array) -> Array:
        by_error = _share_below(-self._errors[::-1], -errors)
        return np.minimum(by_error, _share_below(self._densities, densities))


def _share_below(ordered: Array, values: Array) -> Array:
    """Share of the sorted values that are no larger, shape of ``values``."""
    return np.searchsorted(ordered, values, side="right") / len(ordered)
