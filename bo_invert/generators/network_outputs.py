"""Outputs of networks of users: the design or the code in tuples, records and distributions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.user_tables import record

UserData: TypeAlias = Any
"""Input or output of a network of a user: an array, a tensor, or any other object."""
Path: TypeAlias = tuple[int | str, ...]
"""Place of an array in an output: positions, keys and names of attributes."""

_MEAN = "mean", "mu", "z_mean", "loc", "embedding", "codes", "code", "latents", "latent", "z"
"""Keys of a code in a record, best first."""
_DESIGN = (
    "reconstruction", "recon_x", "recon", "x_recon", "x_hat", "sample", "samples", "image",
    "images", "output", "x", "mean", "mu",
)  # fmt: skip
"""Keys of a design in a record, best first."""
# Relative difference of two equal calls that is rounding. Engineering choice: devices reorder sums.
_ROUNDING = 1e-3


def is_array(value: object) -> bool:
    """Return True for an array or tensor of any library."""
    return hasattr(value, "shape") and (hasattr(value, "__array__") or hasattr(value, "detach"))


def at(output: UserData, path: Path) -> UserData:
    """Return the part of an output at a path."""
    for step in path:
        if isinstance(output, Mapping) or isinstance(step, int):
            output = output[step]
        else:
            found = getattr(output, str(step))
            output = found() if callable(found) and not is_array(found) else found
    return output


def _arrays(output: object, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the arrays in an output with their paths; a distribution is its mean."""
    if is_array(output):
        yield path, output
    elif hasattr(output, "log_prob") and hasattr(output, "mean"):
        yield (*path, "mean"), at(output, ("mean",))
    elif isinstance(output, (tuple, list)) and not hasattr(output, "_fields"):
        for position, part in enumerate(output):
            yield from _arrays(part, (*path, position))
    elif hasattr(output, "mode") and hasattr(output, "sample"):  # a posterior of diffusers
        step = "mean" if is_array(getattr(output, "mean", None)) else "mode"
        yield (*path, step), at(output, (step,))
    elif len(path) < 3:
        for name, part in (record(output) or {}).items():
            yield from _arrays(part, (*path, name))


def _named_first(found: list[tuple[Path, Any]], names: tuple[str, ...]) -> list[tuple[Path, Any]]:
    """Sort arrays by the place of their keys in a list of names; others keep their order."""

    def place(one: tuple[Path, Any]) -> int:
        keys = [step for step in one[0] if isinstance(step, str)]
        return min((names.index(key) for key in keys if key in names), default=len(names))

    return sorted(found, key=place)


def design_path(output: object, count: int) -> Path:
    """Return the path of the designs in the output of a decoder for ``count`` codes.

    A tuple or list such as (design, log variance) holds the designs first, a record under a usual
    key, and a distribution has its mean. A list of ``count`` designs is none of these.
    """
    if is_array(output) or (isinstance(output, list) and len(output) == count):
        return ()
    arrays = [one for one in _arrays(output) if len(one[1].shape) and one[1].shape[0] == count]
    found = _named_first(arrays, _DESIGN)
    return found[0][0] if found else ()


def code_path(
    output: object, again: Callable[[], object], count: int, dim: int, *, alone: bool
) -> Path:
    """Return the path of the codes in the output of an encoder.

    Arrays of ``dim`` numbers per design count, or of ``2 dim`` (mean and log variance). Of several,
    such as (z, mean, log variance), the first one counts that does not change in a second call.

    Args:
        output: output for the designs.
        again: second call of the encoder with the first designs.
        count: number of designs.
        dim: length of a code.
        alone: a single array must not change, too.

    Raises:
        InvalidInputError: there is none, or all of them change.
    """
    arrays = list(_arrays(output))
    if not any(array.shape[:1] == (count,) for _, array in arrays):
        # Rows of numbers, a table, or a wrong number of rows, which the caller reports.
        return ()
    fitting = [
        (path, array)
        for path, array in _named_first(arrays, _MEAN)
        if array.shape[:1] == (count,) and _width(array) in (dim, 2 * dim)
    ]
    if not fitting:
        shapes = [tuple(array.shape) for _, array in arrays]
        raise InvalidInputError(
            f"Latent: codes from the encoder must have shape ({count}, {dim}), got "
            f"{', '.join(map(str, shapes))}. Pass encoder=..., a function "
            "from designs to the means of their codes."
        )
    if len(fitting) == 1 and not alone:
        return fitting[0][0]
    second = again()
    for path, array in fitting:
        same = at(second, path)
        if _equal(array, same):
            return path
    raise InvalidInputError(
        "Latent: the encoder returns other codes for the same designs. Pass a function that "
        "returns the mean of the code instead of a random draw, for example "
        "encoder=lambda x: vae.encode(x)[0]."
    )


def means(array: np.ndarray[Any, Any], dim: int) -> np.ndarray[Any, Any]:
    """Return codes ``(n, dim)`` of an array ``(n, ...)`` of codes, or of means and variances."""
    return array.reshape(len(array), -1)[:, :dim]


def as_array(output: object) -> object:
    """Return an array or tensor of another library as a numpy array; others as they are."""
    if isinstance(output, np.ndarray) or not is_array(output):
        return output
    there: Any = output
    if hasattr(there, "detach"):  # torch
        there = there.detach().cpu()
        return np.asarray(there.double() if there.is_floating_point() else there)
    return np.asarray(there)


def _width(array: UserData) -> int:
    return math.prod(array.shape[1:])


def same_entries(one: Sequence[int], other: Sequence[int]) -> bool:
    """Return True if two shapes differ in axes of length 1 only, or one of them is flat."""
    squeezed = [tuple(n for n in shape if n != 1) for shape in (one, other)]
    flat = min(len(squeezed[0]), len(squeezed[1])) <= 1
    return math.prod(one) == math.prod(other) and (flat or squeezed[0] == squeezed[1])


def _equal(one: object, other: object) -> bool:
    arrays = (np.asarray(as_array(part), dtype=np.float64) for part in (one, other))
    first, second = map(np.nan_to_num, arrays)
    first = first[: len(second)]
    scale = max(float(np.abs(first).max(initial=0.0)), 1e-300)
    return first.shape == second.shape and float(np.abs(first - second).max()) <= _ROUNDING * scale
