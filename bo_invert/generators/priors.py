"""Code priors of generators as maps from N(0, I): each point maps to a code in the prior's support.

A search in the coordinates of N(0, I) never leaves the support, and its plausibility is exact.
For other priors, ``Latent(prior=draw)`` fits the reference measure to draws.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from bo_invert.errors import InvalidInputError, one_of
from bo_invert.types import Array

if TYPE_CHECKING:
    from torch import Tensor

# Engineering choice: smallest tail probability in ``points``. The bounds of a prior would map to
# infinity; clipped points lie within 3.7 standard deviations.
_MIN_PROBABILITY = 1e-4

Numbers: TypeAlias = Any
"""Numpy array or torch tensor."""
Draw = Callable[[np.random.Generator, int], ArrayLike]


class Prior(ABC):
    """Distribution of codes ``(n, d)``, as the image of N(0, I) under a map T.

    For independent coordinates with distribution function F, ``T(z) = F^-1(Phi(z))``, where Phi is
    that of N(0, 1). For rotation-invariant codes, T changes only the norm of z.
    """

    @abstractmethod
    def codes(self, points: Array) -> Array:
        """Map points ``(n, d)`` to codes ``(n, d)``."""

    @abstractmethod
    def points(self, codes: Array) -> Array:
        """Invert ``codes``; codes outside the support map to points of codes near its boundary."""

    @abstractmethod
    def tensor(self, points: Tensor) -> Tensor:
        """Map points to codes as tensors, with gradients."""


@dataclass(frozen=True)
class Normal(Prior):
    """Standard normal prior N(0, I): the identity map."""

    def codes(self, points: Array) -> Array:
        return points

    def points(self, codes: Array) -> Array:
        return codes

    def tensor(self, points: Tensor) -> Tensor:
        return points


class Independent(Prior):
    """Prior of independent coordinates with one distribution function F: ``T(z) = F^-1(Phi(z))``.

    Subclasses define F and F^-1. Their argument ``special`` is the library of special functions,
    ``scipy.special`` or ``torch.special``.
    """

    @abstractmethod
    def quantiles(self, shares: Numbers, special: ModuleType) -> Numbers:
        """Compute ``F^-1`` of shares in [0, 1]."""

    @abstractmethod
    def shares(self, codes: Array) -> Array:
        """Compute ``F`` of codes."""

    def codes(self, points: Array) -> Array:
        return np.asarray(self.quantiles(special.ndtr(points), special))

    def points(self, codes: Array) -> Array:
        # ndtri is infinite at 0 and 1.
        inner = self.shares(codes).clip(_MIN_PROBABILITY, 1.0 - _MIN_PROBABILITY)
        return np.asarray(special.ndtri(inner))

    def tensor(self, points: Tensor) -> Tensor:
        import torch  # late: spaces import this module without torch

        codes: Tensor = self.quantiles(torch.special.ndtr(points), torch.special)
        return codes


@dataclass(frozen=True)
class Uniform(Independent):
    """Uniform prior of each coordinate: ``low + (high - low) * Phi(z)``.

    Args:
        low: lower bound.
        high: upper bound.
    """

    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise InvalidInputError(
                f"Uniform: low must be below high, both finite, got {self.low}, {self.high}"
            )

    def quantiles(self, shares: Numbers, special: ModuleType) -> Numbers:
        return self.low + (self.high - self.low) * shares

    def shares(self, codes: Array) -> Array:
        return (codes - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Truncated(Independent):
    """Truncated normal prior of each coordinate, ``|code| <= bound`` (Brock et al. 2019).

    With tail mass ``t = Phi(-bound)``, the code of z is ``Phi^-1(t + (1 - 2 t) Phi(z))``.

    Args:
        bound: largest absolute value, in standard deviations, in (0, 8].
    """

    bound: float = 2.0

    def __post_init__(self) -> None:
        if not 0.0 < self.bound <= 8.0:
            raise InvalidInputError(
                f"Truncated: bound must be in (0, 8] standard deviations, got {self.bound}"
            )

    @property
    def _tail(self) -> float:
        return 0.5 * math.erfc(self.bound / math.sqrt(2.0))

    def quantiles(self, shares: Numbers, special: ModuleType) -> Numbers:
        codes = special.ndtri(self._tail + (1.0 - 2.0 * self._tail) * shares)
        return codes.clip(-self.bound, self.bound)  # rounding may exceed the bound

    def shares(self, codes: Array) -> Array:
        return np.asarray((special.ndtr(codes) - self._tail) / (1.0 - 2.0 * self._tail))


@dataclass(frozen=True)
class Sphere(Prior):
    """Uniform prior on a sphere around 0: ``radius * z / |z|``.

    Args:
        radius: radius of the sphere; None for sqrt(d).
    """

    radius: float | None = None

    def __post_init__(self) -> None:
        if self.radius is not None and not 0.0 < self.radius < math.inf:
            raise InvalidInputError(f"Sphere: radius must be finite and > 0, got {self.radius}")

    def codes(self, points: Array) -> Array:
        return _scaled(points, self._length(points))

    def points(self, codes: Array) -> Array:
        # sqrt(d) is the typical norm of N(0, I) in d dimensions.
        return _scaled(codes, math.sqrt(codes.shape[-1]))

    def tensor(self, points: Tensor) -> Tensor:
        norms = points.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return points.mul(self._length(points) / norms)

    # The norm is clipped at 1e-12, since the direction of the zero point is undefined.
    def _length(self, points: Array | Tensor) -> float:
        return math.sqrt(points.shape[-1]) if self.radius is None else self.radius


def _scaled(vectors: Array, length: float) -> Array:
    """Scale vectors ``(n, d)`` to one length."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-12)
    return np.asarray(vectors * (length / norms))


NAMED: dict[str, Prior] = {
    "normal": Normal(),
    "uniform": Uniform(),
    "truncated": Truncated(),
    "sphere": Sphere(),
}


def named_prior(name: str) -> Prior:
    """Return the prior ``"normal"``, ``"uniform"``, ``"truncated"`` or ``"sphere"``.

    These are N(0, I), U(-1, 1), N(0, 1) truncated to [-2, 2], and the sphere of radius sqrt(d).

    Raises:
        InvalidInputError: the name is unknown.
    """
    one_of("prior", "name", name, NAMED)
    return NAMED[name]


def as_prior(prior: str | Prior | Draw | None, decoder: object) -> tuple[Prior, Draw | None]:
    """Return a prior and no draw function, or N(0, I) and a function that draws codes.

    Args:
        prior: a name, a ``Prior``, a function ``(rng, n)``, or None for the decoder's own prior.
        decoder: network or function. Its attribute ``prior`` counts if it is a ``Prior`` or a
            method callable with ``(rng, n)``.

    Raises:
        InvalidInputError: ``prior`` is of another type, or an unknown name.
    """
    if prior is None:
        own = getattr(decoder, "prior", None)
        prior = own if isinstance(own, Prior) or _is_draw(own) else Normal()
    if isinstance(prior, str):
        prior = named_prior(prior)
    if isinstance(prior, Prior):
        return prior, None
    if not callable(prior):
        raise InvalidInputError(
            "prior: value must be a name, a Prior, or a function (rng, n) that draws codes, "
            f"got {prior!r}"
        )
    # Without a map, the search uses N(0, I), and draws serve to fit the measure.
    return Normal(), prior


def _is_draw(own: object) -> bool:
    """Check that a decoder's attribute ``prior`` is a function or method of ``(rng, n)``."""
    # In other libraries, ``prior`` may be a distribution, a network or a method without arguments.
    if inspect.isroutine(own):
        with suppress(TypeError, ValueError):
            inspect.signature(own).bind(None, 1)
            return True
    return False


def draw_codes(prior: Prior | Draw | None, rng: np.random.Generator, n: int, dim: int) -> ArrayLike:
    """Draw n codes ``(n, dim)`` from a prior or a draw function; None stands for N(0, I)."""
    known = Normal() if prior is None else prior
    return known.codes(rng.standard_normal((n, dim))) if isinstance(known, Prior) else known(rng, n)
