"""The latent of a generator: points are whitened codes, designs are what the decoder makes of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.domain import Domain
from bo_invert.errors import InvalidInput
from bo_invert.generators.frozen import Frozen, as_function, checked_length, is_module
from bo_invert.identity import design_name
from bo_invert.realism.reference import Measure, as_codes, fit_measure
from bo_invert.spaces.base import Space
from bo_invert.types import JSON, Array

if TYPE_CHECKING:
    import torch

_PRIOR_DRAWS = 2000
_INVERTED = 500
_FEATURES = 16384
"""Designs of more numbers than this are too much to compare in a model."""


class Latent(Space):
    """Searches the latent of any decoder, in coordinates in which the measured codes have mean 0 and covariance I.

    The reference measure is measured where it can be: from ``codes``, from ``data`` through the encoder, or from
    ``data`` by inverting a differentiable decoder. Only without any of these it is the decoder's prior.

    Args:
        decoder: codes ``(n, dim)`` to n designs: a ``torch.nn.Module`` (or a method of one), then the space is
            differentiable, or any callable on a numpy batch. A module is used in evaluation mode, on the device and in
            the dtype of its parameters; its own mode, flags and gradients are not touched.
        dim: length of a code.
        encoder: n designs to codes ``(n, dim)``; default: the method ``encode`` of the decoder, if it has one. Of a
            tuple that a module returns (mean and log variance), the first member is the code.
        data: real designs, shape ``(n, ...)``; several hundred tell well where the codes lie.
        codes: codes of real designs, shape ``(n, dim)``, instead of ``data``.
        prior: ``prior(rng, n)`` draws n codes ``(n, dim)``, instead of either; default N(0, I).
        level: share of the measured codes inside the radius of the domain.
        seed: of the mixture's folds, of draws and of inversion starts.
        device: where to run torch modules; default: where they are.

    Raises:
        InvalidInput: the pieces do not fit: shapes, values that are not finite, no way from ``data`` to codes.
    """

    def __init__(
        self,
        decoder: Any,
        dim: int,
        encoder: Any = None,
        data: Any = None,
        codes: ArrayLike | None = None,
        prior: Callable[[np.random.Generator, int], ArrayLike] | None = None,
        level: float = 0.99,
        seed: int = 0,
        device: str | torch.device | None = None,
    ) -> None:
        if isinstance(dim, bool) or not isinstance(dim, (int, np.integer)) or dim < 1:
            raise InvalidInput(f"Latent: dim is the length of a code, a whole number from 1, got {dim!r}")
        if not 0.0 < level <= 1.0:
            raise InvalidInput(f"Latent: level is a share of the codes in (0, 1], got {level!r}")
        sources = [n for n, v in (("data", data), ("codes", codes), ("prior", prior)) if v is not None]
        if len(sources) > 1:
            raise InvalidInput(f"Latent: the reference measure comes from one source, got {' and '.join(sources)}")
        dim = int(dim)
        if encoder is None and callable(getattr(decoder, "encode", None)):
            encoder = decoder.encode
        self._decoder = as_function(decoder, "Latent: the decoder", device)
        self._encoder = None if encoder is None else as_function(encoder, "Latent: the encoder", device)
        self.differentiable = is_module(decoder)
        self._check(np.random.default_rng(seed).standard_normal((3, dim)))
        found = self._find_codes(dim, data, codes, prior, seed)
        self.measure = None if found is None else fit_measure(found, seed)
        self.domain = self._domain(dim, level)
        designs: Any = self._check(self.codes(np.zeros((2, dim))))
        numbers = isinstance(designs, np.ndarray) and designs.dtype.kind == "f" and designs.ndim > 1
        self._numeric = numbers and designs[0].size <= _FEATURES
        self._nameable = design_name(designs[0]) is not None
        self.discrete = self._nameable and _discrete(designs[0])

    def _find_codes(self, dim: int, data: Any, codes: Any, prior: Any, seed: int) -> Array | None:
        if codes is not None:
            return as_codes(codes, dim, "Latent: codes")
        if prior is not None:
            drawn = prior(np.random.default_rng(np.random.SeedSequence(seed)), _PRIOR_DRAWS)
            return as_codes(drawn, dim, "Latent: draws of the prior")
        if data is None:
            return None
        if len(data) == 0:
            raise InvalidInput("Latent: data is empty; give real designs, or leave it out to trust the prior N(0, I)")
        if self._encoder is not None:
            return self._encode(data, dim)
        if not isinstance(self._decoder, Frozen):
            raise InvalidInput(
                "Latent: data cannot be turned into codes, because there is no encoder and the decoder has no "
                "gradient; pass encoder=..., codes=..., or a torch module as the decoder"
            )
        return self._invert(data, dim, seed)

    def _invert(self, data: Any, dim: int, seed: int) -> Array:
        from bo_invert.generators.inversion import invert

        assert isinstance(self._decoder, Frozen)
        rows = np.asarray(data)
        made = self._decoder(np.zeros((1, dim))).shape[1:]
        if rows.shape[1:] != made:
            raise InvalidInput(f"Latent: designs in data have shape {rows.shape[1:]}, the decoder makes {made}")
        enough = max(_INVERTED, 3 * (dim + 1))  # inverting is slow, and more would hardly change the measure
        if len(rows) > enough:
            rows = rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:enough])]
        return as_codes(invert(self._decoder, rows, dim, seed)[0], dim, "Latent: codes found by inverting the decoder")

    def _encode(self, designs: Any, dim: int) -> Array:
        assert self._encoder is not None
        try:
            codes = checked_length(self._encoder(designs), len(designs), "Latent: the encoder")
        except InvalidInput:
            raise
        except Exception as error:
            shape = np.shape(designs[0])
            raise InvalidInput(
                f"Latent: the encoder fails on {len(designs)} designs of shape {shape}: {type(error).__name__}: {error}"
            ) from error
        return as_codes(codes, dim, "Latent: codes from the encoder")

    def _check(self, codes: Array) -> Any:
        """The designs of codes; fails now rather than after the first paid call."""
        try:
            designs = self._decoder(codes)
        except InvalidInput:
            raise
        except Exception as error:
            raise InvalidInput(
                f"Latent: the decoder fails on codes of shape {codes.shape}: {type(error).__name__}: {error}; is dim "
                "the length of its code, and does it take a batch?"
            ) from error
        checked_length(designs, len(codes), "Latent: the decoder")
        if isinstance(designs, np.ndarray) and designs.dtype.kind == "f" and not np.isfinite(designs).all():
            raise InvalidInput("Latent: the decoder makes designs with values that are not finite from ordinary codes")
        return designs

    def _domain(self, dim: int, level: float) -> Domain:
        if self.measure is None:
            from scipy.stats import chi2

            return Domain("gaussian", dim, {}, radius=math.sqrt(chi2.ppf(min(level, 1 - 1e-9), dim)))
        # Encoders differ in the last digits between machines; that must not make it another problem.
        radius = float(f"{self.measure.radius(level):.3g}")
        return Domain("gaussian", dim, {}, radius=radius, reference=self.measure.reference)

    def codes(self, points: Array) -> Array:
        """Codes ``(n, dim)`` of points ``(n, dim)``."""
        return points if self.measure is None else self.measure.color(points)

    def decode(self, points: Array) -> Sequence[Any]:
        points = np.atleast_2d(points)
        return checked_length(self._decoder(self.codes(points)), len(points), "Latent: the decoder")

    @property
    def features(self) -> Callable[[Array], Array] | None:
        """The numbers of the decoded designs, one row each, where the decoder makes arrays of real ones."""
        return self._flattened if self._numeric else None

    def _flattened(self, points: Array) -> Array:
        designs = np.asarray(self.decode(points), dtype=np.float64)
        return designs.reshape(len(points), math.prod(designs.shape[1:]))

    @property
    def identify(self) -> Callable[[Array], list[str]] | None:
        """Names of the decoded designs, where they are arrays, numbers or text, or lists and dicts of these."""
        return self._names if self._nameable else None

    def _names(self, points: Array) -> list[str]:
        return [design_name(design) or "" for design in self.decode(points)]

    def encode(self, designs: Sequence[Any]) -> Array:
        if self._encoder is None:
            return super().encode(designs)
        codes = self._encode(designs, self.domain.dim)
        return self.domain.project(codes if self.measure is None else self.measure.whiten(codes))

    def decode_tensor(self, points: torch.Tensor) -> torch.Tensor:
        if not isinstance(self._decoder, Frozen):
            return super().decode_tensor(points)
        if self.measure is None:
            return self._decoder.tensor(points)
        return self._decoder.tensor(
            points.new_tensor(self.measure.mean) + points @ points.new_tensor(self.measure.factor).T
        )

    def to_json(self) -> JSON:
        return {
            "type": "latent",
            "dim": self.domain.dim,
            "radius": self.domain.radius,
            "measure": "N(0, I)" if self.measure is None else _fingerprint(self.measure),
        }


def _fingerprint(measure: Measure) -> str:
    """A hash of the whitening, coarse enough to survive the rounding of another machine."""
    scale = np.linalg.norm(measure.factor, axis=1)
    numbers = np.column_stack([measure.mean / scale, np.log10(scale)])
    text = ",".join(f"{round(v, 2) + 0.0:.2f}" for v in numbers.ravel())
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _discrete(design: Any) -> bool:
    if isinstance(design, (np.ndarray, np.generic)):
        return design.dtype.kind in "biuSU"
    if isinstance(design, (list, tuple, dict)):
        return all(map(_discrete, design.values() if isinstance(design, dict) else design))
    return isinstance(design, (str, int))
