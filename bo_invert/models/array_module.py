"""Formulas for numpy arrays and torch tensors alike.

An operation on a small tensor takes several times as long as on a small array, because of its
dispatch. Surrogates on the CPU therefore compute in numpy, those on a GPU in torch. A function that
takes its operations from ``array_module`` has one formula for both.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import scipy.special
import torch
from numpy.typing import NDArray
from torch import Tensor

from bo_invert.types import Array

A = TypeVar("A", NDArray[Any], Tensor)
"""Array of numpy, or tensor of torch."""


def array_module(like: Array | Tensor) -> ModuleType:
    """Return ``numpy`` for arrays and ``torch`` for tensors; equal names mean equal operations."""
    return np if isinstance(like, np.ndarray) else torch


def special_module(like: Array | Tensor) -> ModuleType:
    """Return the module of ``erfcx``, ``ndtr`` and ``log_ndtr`` for arrays or tensors."""
    module: ModuleType = scipy.special if isinstance(like, np.ndarray) else torch.special
    return module


def as_array(values: Array | Tensor) -> Array:
    """Return values as an array, which shares the memory of a tensor on the CPU."""
    return values if isinstance(values, np.ndarray) else np.asarray(values.detach().cpu().numpy())


def matching(constant: Array, like: A) -> A:
    """Return a constant as an array or tensor, with the device and precision of ``like``."""
    if isinstance(like, np.ndarray):
        return constant
    return torch.as_tensor(constant).to(like)


def clamp(values: A, lower: A | float, upper: A | float) -> A:
    """Clamp values ``(...)`` between bounds that broadcast to them."""
    if isinstance(values, np.ndarray):
        # np.clip takes twice as long for small arrays.
        return np.asarray(np.minimum(np.maximum(values, lower), upper))
    return torch.clamp(values, lower, upper)  # type: ignore[arg-type]  # numbers and tensors


def clamp_below_(values: A, lower: float) -> A:
    """Raise values to a lower bound in place."""
    if isinstance(values, np.ndarray):
        return np.asarray(np.maximum(values, lower, out=values))
    return values.clamp_(min=lower)


def add_product(values: A, left: A, right: A, scale: float = 1.0) -> A:
    """Return values + scale * left * right."""
    if isinstance(values, np.ndarray):
        return np.asarray(values + left * right if scale == 1.0 else values + scale * left * right)
    return torch.addcmul(values, left, right, value=scale)


def subtract_product_(values: A, left: A, right: A) -> None:
    """Subtract left * right from values in place."""
    if isinstance(values, np.ndarray):
        values -= left * right
    else:
        values.addcmul_(left, right, value=-1.0)


def cosine(values: A) -> A:
    """Return cos(values)."""
    # In double precision numpy has no vector instructions for it and takes five times as long.
    return (
        as_array(torch.cos(torch.as_tensor(values)))
        if isinstance(values, np.ndarray)
        else values.cos()
    )


def sine(values: A) -> A:
    """Return sin(values)."""
    return (
        as_array(torch.sin(torch.as_tensor(values)))
        if isinstance(values, np.ndarray)
        else values.sin()
    )


def row_products(left: A, right: A) -> A:
    """Return the inner product of each row, shape ``(n, 1)``, whatever the number of rows."""
    if isinstance(left, np.ndarray):
        return np.asarray((left[:, None] @ right[..., None])[..., 0])
    return (left * right).sum(-1, keepdim=True)


def fill_diagonal_(matrices: A, values: A | float) -> None:
    """Set the diagonals of matrices ``(..., n, n)`` in place."""
    if isinstance(matrices, np.ndarray):
        np.einsum("...ii->...i", matrices)[...] = values
    else:
        diagonal(matrices).copy_(torch.as_tensor(values))


def diagonal(matrices: A) -> A:
    """Return a view of the diagonals ``(..., n)`` of matrices ``(..., n, n)``."""
    if isinstance(matrices, np.ndarray):
        return np.asarray(np.einsum("...ii->...i", matrices))
    return matrices.diagonal(dim1=-2, dim2=-1)


def positions(mask: A) -> A:
    """Return the positions ``(m,)`` where a mask ``(n,)`` is true."""
    if isinstance(mask, np.ndarray):
        return np.flatnonzero(mask)
    return mask.nonzero().squeeze(-1)


def on_host(values: Array | Tensor) -> bool:
    """Return True unless the values are on another device, which must not be waited for."""
    return isinstance(values, np.ndarray) or values.device.type == "cpu"
