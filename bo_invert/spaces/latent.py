"""Latent space of a generator: points are whitened codes, designs are decoded codes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError
from bo_invert.generators.design_ranges import check_reconstructions, warn_of_logits
from bo_invert.generators.inversion import by_gradient, encoded, invert, reproduced
from bo_invert.generators.latent_plausibility import (
    COMPONENTS,
    Measure,
    as_codes,
    fit_measure,
    shown_components,
)
from bo_invert.generators.priors import Draw, Normal, Prior, as_prior
from bo_invert.generators.trained_models import (
    Encoding,
    checked_data,
    decoding,
)
from bo_invert.generators.wrapped import TorchFunction, checked_length
from bo_invert.hashing import Digest, design_name
from bo_invert.spaces.base import Space
from bo_invert.types import JSON, Array, Design, Designs
from bo_invert.user_code import DeviceConstants, call_user_code, own_settings, user_function
from bo_invert.user_data import real, real_array, whole_number

if TYPE_CHECKING:
    import torch

    from bo_invert.generators.inversion import Inversion

# Draws (count) from a user-defined prior. Engineering choice: the first set fits the measure,
# the second calibrates plausibility quantiles to about 0.3 percentage points.
_FIT_DRAWS, _CALIBRATION_DRAWS = 2000, 10_000
# Decoded draws (count) whose mean distance scales reconstruction errors. Engineering choice.
_SPREAD_DRAWS = 200
# Real designs (count) that are inverted without an encoder. Engineering choice: inversion is slow,
# and more designs hardly change the fitted measure.
_MAX_INVERTED = 500
# Designs (count) whose reconstructions are compared in range. Engineering choice.
_COMPARED = 64
# Cached texts (count). Engineering choice: bounds memory at a few megabytes.
_CACHE_SIZE = 20_000
# Numbers per design (count) above which models do not compare raw designs. Engineering choice:
# a 128 x 128 image.
_MAX_FEATURES = 16_384


class Latent(Space):
    """Latent space of any decoder, whitened: the reference codes have mean 0 and covariance I.

    The reference measure is fitted to ``codes``, to ``data`` encoded by the encoder, or to ``data``
    inverted through a differentiable decoder. Without any of these it is the decoder's prior.
    Without an encoder, ``encode`` searches for the points of designs.

    Args:
        decoder: map from codes ``(n, dim)`` to n designs: a callable on batches, or a model with a
            method ``decode`` or ``inverse_transform`` or a part ``decoder``. A ``torch.nn.Module``,
            its method or a function of tensors makes the space differentiable. A module runs in
            evaluation mode on the device and in the dtype of its parameters. Its own mode, flags
            and gradients stay unchanged.
        dim: length of a code.
        encoder: map from n designs to codes ``(n, dim)``, or a model with ``encode`` or
            ``transform``; default: that of the decoder, if it exists. Of (mean, log variance),
            (z, mean, log variance) and other outputs, the mean is the code.
        data: real designs, shape ``(n, ...)``; several hundred suffice to fit the measure.
        codes: codes of real designs, shape ``(n, dim)``, instead of ``data``.
        prior: distribution of the decoder's codes. ``"normal"``, ``"uniform"`` in [-1, 1],
            ``"truncated"``, ``"sphere"`` or another ``generators.priors.Prior`` maps points from
            N(0, I) to codes where the prior has mass. A function ``prior(rng, n)`` draws n codes
            ``(n, dim)``, and the measure is fitted to these instead of ``data`` or ``codes``.
            Default: the decoder's attribute or method ``prior`` of these kinds, else N(0, I).
        level: share of the reference codes inside the radius of the domain, in (0, 1].
        features: map from n designs to finite numbers ``(n, p)``, such as molecular fingerprints;
            models compare designs by them. Default: the designs, if they are arrays of numbers.
        seed: seed of cross-validation folds, draws and inversion starts.
        device: device of torch modules; default: their present device.
        progress: show progress bars while data without an encoder are inverted and while the
            plausibility of data is fitted. Default: in a terminal or notebook, after one second.

    Raises:
        InvalidInputError: shapes do not match, values are not finite, or ``data`` has no encoder.
    """

    @own_settings()
    def __init__(
        self,
        decoder: Any,
        dim: int,
        encoder: Any = None,
        data: Designs | None = None,
        codes: ArrayLike | None = None,
        prior: str | Prior | Draw | None = None,
        level: float = 0.99,
        features: Callable[[Sequence[Design]], ArrayLike] | None = None,
        seed: int = 0,
        device: str | torch.device | None = None,
        progress: bool | None = None,
    ) -> None:
        dim = whole_number("Latent", "dim (the length of a code)", dim)
        seed, level = whole_number("Latent", "seed", seed, 0), real("Latent", "level", level)
        if not 0.0 < level <= 1.0:
            raise InvalidInputError(f"Latent: level must be in (0, 1], got {level!r}")
        self._prior, draw = as_prior(prior, decoder)
        given = {"data": data, "codes": codes, "prior": None if prior is None else draw}
        sources = [name for name, value in given.items() if value is not None]
        if len(sources) > 1:
            raise InvalidInputError(
                f"Latent: only one of data, codes and prior is allowed, got {' and '.join(sources)}"
            )
        self._seed, self._progress = seed, progress
        tried = self._codes(np.random.default_rng(seed).standard_normal((3, dim)), None)
        self._decoder = decoding(decoder, tried, device)
        given_encoder = None if encoder is None else Encoding(encoder, device)
        self._encoder = given_encoder or Encoding.of(decoder, device)
        decoded = self._check(tried)
        self._shape = decoded.shape[1:] if isinstance(decoded, np.ndarray) else None
        # A module may disable gradients by itself.
        network = self._decoder
        self.differentiable = isinstance(network, TorchFunction) and network.passes_gradients(tried)
        self._searched = False
        self.measure = self._measured(dim, data, codes, draw, seed)
        self._color = None
        if self.measure is not None:
            self._color = DeviceConstants(self.measure.mean, self.measure.factor.T.copy())
        self.domain = self._domain(dim, level)
        designs = self._check(self.codes(np.zeros((2, dim))))
        self._features = user_function(features)
        self._texts: dict[bytes, str] | None = {} if isinstance(designs[0], str) else None
        numbers = isinstance(designs, np.ndarray) and designs.dtype.kind == "f" and designs.ndim > 1
        self._numeric = numbers and designs[0].size <= _MAX_FEATURES
        self._nameable = design_name(designs[0]) is not None
        self.discrete = self._nameable and _discrete(designs[0])

    def _measured(
        self, dim: int, data: Designs | None, codes: ArrayLike | None, draw: Draw | None, seed: int
    ) -> Measure | None:
        """Fit the reference measure in the coordinates in which the prior is N(0, I)."""
        components = COMPONENTS if self._progress is False else shown_components(self._progress)
        fit = partial(fit_measure, seed=seed, components=components)
        if codes is not None:
            return fit(self._points(as_codes(codes, dim, "Latent: codes")))
        if data is None:
            if draw is None:
                return None
            rng = np.random.default_rng(np.random.SeedSequence(seed))
            made = call_user_code(draw, rng, _FIT_DRAWS + _CALIBRATION_DRAWS)
            drawn = as_codes(made, dim, "Latent: draws of the prior")
            return fit(drawn[:_FIT_DRAWS], fresh=drawn[_FIT_DRAWS:])
        data = checked_data(data)
        if self._encoder is not None:
            codes = self._encoded(self._encoder, data, dim)
            decoded = self._decoder(codes[:_COMPARED])
            check_reconstructions(data[:_COMPARED], decoded)
            warn_of_logits(data[:_COMPARED], decoded)
            return fit(self._points(codes))
        if not self.differentiable:
            raise InvalidInputError(
                "Latent: data has no codes: there is no encoder and the decoder has no gradient. "
                "Pass encoder=..., codes=..., or a torch module as the decoder."
            )
        enough = max(_MAX_INVERTED, 3 * (dim + 1))
        rows = np.asarray(data)
        if len(rows) > enough:
            rows = rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:enough])]
        drawn = np.random.default_rng(seed).standard_normal((_COMPARED, dim))
        warn_of_logits(rows, self._decoder(self._codes(drawn, None)))
        self._searched = True
        found = self._invert(rows, gaussian_domain(dim), None).points
        return fit(found, designs=rows)

    @own_settings()
    def invert(self, designs: Designs) -> Inversion:
        """Search for the points whose decodings are nearest to n designs.

        The search starts from draws of the reference measure, calls only the decoder and is
        deterministic.

        Args:
            designs: designs in the decoder's output format, shape ``(n, ...)``.

        Returns:
            The points and the relative reconstruction error of each design.

        Raises:
            InvalidInputError: shapes do not match, or designs are not arrays of real numbers.
        """
        if not self.differentiable and not self._numeric:
            raise InvalidInputError(
                "Latent: inversion needs a decoder that returns arrays of real numbers. "
                "Pass encoder=..., or pass points (add(points=...), enqueue(point=...))."
            )
        if not self._searched:
            return self._invert(designs, self.domain, self.measure)
        found = self._invert(designs, gaussian_domain(self.domain.dim), None)
        assert self.measure is not None
        return found.moved(
            self.domain.project(self.measure.whiten(found.points)), self.decode, designs
        )

    def _invert(self, designs: Designs, domain: Domain, measure: Measure | None) -> Inversion:
        """Invert in the coordinates of ``measure``; None stands for the prior's coordinates."""
        rng = np.random.default_rng(np.random.SeedSequence(self._seed))
        decoder = self._decoder
        gradient = (
            by_gradient(
                partial(self._tensor, decoder, measure is not None),
                decoder,
                domain.radius,
                self._progress,
            )
            if isinstance(decoder, TorchFunction) and self.differentiable
            else None
        )
        try:
            return invert(
                lambda points: decoder(self._codes(points, measure)), designs,
                lambda n: domain.sample(rng, n), domain.project, gradient,
            )  # fmt: skip
        except InvalidInputError as error:
            raise InvalidInputError(f"Latent: {error}") from None

    def _check(self, codes: Array) -> Designs:
        """Decode codes; raise errors before the first oracle call."""
        made = checked_length(self._decoder(codes), len(codes), "Latent: the decoder")
        designs: Designs = made
        if (
            isinstance(designs, np.ndarray)
            and designs.dtype.kind == "f"
            and not np.isfinite(designs).all()
        ):
            raise InvalidInputError(
                "Latent: the decoder returns values that are not finite for typical codes"
            )
        return designs

    def _domain(self, dim: int, level: float) -> Domain:
        if self.measure is None:
            from scipy.stats import chi2

            return gaussian_domain(dim, math.sqrt(chi2.ppf(min(level, 1 - 1e-9), dim)))
        # Encoders differ in the last digits between machines. Rounding keeps the problem the same.
        return gaussian_domain(
            dim, float(f"{self.measure.radius(level):.3g}"), self.measure.reference
        )

    def codes(self, points: Array) -> Array:
        """Return the codes ``(n, dim)`` of points ``(n, dim)``."""
        return self._codes(points, self.measure)

    def _codes(self, points: Array, measure: Measure | None) -> Array:
        at = points if measure is None else measure.color(points)
        return np.asarray(call_user_code(self._prior.codes, at))

    def _points(self, codes: Array) -> Array:
        """Return the points of codes ``(n, dim)``, whose distribution is N(0, I) by the prior."""
        return np.asarray(call_user_code(self._prior.points, codes))

    @own_settings()
    def decode(self, points: Array) -> Sequence[Design]:
        points = np.atleast_2d(points)
        return self._decoded(points) if self._texts is None else self._cached(points, self._texts)

    def _decoded(self, points: Array) -> Sequence[Design]:
        return checked_length(self._decoder(self.codes(points)), len(points), "Latent: the decoder")

    def _cached(self, points: Array, texts: dict[bytes, str]) -> list[str]:
        """Decode to texts through a cache, since each ask decodes the same points."""
        keys = [row.tobytes() for row in np.ascontiguousarray(points, dtype=np.float64)]
        known = {key: texts.get(key) for key in keys}
        rows = {key: i for i, key in enumerate(keys) if known[key] is None}
        if rows:
            made = dict(zip(rows, self._decoded(points[list(rows.values())]), strict=True))
            known |= made
            if len(texts) + len(made) > _CACHE_SIZE:
                texts.clear()
            texts |= made
        return [str(known[key]) for key in keys]

    @property
    def features(self) -> Callable[[Array], Array] | None:
        """User-defined features, or the flattened designs if they are arrays of real numbers."""
        return (
            self._user_features
            if self._features is not None
            else self._flattened
            if self._numeric
            else None
        )

    def _user_features(self, points: Array) -> Array:
        assert self._features is not None
        rows = real_array("Latent: features", self._features(self.decode(points)))
        if rows.ndim != 2 or len(rows) != len(points) or not np.isfinite(rows).all():
            raise InvalidInputError(
                f"Latent: features must return {len(points)} rows of finite numbers, got shape "
                f"{rows.shape} with {int((~np.isfinite(rows)).sum())} other values"
            )
        return rows

    def _flattened(self, points: Array) -> Array:
        designs = np.asarray(self.decode(points), dtype=np.float64)
        return designs.reshape(len(points), math.prod(designs.shape[1:]))

    @property
    def identify(self) -> Callable[[Array], list[str]] | None:
        """Content hashes of arrays, numbers, texts, lists and dicts; None for other designs."""
        return self._names if self._nameable else None

    def _names(self, points: Array) -> list[str]:
        return [design_name(design) or "" for design in self.decode(points)]

    @own_settings()
    def encode(self, designs: Sequence[Design]) -> Array:
        """Encode n designs as points ``(n, d)`` by the encoder, or by search if there is none.

        Raises:
            InvalidInputError: without an encoder, designs are not arrays of real numbers, or
                the search finds no point with a similar design.
        """
        if self._encoder is None:
            return reproduced(self.invert(designs))
        points = self._points(self._encoded(self._encoder, designs, self.domain.dim))
        return self.domain.project(points if self.measure is None else self.measure.whiten(points))

    def _encoded(self, encoder: Encoding, designs: Designs, dim: int) -> Array:
        """Return the codes ``(n, dim)`` of n designs."""
        found = encoder(designs, dim, self._shape)
        return as_codes(found, dim, "Latent: codes from the encoder")

    @own_settings()
    def lost(self, designs: Sequence[Design], points: Array) -> Array | None:
        drawn = self.decode(self.domain.sample(np.random.default_rng(self._seed), _SPREAD_DRAWS))
        found = encoded(points, self.decode, designs, drawn)
        return None if found is None else found.left

    def decode_tensor(self, points: torch.Tensor) -> torch.Tensor:
        if not self.differentiable or not isinstance(self._decoder, TorchFunction):
            return super().decode_tensor(points)
        return self._tensor(self._decoder, self._color is not None, points)

    def _tensor(self, decoder: TorchFunction, colored: bool, points: torch.Tensor) -> torch.Tensor:
        """Decode points, after coloring by the measure if ``colored``."""
        if colored:
            assert self._color is not None
            mean, factor = self._color.like(points)
            points = mean.addmm(points, factor)
        return decoder.tensor(call_user_code(self._prior.tensor, points))

    def digest(self) -> Digest | None:
        """Return the digest of the decoder."""
        return self._decoder.digest()

    def to_json(self) -> JSON:
        return {
            "type": "latent",
            "dim": self.domain.dim,
            "radius": self.domain.radius,
            "measure": "N(0, I)" if self.measure is None else _fingerprint(self.measure),
            **({} if self._prior == Normal() else {"prior": str(self._prior)}),
        }


def _fingerprint(measure: Measure) -> str:
    """Hash the whitening, coarsely enough to ignore rounding differences between machines."""
    scale = np.linalg.norm(measure.factor, axis=1)
    numbers = np.column_stack([measure.mean / scale, np.log10(scale)]).ravel()
    text = ",".join(f"{round(v, 2) + 0.0:.2f}" for v in numbers)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _discrete(design: object) -> bool:
    if isinstance(design, (np.ndarray, np.generic)):
        return design.dtype.kind in "biuSU"
    if isinstance(design, (list, tuple, dict)):
        return all(map(_discrete, design.values() if isinstance(design, dict) else design))
    return isinstance(design, (str, int))
