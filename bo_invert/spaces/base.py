"""Contract of a space: decoding of points to designs, and the plausibility of points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_invert.domains.named_points import read_named
from bo_invert.domains.reference_measure import DATA_REALISM, REALISM
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError, printable
from bo_invert.types import JSON, Array, Design
from bo_invert.user_code import guard_methods
from bo_invert.user_data import numbers

if TYPE_CHECKING:
    import torch

    from bo_invert.hashing import Digest


_METHODS = (
    "decode", "encode", "sample", "plausibility", "lost", "decode_tensor", "augment_tensor",
    "penalty_tensor",
)  # fmt: skip
"""Methods of a space that receive arrays or designs."""


class Space(ABC):
    """Search space: points ``(n, d)`` of a domain and the designs they decode to.

    Attributes:
        domain: geometry in which strategies move.
        differentiable: ``decode_tensor`` is implemented and passes gradients.
        discrete: designs are texts, integers or composed of these, so several points may decode to
            one design.
    """

    domain: Domain
    differentiable: bool = False
    discrete: bool = False

    def __init_subclass__(cls) -> None:
        guard_methods(cls, _METHODS)

    @abstractmethod
    def decode(self, points: Array) -> Sequence[Design]:
        """Decode points ``(n, d)`` to n designs: a list, or an array with first axis n."""

    def encode(self, designs: Sequence[Design]) -> Array:
        """Encode n designs as points ``(n, d)`` whose decodings are nearest to the designs.

        Raises:
            InvalidInputError: the space has no encoder, or a design is not of this space.
        """
        raise InvalidInputError(
            f"{type(self).__name__} has no encoder, so designs cannot become points. Pass points "
            "(add(points=...), enqueue(point=...)), or give the space an encoder."
        )

    def exact(self, designs: Sequence[Design], points: Array) -> list[JSON]:
        """Return designs of the user as JSON whose decodings differ by rounding only, else None.

        Args:
            designs: n designs.
            points: their points ``(n, d)`` from ``encode``.
        """
        # The centre shows the size of numbers that a decoder adds, and that rounding depends on.
        *decoded, centre = self.decode(np.vstack([points, np.zeros_like(points[:1])]))
        return [_exact(*pair, centre) for pair in zip(designs, decoded, strict=True)]

    @property
    def realism(self) -> float:
        """Default share of the reference measure that strategies search; see ``Problem``."""
        data = not self.domain.latent and self.domain.reference is not None
        return DATA_REALISM if data else REALISM

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Draw ``n`` points from the reference measure, shape ``(n, d)``."""
        return self.domain.sample(rng, n)

    def plausibility(self, points: Array) -> Array:
        """Return the plausibility of points ``(n, d)`` in [0, 1], shape ``(n,)``.

        It is a quantile: 95 % of the reference measure is more plausible than a point at 0.05.
        """
        return self.domain.plausibility(points)

    @property
    def features(self) -> Callable[[Array], Array] | None:
        """Pure function from points ``(n, d)`` to design features ``(n, p)``; None if undefined.

        Models that compare designs instead of points use it: similar designs have near features.
        """
        return None

    def lost(self, designs: Sequence[Design], points: Array) -> Array | None:
        """Return the relative reconstruction error ``(n,)`` of encoded designs.

        0 is an exact reconstruction; 1 is the error of the mean design. None if every
        reconstruction is exact or designs cannot be compared.
        """
        return None

    @property
    def identify(self) -> Callable[[Array], list[str]] | None:
        """Pure function from points ``(n, d)`` to n design names; None if undefined.

        Names are equal exactly for equal designs, and empty for those that no strategy proposes.

        Strategies use it to avoid a second call for a design that several points decode to.
        """
        return None

    # Differentiable spaces only. Tensors have the device and dtype of ``points``.

    def decode_tensor(self, points: torch.Tensor) -> torch.Tensor:
        """Decode points ``(n, d)`` to designs ``(n, ...)`` with gradients.

        Raises:
            InvalidInputError: the space is not ``differentiable``.
        """
        raise InvalidInputError(f"{type(self).__name__} is not differentiable")

    def augment_tensor(self, designs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Apply a random, label-preserving augmentation, such as jitter, at each descent step."""
        return designs

    def penalty_tensor(self, points: torch.Tensor, designs: torch.Tensor) -> torch.Tensor:
        """Return the regularisation that a descent adds to the loss, shape ``(n,)``.

        It is not part of any recorded loss.
        """
        return points.new_zeros(len(points))

    def __repr__(self) -> str:
        named = ", ".join(f"{name}: {p}" for name, p in self.domain.parameters.items())
        return printable(f"{type(self).__name__}({named or f'{self.domain.dim} coordinates'})")

    def digest(self) -> Digest | None:
        """Return a sha256 of a learned or user-defined decoder; a study warns if it changes.

        None if ``to_json`` identifies the space completely or the decoder cannot be read.
        """
        return None

    def to_json(self) -> JSON:
        """Return the JSON that identifies the space in a log; another value is another problem."""
        return {"type": type(self).__name__.lower(), "domain": self.domain.to_json()}


# Largest difference of a design from its reconstruction that is rounding, in units of the largest
# number. Engineering choice: a network in single precision rounds to about 1e-7 per layer.
_ROUNDING = 1e-6


def _exact(design: Design, decoded: Design, centre: Design) -> JSON:
    """Return an array as JSON if its reconstruction differs from it by rounding only."""
    if not hasattr(decoded, "dtype"):
        return None
    try:
        given, made, usual = numbers(design), numbers(decoded), numbers(centre)
    except TypeError:
        return None
    if given.shape != made.shape or np.array_equal(given, made):
        return None
    scale = max(np.abs(made).max(), np.abs(usual).max())
    return given.tolist() if np.abs(given - made).max() <= _ROUNDING * scale else None


def exact_rows(
    domain: Domain, rows: Sequence[Mapping[str, Any]], points: Array, vectors: bool
) -> list[JSON]:
    """Return named designs of a box as JSON where the decodings of their points differ, else None.

    Args:
        domain: box of the parameters.
        rows: n designs.
        points: their points ``(n, d)``.
        vectors: designs are vectors of the values.
    """
    given = read_named(domain.parameters, rows)
    return [
        None if _same(row, decoded) else list(row.values()) if vectors else row
        for row, decoded in zip(given, domain.values(points), strict=True)
    ]


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return True if values are equal bit for bit; -0.0 equals 0.0 but has another sign."""
    return one == other and (0.0 not in one.values() or repr(one) == repr(other))
