"""The latent of a generator: points are whitened codes, designs are what the decoder makes of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.errors import InvalidInputError, whole_number
from bo_invert.generators.latent_plausibility import Measure, as_codes, fit_measure
from bo_invert.generators.priors import Draw, Normal, Prior, as_prior
from bo_invert.generators.wrapped import Frozen, as_function, checked_length, is_module
from bo_invert.hashing import Digest, design_name, digest
from bo_invert.search_domain import Domain, gaussian_domain
from bo_invert.spaces.base import Space
from bo_invert.types import JSON, Array

if TYPE_CHECKING:
    import torch

    from bo_invert.generators.inversion import Inversion

_PRIOR_DRAWS = 2000
_RANKED = 10000
"""Further draws of a prior, to rank against."""
_COMPARED = 200
"""Draws that tell how far apart designs are."""
_INVERTED = 500
_REMEMBERED = 20_000
"""Texts that are kept."""
_FEATURES = 16384
"""Designs of more numbers than this are too much to compare in a model."""


class Latent(Space):
    """Searches the latent of any decoder, in coordinates in which the measured codes have mean 0 and covariance I.

    The reference measure is measured where it can be: from ``codes``, from ``data`` through the encoder, or from
    ``data`` by inverting a differentiable decoder. Only without any of these it is the decoder's prior. Without an
    encoder ``encode`` searches for the points of designs.

    Args:
        decoder: codes ``(n, dim)`` to n designs: a ``torch.nn.Module`` (or a method of one), then the space is
            differentiable, or any callable on a numpy batch. A module is used in evaluation mode, on the device and in
            the dtype of its parameters; its own mode, flags and gradients are not touched.
        dim: length of a code.
        encoder: n designs to codes ``(n, dim)``; default: the method ``encode`` of the decoder, if it has one. Of a
            tuple that a module returns (mean and log variance), the first member is the code.
        data: real designs, shape ``(n, ...)``; several hundred tell well where the codes lie.
        codes: codes of real designs, shape ``(n, dim)``, instead of ``data``.
        prior: what the decoder's codes are drawn from: ``"normal"``, ``"uniform"`` in [-1, 1], ``"truncated"``,
            ``"sphere"`` or another ``generators.priors.Prior``, then points are carried over from N(0, I) and every
            code lies where the prior has mass; or ``prior(rng, n)`` that draws n codes ``(n, dim)``, which are measured
            instead of ``data`` or ``codes``. Default: the decoder's own attribute or method ``prior``, if it has one
            of these, otherwise N(0, I).
        level: share of the measured codes inside the radius of the domain.
        features: n designs to finite numbers ``(n, p)`` in which like designs are near, for models that compare
            designs (fingerprints of molecules, say); default: the designs themselves where they are arrays of numbers.
        seed: of the mixture's folds, of draws and of inversion starts.
        device: where to run torch modules; default: where they are.

    Raises:
        InvalidInputError: the pieces do not fit: shapes, values that are not finite, no way from ``data`` to codes.
    """

    def __init__(
        self,
        decoder: Any,
        dim: int,
        encoder: Any = None,
        data: Any = None,
        codes: ArrayLike | None = None,
        prior: str | Prior | Draw | None = None,
        level: float = 0.99,
        features: Callable[[Sequence[Any]], ArrayLike] | None = None,
        seed: int = 0,
        device: str | torch.device | None = None,
    ) -> None:
        whole_number("Latent", "dim (the length of a code)", dim)
        if not 0.0 < level <= 1.0:
            raise InvalidInputError(
                f"Latent: level is a share of the codes in (0, 1], got {level!r}"
            )
        self._prior, draw = as_prior(prior, decoder)
        drawn = None if prior is None else draw
        sources = [
            n for n, v in (("data", data), ("codes", codes), ("prior", drawn)) if v is not None
        ]
        if len(sources) > 1:
            raise InvalidInputError(
                f"Latent: the reference measure comes from one source, got {' and '.join(sources)}"
            )
        dim = int(dim)
        if encoder is None and callable(getattr(decoder, "encode", None)):
            encoder = decoder.encode
        self._decoder = as_function(decoder, "Latent: the decoder", device)
        self._encoder = (
            None if encoder is None else as_function(encoder, "Latent: the encoder", device)
        )
        self.differentiable = is_module(decoder)
        self._seed = seed
        self._check(self._prior.codes(np.random.default_rng(seed).standard_normal((3, dim))))
        self._searched = False
        self.measure = self._measured(dim, data, codes, draw, seed)
        self.domain = self._domain(dim, level)
        designs: Any = self._check(self.codes(np.zeros((2, dim))))
        self._features = features
        self._texts: dict[bytes, str] | None = {} if isinstance(designs[0], str) else None
        numbers = isinstance(designs, np.ndarray) and designs.dtype.kind == "f" and designs.ndim > 1
        self._numeric = numbers and designs[0].size <= _FEATURES
        self._nameable = design_name(designs[0]) is not None
        self.discrete = self._nameable and _discrete(designs[0])

    def _measured(
        self, dim: int, data: Any, codes: Any, draw: Draw | None, seed: int
    ) -> Measure | None:
        """The measure of codes carried back to where the prior is N(0, I)."""
        if codes is not None:
            return fit_measure(self._prior.points(as_codes(codes, dim, "Latent: codes")), seed)
        if data is None:
            if draw is None:
                return None
            rng = np.random.default_rng(np.random.SeedSequence(seed))
            drawn = as_codes(draw(rng, _PRIOR_DRAWS + _RANKED), dim, "Latent: draws of the prior")
            return fit_measure(drawn[:_PRIOR_DRAWS], seed, fresh=drawn[_PRIOR_DRAWS:])
        if len(data) == 0:
            raise InvalidInputError(
                "Latent: data is empty; give real designs, or leave it out to trust the prior N(0, I)"
            )
        if self._encoder is not None:
            return fit_measure(self._prior.points(self._encode(data, dim)), seed)
        if not isinstance(self._decoder, Frozen):
            raise InvalidInputError(
                "Latent: data cannot be turned into codes, because there is no encoder and the decoder has no "
                "gradient; pass encoder=..., codes=..., or a torch module as the decoder"
            )
        enough = max(
            _INVERTED, 3 * (dim + 1)
        )  # inverting is slow, and more would hardly change the measure
        rows = np.asarray(data)
        if len(rows) > enough:
            rows = rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:enough])]
        self._searched = True
        return fit_measure(self._invert(rows, gaussian_domain(dim), None).points, seed)

    def invert(self, designs: Any) -> Inversion:
        """Points whose decodings come nearest to n designs, found by search, and what is left of each.

        It starts from draws of the reference measure and calls the decoder alone. The same designs give the same
        points.

        Args:
            designs: shape ``(n, ...)``, as the decoder makes them.

        Raises:
            InvalidInputError: shapes that do not match, or a decoder that makes no arrays of real numbers.
        """
        if not isinstance(self._decoder, Frozen) and not self._numeric:
            raise InvalidInputError(
                "Latent: a design can only be searched for where the decoder makes arrays of real numbers; pass "
                "encoder=..., or give points instead (add(points=...), enqueue(point=...))"
            )
        if not self._searched:
            return self._invert(designs, self.domain, self.measure)
        found = self._invert(designs, gaussian_domain(self.domain.dim), None)
        assert self.measure is not None
        return found.moved(
            self.domain.project(self.measure.whiten(found.points)), self.decode, designs
        )

    def _invert(self, designs: Any, domain: Domain, measure: Measure | None) -> Inversion:
        """In the coordinates of ``measure``. What a measure is made of and what is ranked in it are found alike."""
        from bo_invert.generators.inversion import by_gradient, invert

        rng = np.random.default_rng(np.random.SeedSequence(self._seed))
        gradient = None
        if isinstance(self._decoder, Frozen):
            gradient = by_gradient(
                lambda points: self._tensor(points, measure), self._decoder, domain.radius
            )
        try:
            return invert(
                lambda points: self._decoder(self._codes(points, measure)), designs, lambda n: domain.sample(rng, n),
                domain.project, gradient,
            )  # fmt: skip
        except InvalidInputError as error:
            raise InvalidInputError(f"Latent: {error}") from None

    def _encode(self, designs: Any, dim: int) -> Array:
        assert self._encoder is not None
        try:
            codes = checked_length(self._encoder(designs), len(designs), "Latent: the encoder")
        except InvalidInputError:
            raise
        except Exception as error:
            shape = np.shape(designs[0])
            raise InvalidInputError(
                f"Latent: the encoder fails on {len(designs)} designs of shape {shape}: {type(error).__name__}: {error}"
            ) from error
        return as_codes(codes, dim, "Latent: codes from the encoder")

    def _check(self, codes: Array) -> Any:
        """The designs of codes; fails now rather than after the first paid call."""
        try:
            designs = self._decoder(codes)
        except InvalidInputError:
            raise
        except Exception as error:
            raise InvalidInputError(
                f"Latent: the decoder fails on codes of shape {codes.shape}: {type(error).__name__}: {error}; is dim "
                "the length of its code, and does it take a batch?"
            ) from error
        checked_length(designs, len(codes), "Latent: the decoder")
        if (
            isinstance(designs, np.ndarray)
            and designs.dtype.kind == "f"
            and not np.isfinite(designs).all()
        ):
            raise InvalidInputError(
                "Latent: the decoder makes designs with values that are not finite from ordinary codes"
            )
        return designs

    def _domain(self, dim: int, level: float) -> Domain:
        if self.measure is None:
            from scipy.stats import chi2

            return gaussian_domain(dim, math.sqrt(chi2.ppf(min(level, 1 - 1e-9), dim)))
        # Encoders differ in the last digits between machines; that must not make it another problem.
        radius = float(f"{self.measure.radius(level):.3g}")
        return gaussian_domain(dim, radius, self.measure.reference)

    def codes(self, points: Array) -> Array:
        """Codes ``(n, dim)`` of points ``(n, dim)``."""
        return self._codes(points, self.measure)

    def _codes(self, points: Array, measure: Measure | None) -> Array:
        return self._prior.codes(points if measure is None else measure.color(points))

    def decode(self, points: Array) -> Sequence[Any]:
        points = np.atleast_2d(points)
        return (
            self._decoded(points) if self._texts is None else self._remembered(points, self._texts)
        )

    def _decoded(self, points: Array) -> Sequence[Any]:
        return checked_length(self._decoder(self.codes(points)), len(points), "Latent: the decoder")

    def _remembered(self, points: Array, texts: dict[bytes, str]) -> list[str]:
        """Texts, which are slow to make; models and names want those of the same points at every ask."""
        keys = [row.tobytes() for row in np.ascontiguousarray(points, dtype=np.float64)]
        known = {key: texts.get(key) for key in keys}
        rows = {key: i for i, key in enumerate(keys) if known[key] is None}
        if rows:
            made = dict(zip(rows, self._decoded(points[list(rows.values())]), strict=True))
            known |= made
            if len(texts) + len(made) > _REMEMBERED:
                texts.clear()
            texts |= made
        return [str(known[key]) for key in keys]

    @property
    def features(self) -> Callable[[Array], Array] | None:
        """What ``features`` makes of the decoded designs, or their own numbers where they are arrays of real ones."""
        return (
            self._shown
            if self._features is not None
            else self._flattened
            if self._numeric
            else None
        )

    def _shown(self, points: Array) -> Array:
        assert self._features is not None
        rows = np.asarray(self._features(self.decode(points)), dtype=np.float64)
        if rows.ndim != 2 or len(rows) != len(points):
            raise InvalidInputError(
                f"Latent: features of {len(points)} designs must be as many rows, got {rows.shape}"
            )
        return rows

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
        """Points ``(n, d)`` of n designs, by the encoder or, without one, by search.

        Raises:
            InvalidInputError: there is no encoder, and the decoder makes no arrays of real numbers, or nothing like a
                design.
        """
        if self._encoder is None:
            from bo_invert.generators.inversion import reproduced

            return reproduced(self.invert(designs))
        latents = self._prior.points(self._encode(designs, self.domain.dim))
        return self.domain.project(
            latents if self.measure is None else self.measure.whiten(latents)
        )

    def lost(self, designs: Sequence[Any], points: Array) -> Array | None:
        from bo_invert.generators.inversion import encoded

        drawn = self.decode(self.domain.sample(np.random.default_rng(self._seed), _COMPARED))
        found = encoded(points, self.decode, designs, drawn)
        return None if found is None else found.left

    def decode_tensor(self, points: torch.Tensor) -> torch.Tensor:
        if not isinstance(self._decoder, Frozen):
            return super().decode_tensor(points)
        return self._tensor(points, self.measure)

    def _tensor(self, points: torch.Tensor, measure: Measure | None) -> torch.Tensor:
        assert isinstance(self._decoder, Frozen)
        if measure is not None:
            points = points.new_tensor(measure.mean) + points @ points.new_tensor(measure.factor).T
        return self._decoder.tensor(self._prior.tensor(points))

    def digest(self) -> Digest | None:
        """Of the decoder."""
        return (
            self._decoder.digest() if isinstance(self._decoder, Frozen) else digest(self._decoder)
        )

    def to_json(self) -> JSON:
        return {
            "type": "latent",
            "dim": self.domain.dim,
            "radius": self.domain.radius,
            "measure": "N(0, I)" if self.measure is None else _fingerprint(self.measure),
            **({} if self._prior == Normal() else {"prior": str(self._prior)}),
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
