"""How a generator's codes are drawn, as a map of N(0, I): a point of the latent goes to a code of the prior's support.

A search that moves in N(0, I) and is carried over leaves the support nowhere, and its plausibility is exact. For other
priors draws are all that is needed: ``Latent(prior=draw)`` measures them.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.types import Array

if TYPE_CHECKING:
    from torch import Tensor

_EDGE = 1e-4
"""Codes nearer to the end of a bounded prior, as a share of its mass, come back as if they were this near."""

Draw = Callable[[np.random.Generator, int], Any]


class Prior(ABC):
    """A distribution of codes ``(n, d)`` of independent or rotation-invariant coordinates."""

    @abstractmethod
    def codes(self, points: Array) -> Array:
        """Codes ``(n, d)`` of points ``(n, d)``; N(0, I) becomes this prior."""

    @abstractmethod
    def points(self, codes: Array) -> Array:
        """Points ``(n, d)`` that ``codes`` takes to these, or to the nearest codes that the prior has."""

    @abstractmethod
    def tensor(self, points: Tensor) -> Tensor:
        """``codes`` on tensors, with gradients."""


@dataclass(frozen=True)
class Normal(Prior):
    """N(0, I)."""

    def codes(self, points: Array) -> Array:
        return points

    def points(self, codes: Array) -> Array:
        return codes

    def tensor(self, points: Tensor) -> Tensor:
        return points


@dataclass(frozen=True)
class Uniform(Prior):
    """Every coordinate evenly between two bounds.

    Args:
        low: least value.
        high: greatest.
    """

    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise InvalidInputError(
                f"Uniform: low and high must be finite, the lower first, got {self.low}, {self.high}"
            )

    def codes(self, points: Array) -> Array:
        from scipy.special import ndtr

        made: Array = self.low + (self.high - self.low) * ndtr(points)
        return made

    def points(self, codes: Array) -> Array:
        from scipy.special import ndtri

        found: Array = ndtri(
            np.clip((codes - self.low) / (self.high - self.low), _EDGE, 1.0 - _EDGE)
        )
        return found

    def tensor(self, points: Tensor) -> Tensor:
        import torch

        made: Tensor = self.low + (self.high - self.low) * torch.special.ndtr(points)
        return made


@dataclass(frozen=True)
class Truncated(Prior):
    """Every coordinate from N(0, 1), but only within ``bound`` of 0 (the truncation of Brock et al., 2019).

    Args:
        bound: greatest absolute value.
    """

    bound: float = 2.0

    def __post_init__(self) -> None:
        if not 0.0 < self.bound <= 8.0:
            raise InvalidInputError(
                f"Truncated: bound is a number of standard deviations in (0, 8], got {self.bound}"
            )

    @property
    def _tail(self) -> float:
        return 0.5 * math.erfc(self.bound / math.sqrt(2.0))

    def codes(self, points: Array) -> Array:
        from scipy.special import ndtr, ndtri

        made: Array = ndtri(self._tail + (1.0 - 2.0 * self._tail) * ndtr(points))
        return made.clip(-self.bound, self.bound)

    def points(self, codes: Array) -> Array:
        from scipy.special import ndtr, ndtri

        share = (ndtr(codes) - self._tail) / (1.0 - 2.0 * self._tail)
        found: Array = ndtri(np.clip(share, _EDGE, 1.0 - _EDGE))
        return found

    def tensor(self, points: Tensor) -> Tensor:
        import torch

        share = self._tail + (1.0 - 2.0 * self._tail) * torch.special.ndtr(points)
        made: Tensor = torch.special.ndtri(share).clamp(-self.bound, self.bound)
        return made


@dataclass(frozen=True)
class Sphere(Prior):
    """Evenly on a sphere about 0; the length of a point makes no difference.

    Args:
        radius: of the sphere; None for sqrt(d).
    """

    radius: float | None = None

    def __post_init__(self) -> None:
        if self.radius is not None and not 0.0 < self.radius < math.inf:
            raise InvalidInputError(f"Sphere: radius is a positive number, got {self.radius}")

    def codes(self, points: Array) -> Array:
        made: Array = points * (
            self._reach(points) / np.linalg.norm(points, axis=-1, keepdims=True).clip(1e-12)
        )
        return made

    def points(self, codes: Array) -> Array:
        found: Array = codes * (
            math.sqrt(codes.shape[-1]) / np.linalg.norm(codes, axis=-1, keepdims=True).clip(1e-12)
        )
        return found

    def tensor(self, points: Tensor) -> Tensor:
        made: Tensor = points * (
            self._reach(points) / points.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        )
        return made

    def _reach(self, points: Array | Tensor) -> float:
        return math.sqrt(points.shape[-1]) if self.radius is None else self.radius


NAMED: dict[str, Prior] = {
    "normal": Normal(),
    "uniform": Uniform(),
    "truncated": Truncated(),
    "sphere": Sphere(),
}


def named_prior(name: str) -> Prior:
    """A prior by its name: N(0, I), U(-1, 1), N(0, 1) within 2 of 0, the sphere of radius sqrt(d).

    Raises:
        InvalidInputError: there is none of that name.
    """
    if name not in NAMED:
        raise InvalidInputError(f"a prior's name is one of {', '.join(NAMED)}, got {name!r}")
    return NAMED[name]


def as_prior(prior: Any, decoder: Any) -> tuple[Prior, Draw | None]:
    """The map from N(0, I) that a prior is, or N(0, I) and what draws codes where there is no such map.

    Args:
        prior: a name, a ``Prior``, a function ``(rng, n)``, or None for the decoder's own.
        decoder: asked for its attribute ``prior``, which counts if it is a ``Prior`` or can be called like this.

    Raises:
        InvalidInputError: ``prior`` is nothing of that.
    """
    if prior is None:
        own = getattr(decoder, "prior", None)
        prior = own if isinstance(own, Prior) or _draws(own) else Normal()
    if isinstance(prior, str):
        prior = named_prior(prior)
    if isinstance(prior, Prior):
        return prior, None
    if not callable(prior):
        raise InvalidInputError(
            f"a prior is a name, a Prior, or a function (rng, n) that draws codes, got {prior!r}"
        )
    return Normal(), prior


def _draws(own: Any) -> bool:
    """Foreign decoders have all kinds of things under this name: distributions, networks, methods without arguments."""
    if not inspect.isroutine(own):
        return False
    try:
        inspect.signature(own).bind(None, 1)
    except (TypeError, ValueError):
        return False
    return True


def draw_codes(prior: Prior | Draw | None, rng: np.random.Generator, n: int, dim: int) -> Any:
    """n codes ``(n, dim)`` from a prior, from what a function draws, or from N(0, I) for None."""
    if prior is None or isinstance(prior, Prior):
        points = rng.standard_normal((n, dim))
        return points if prior is None else prior.codes(points)
    return prior(rng, n)
