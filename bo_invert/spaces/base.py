"""The contract of a space: it owns the way from a point to a design, and says how plausible a point is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bo_invert.errors import InvalidInputError
from bo_invert.search_domain import Domain
from bo_invert.types import JSON, Array

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bo_invert.hashing import Digest


class Space(ABC):
    """Points ``(n, d)`` of a domain, and the designs they stand for."""

    domain: Domain
    #: Whether ``decode_tensor`` works, and gradients flow through it.
    differentiable: bool = False
    #: Whether designs are texts, whole numbers or made of these: then many points may stand for one.
    discrete: bool = False

    @abstractmethod
    def decode(self, points: Array) -> Sequence[Any]:
        """Designs of points ``(n, d)``: n of them, as a list or as an array whose first axis is n."""

    def encode(self, designs: Sequence[Any]) -> Array:
        """Points ``(n, d)`` of n designs; ``decode`` of them is as near to the designs as the space can come.

        Raises:
            InvalidInputError: this space cannot go back from a design to a point, or a design is not of this space.
        """
        raise InvalidInputError(
            f"{type(self).__name__} has no way back from a design to a point; give points instead "
            "(add(points=...), enqueue(point=...)), or give the space an encoder"
        )

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """``n`` points drawn from the reference measure, shape ``(n, d)``."""
        return self.domain.sample(rng, n)

    def plausibility(self, points: Array) -> Array:
        """In [0, 1], shape ``(n,)``: 0.05 means that 95 % of the reference measure is more plausible."""
        return self.domain.plausibility(points)

    @property
    def features(self) -> Callable[[Array], Array] | None:
        """A pure function from points ``(n, d)`` to their designs as numbers ``(n, p)``; None where there is none.

        For models that compare designs instead of points. The numbers may be anything in which like designs are near.
        """
        return None

    def lost(self, designs: Sequence[Any], points: Array) -> Array | None:
        """Share of each of n designs, ``(n,)``, that the points ``(n, d)`` they were encoded to do not give back.

        0 for an exact copy, 1 where the mean design is as near. None where nothing is lost, or nobody can tell.
        """
        return None

    @property
    def identify(self) -> Callable[[Array], list[str]] | None:
        """A pure function from points ``(n, d)`` to n names, equal for equal designs; None where nobody can tell.

        For decoders that give one design for many points. It keeps strategies from paying twice for a design.
        """
        return None

    # What follows is for differentiable spaces; tensors live on the device and in the dtype of ``points``.

    def decode_tensor(self, points: torch.Tensor) -> torch.Tensor:
        """Designs ``(n, ...)`` of points ``(n, d)``, with gradients flowing. Only if ``differentiable``."""
        raise InvalidInputError(f"{type(self).__name__} is not differentiable")

    def augment_tensor(self, designs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Random, label-preserving changes (jitter, small rotations) applied at each step of a descent."""
        return designs

    def penalty_tensor(self, points: torch.Tensor, designs: torch.Tensor) -> torch.Tensor:
        """What a descent adds to the loss to keep designs regular, shape ``(n,)``; never part of a told loss."""
        return points.new_zeros(len(points))

    def __repr__(self) -> str:
        kind = type(self).__name__
        if self.domain.parameters:
            return (
                f"{kind}({', '.join(f'{name}: {p}' for name, p in self.domain.parameters.items())})"
            )
        return f"{kind}({self.domain.dim} coordinates)"

    def digest(self) -> Digest | None:
        """sha256 of what decodes where that is learnt or the user's; None where ``to_json`` says all, or nothing can be
        read. A study warns when it changed.
        """
        return None

    def to_json(self) -> JSON:
        """What identifies the space in a log: a changed space is a changed problem."""
        return {"type": type(self).__name__.lower(), "domain": self.domain.to_json()}
