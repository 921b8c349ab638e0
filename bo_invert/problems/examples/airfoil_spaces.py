"""Where airfoils are searched: a latent learned from real ones, a box of its axes, one of Kulfan numbers, a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from bo_invert.errors import whole_number
from bo_invert.generators.design_plausibility import DesignRealism
from bo_invert.generators.latent_plausibility import Measure
from bo_invert.parameters import Int
from bo_invert.problems.examples.airfoil_shapes import (
    CROSSING,
    KULFAN,
    STATIONS,
    basis,
    crossing,
    database,
    surfaces,
    thickness,
)
from bo_invert.search_domain import box_domain
from bo_invert.spaces.base import Space
from bo_invert.spaces.box import Box
from bo_invert.spaces.latent import Latent
from bo_invert.types import JSON, Array, Design

#: Nothing is learned from thicker airfoils, in chords: 31 of 2,174, struts and roots of blades most of them.
THICKEST = 0.25
#: Share of the others that the latent is learned from; the rest says how real a design looks.
TAUGHT = 0.8
#: Components of the published search, which hold 99.9 % of the variance.
PUBLISHED_DIM = 9
_QUANTILES = (0.01, 0.99)


class Modes(nn.Module):
    """The ways in which airfoils differ most: principal components of the heights of their surfaces.

    Heights are linear in the Kulfan numbers, so a code ``(n, dim)`` stands for exact Kulfan numbers ``(n, 18)``; only a
    trailing edge of negative thickness is closed. Codes are in standard deviations of the airfoils learned from.

    Args:
        designs: real airfoils, shape ``(k, 18)``.
        dim: how many components, from 1 to 18.
        baseline: Kulfan numbers ``(18,)`` of the airfoil that the code 0 stands for; default: the mean.

    Raises:
        InvalidInputError: no such number of components.
    """

    def __init__(self, designs: Array, dim: int, baseline: Array | None = None) -> None:
        super().__init__()
        whole_number("airfoil", "dim", dim, most=len(KULFAN))
        heights, centre = basis(), designs.mean(axis=0)
        _, sizes, ways = np.linalg.svd((designs - centre) @ heights.T, full_matrices=False)
        largest = np.abs(ways).argmax(axis=1)
        ways = (
            ways * np.sign(ways[np.arange(len(ways)), largest])[:, None]
        )  # the decomposition leaves the sign open
        spread = sizes[:dim] / np.sqrt(len(designs) - 1)
        self.explained = float((sizes[:dim] ** 2).sum() / (sizes**2).sum())
        self._keep("centre", centre if baseline is None else baseline)
        self._keep("steps", np.linalg.lstsq(heights, ways[:dim].T * spread, rcond=None)[0].T)
        self._keep("heights", heights)
        self._keep("reader", ways[:dim].T / spread)

    def _keep(self, name: str, values: Array) -> None:
        self.register_parameter(
            name, nn.Parameter(torch.as_tensor(np.array(values)), requires_grad=False)
        )

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Kulfan numbers ``(n, 18)`` of codes ``(n, dim)``."""
        free = self.get_parameter("centre") + codes @ self.get_parameter("steps")
        return torch.cat([free[:, :-1], free[:, -1:].clamp(min=0.0)], dim=1)

    def encode(self, designs: torch.Tensor) -> torch.Tensor:
        """Codes ``(n, dim)`` whose surfaces come nearest to those of Kulfan numbers ``(n, 18)``."""
        off = (designs - self.get_parameter("centre")) @ self.get_parameter("heights").T
        return off @ self.get_parameter("reader")

    def trace(self, codes: torch.Tensor) -> torch.Tensor:
        """Heights of the surfaces ``(n, 2, 201)`` of codes ``(n, dim)``."""
        return self._heights(self(codes))

    def read(self, heights: torch.Tensor) -> torch.Tensor:
        """Codes ``(n, dim)`` of heights ``(n, 2, 201)``."""
        off = heights.flatten(1) - self.get_parameter("centre") @ self.get_parameter("heights").T
        return off @ self.get_parameter("reader")

    def _heights(self, designs: torch.Tensor) -> torch.Tensor:
        return (designs @ self.get_parameter("heights").T).reshape(len(designs), 2, len(STATIONS))


class Realism:
    """How real Kulfan numbers look, in [0, 1]: see ``DesignRealism``. 0 where the surfaces cross.

    Args:
        modes: learned from other real airfoils than ``real``.
        measure: of their codes.
        real: held-out real airfoils, shape ``(k, 18)``.
    """

    def __init__(self, modes: Modes, measure: Measure, real: Array) -> None:
        self._ranked = DesignRealism(modes.read, modes.trace, measure, surfaces(real))

    def __call__(self, designs: ArrayLike) -> Array:
        rows = np.asarray(designs, dtype=float)
        plausible = self._ranked(surfaces(rows))
        plausible[crossing(rows) > CROSSING] = 0.0
        return plausible


@lru_cache(maxsize=4)
def latent(dim: int) -> Latent:
    """The leading components of four fifths of the real airfoils, with the measure of where these lie.

    Raises:
        InvalidInputError: no such number of components.
        MissingExtraError: aerosandbox is not installed.
    """
    taught = _parts()[0]
    return Latent(Modes(taught, dim), dim, data=taught)


@cache
def real_looking() -> Realism:
    """How real a design looks among the airfoils that no latent was learned from, whatever space it comes from."""
    taught, held_out = _parts()
    measure = latent(PUBLISHED_DIM).measure
    assert measure is not None
    return Realism(Modes(taught, PUBLISHED_DIM), measure, held_out)


def _parts() -> tuple[Array, Array]:
    """The airfoils that are learned from, and the others; drawn once and for all."""
    designs = wings()
    order = np.random.default_rng(np.random.SeedSequence(0)).permutation(len(designs))
    taught, held_out = np.split(order, [round(TAUGHT * len(designs))])
    return designs[taught], designs[held_out]


def wings() -> Array:
    """The real airfoils up to ``THICKEST``, shape ``(2143, 18)``."""
    designs = database().designs
    slender: Array = designs[thickness(designs) <= THICKEST]
    return slender


def kulfan_box() -> Box:
    """Each Kulfan number between the 1 % and the 99 % quantile of the real airfoils."""
    lower, upper = np.quantile(database().designs, _QUANTILES, axis=0).round(3)
    return Box(lower, upper, names=KULFAN)


class ModeBox(Box):
    """A box of codes: each of the leading components within so many standard deviations of the real airfoils.

    Args:
        dim: how many components, of all the airfoils up to ``THICKEST``.
        sigma: half the length of every edge.
        baseline: name of the real airfoil in the middle of the box; default: the mean of all is there.

    Raises:
        InvalidInputError: no such number of components, or no such airfoil.
    """

    def __init__(self, dim: int, sigma: float, baseline: str | None = None) -> None:
        self.modes = Modes(wings(), dim, None if baseline is None else database()[baseline])
        self._baseline = baseline
        super().__init__(
            [-sigma] * dim, [sigma] * dim, names=[f"mode{i}" for i in range(1, dim + 1)]
        )

    def decode(self, points: Array) -> Sequence[Design]:
        codes = torch.as_tensor(np.asarray(super().decode(points)))
        return cast("Sequence[Design]", self.modes(codes).numpy())

    def encode(self, designs: Sequence[Design]) -> Array:
        codes = self.modes.encode(torch.as_tensor(np.asarray(designs, dtype=float)))
        return super().encode(cast("Sequence[Design]", codes.numpy()))

    def decode_tensor(self, points: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.modes(super().decode_tensor(points))
        return made

    def to_json(self) -> JSON:
        return {
            **super().to_json(),
            **({} if self._baseline is None else {"baseline": self._baseline}),
        }


class Catalogue(Space):
    """The real airfoils themselves, by number: to screen them is what any search has to beat.

    Args:
        designs: shape ``(k, 18)``.
    """

    discrete = True

    def __init__(self, designs: Array) -> None:
        self.domain = box_domain({"airfoil": Int(0, len(designs) - 1)})
        self._designs = designs

    def decode(self, points: Array) -> Sequence[Design]:
        return cast("Sequence[Design]", self._designs[self._numbers(points)])

    @property
    def identify(self) -> Callable[[Array], list[str]] | None:
        """The airfoil's number."""
        return lambda points: [str(number) for number in self._numbers(points)]

    def _numbers(self, points: Array) -> list[int]:
        return [row["airfoil"] for row in self.domain.values(np.atleast_2d(points))]

    def to_json(self) -> JSON:
        return {"type": "catalogue", "domain": self.domain.to_json()}
