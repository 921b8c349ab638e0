"""Noise of the inputs: deviations of manufactured designs from the proposed ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bo_invert.domains.parameters import Float
from bo_invert.domains.reference_measure import normal_quantiles
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError
from bo_invert.types import JSON, Array
from bo_invert.user_data import real

KINDS = ("normal", "uniform")
"""Distributions of a deviation: N(0, size^2), or uniform between minus and plus the size."""


@dataclass(frozen=True)
class Deviation:
    """Deviation of one parameter.

    Args:
        kind: One of ``KINDS``.
        size: Standard deviation, or half-width; in the units of the parameter, or of a latent.
    """

    kind: str
    size: float


@dataclass(frozen=True)
class InputNoise:
    """Independent deviations of the parameters of a design.

    Args:
        deviations: Deviation of each noisy parameter by name, or of all coordinates of a latent by
            the name ``""``.
    """

    deviations: Mapping[str, Deviation]

    @staticmethod
    def read(given: object, domain: Domain) -> InputNoise | None:
        """Return the noise of an argument of the user; None without noise.

        Args:
            given: Sizes by name, or one size of all real parameters. A size is a standard
                deviation, or ``("uniform", half-width)``.
            domain: Search domain.

        Raises:
            InvalidInputError: A name or a size is invalid.
        """
        if given is None or isinstance(given, InputNoise):
            return given
        real_names = [name for name, p in domain.parameters.items() if isinstance(p, Float)]
        if not isinstance(given, Mapping):
            names = real_names if domain.parameters else [""]
            given = dict.fromkeys(names, given)
            if not names:
                raise InvalidInputError(
                    "Problem: input_noise needs a real parameter, and all are integers or choices"
                )
        elif domain.latent and set(given) != {""}:
            raise InvalidInputError(
                f"Problem: input_noise of a latent must be one number, got {dict(given)!r:.200}"
            )
        unknown = set(given) - set(real_names) - ({""} if domain.latent else set())
        if unknown:
            raise InvalidInputError(
                f"Problem: input_noise must name real parameters among {real_names}, got "
                f"{sorted(map(str, unknown))}"
            )
        read = {str(name): _deviation(str(name), size) for name, size in given.items()}
        return InputNoise({name: one for name, one in read.items() if one.size > 0.0} or {})

    def __bool__(self) -> bool:
        return bool(self.deviations)

    def columns(self, domain: Domain) -> list[int]:
        """Return the noisy coordinates."""
        if domain.latent:
            return list(range(domain.dim))
        return [domain.columns[name].start for name in self.deviations]

    def moved(self, domain: Domain, points: Array, uniform: Array) -> Array:
        """Return manufactured points ``(n, s, d)`` of proposed points ``(n, d)``.

        They do not leave the range of a parameter: a value beyond its end is that end.

        Args:
            domain: Search domain.
            points: Proposed points.
            uniform: Uniform numbers in (0, 1), one for each noisy coordinate, shape ``(s, q)``.
        """
        moved = np.repeat(points[:, None], len(uniform), axis=1)
        for position, column in enumerate(self.columns(domain)):
            name = "" if domain.latent else list(self.deviations)[position]
            change = _quantile(self.deviations[name], uniform[:, position])
            if domain.latent:
                moved[..., column] += change
                continue
            parameter = domain.parameters[name]
            assert isinstance(parameter, Float)
            low, high = parameter.edges()
            if parameter.log:
                value = np.exp(low + points[:, None, column] * (high - low)) + change
                own = (np.log(value.clip(parameter.low, parameter.high)) - low) / (high - low)
            else:
                own = points[:, None, column] + change / (high - low)
            # Choices that exclude a parameter have no deviation of it.
            moved[..., column] = own.clip(0.0, 1.0)
        inactive = domain.inactive(points) if domain.conditional else None
        if inactive is not None:
            moved = np.where(inactive[:, None], points[:, None], moved)
        return np.asarray(moved)

    def to_json(self) -> JSON:
        """Return the JSON form, which ``read`` accepts."""
        found = {
            name: one.size if one.kind == "normal" else [one.kind, one.size]
            for name, one in self.deviations.items()
        }
        return found.get("") if set(found) == {""} else found


def _quantile(deviation: Deviation, uniform: Array) -> Array:
    if deviation.kind == "uniform":
        return (2.0 * uniform - 1.0) * deviation.size
    return np.asarray(normal_quantiles(uniform) * deviation.size)


def _deviation(name: str, given: object) -> Deviation:
    """Return a deviation of a number, or of a pair of kind and size."""
    kind, where = "normal", "Problem"
    what = f"input_noise of {name!r}" if name else "input_noise"
    if isinstance(given, (tuple, list)):
        if len(given) != 2 or given[0] not in KINDS:
            raise InvalidInputError(
                f"{where}: {what} must be a number, or ('uniform', half-width), got {given!r:.200}"
            )
        kind, given = given
    size = real(where, what, given)
    if size < 0.0:
        raise InvalidInputError(f"{where}: {what} must be >= 0, got {size!r}")
    return Deviation(kind, size)
