"""Adapters of user-defined encoders and decoders: torch modules or functions, called on arrays."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.errors import InvalidInputError
from bo_invert.hashing import Digest, digest
from bo_invert.types import Array, Designs
from bo_invert.user_code import UserFunction, torch_module, user_settings
from bo_invert.user_tables import table

if TYPE_CHECKING:
    import torch

# Engineering choice: rows per forward pass; bounds the memory.
_CHUNK = 1024


def is_module(network: object) -> bool:
    """Check for a torch module, or a method of one, that maps tensors to tensors.

    A module with ``differentiable = False``, such as a decoder to SMILES, counts as a plain
    callable.
    """
    # Compare class names, so that torch is not imported for other callables.
    owner = getattr(network, "__self__", network)
    return getattr(owner, "differentiable", True) is not False and any(
        c.__module__.startswith("torch.nn.") and c.__name__ == "Module" for c in type(owner).__mro__
    )


def as_function(
    network: object, who: str, device: str | torch.device | None = None
) -> Frozen | UserFunction[Any]:
    """Return ``network`` as a function on batches; a torch module then maps arrays to arrays.

    The function never changes its argument, even if the network works in place.

    Args:
        network: a ``torch.nn.Module``, a method of one, or any callable on a batch.
        who: role of the network in messages.
        device: device of a torch module; default: that of its parameters.

    Raises:
        InvalidInputError: ``network`` is not callable, or the module cannot be copied.
    """
    if is_module(network):
        return Frozen(network, who, device)
    if not callable(network):
        raise InvalidInputError(
            f"{who} must be a torch module or a callable on batches, got {type(network).__name__}"
        )
    return UserFunction(network)


class Frozen:
    """Torch module in evaluation mode with frozen parameters.

    The structure is a copy that shares the memory of parameters and buffers. Mode,
    ``requires_grad`` flags and gradients of the user's module stay unchanged. Threads may call the
    copy concurrently.

    Args:
        network: a ``torch.nn.Module`` or a method of one (``vae.decode``).
        who: role of the network in messages.
        device: device to run on; default: that of the parameters. Moving copies the parameters.

    Raises:
        InvalidInputError: the module cannot be copied.
    """

    def __init__(self, network: Any, who: str, device: str | torch.device | None = None) -> None:
        import torch

        self.who = who
        owner = getattr(network, "__self__", network)
        self.method = "__call__" if owner is network else network.__name__
        # deepcopy takes objects in this memo as copied already, so that tensors share memory.
        # Tensors of inference mode cannot take part in gradients, so these are copied.
        shared: dict[int, Any] = {
            id(b): b.clone() if b.is_inference() else b for b in owner.buffers()
        }
        shared |= {
            id(p): torch.nn.Parameter(p.clone() if p.is_inference() else p.detach(), False)
            for p in owner.parameters()
        }
        try:
            self.module = copy.deepcopy(owner, shared)
        except Exception as error:
            raise InvalidInputError(
                f"{who}: {type(owner).__name__} cannot be copied ({error}). Remove non-leaf "
                "tensors and handles from its attributes."
            ) from None
        # The copied parameters are new objects: these calls leave the user's module unchanged.
        self.module.eval().requires_grad_(False)
        if device is not None:
            self.module.to(device)
        first = next(self.module.parameters(), None)
        self.device = (
            torch.device("cpu" if device is None else device) if first is None else first.device
        )
        self.dtype = torch.get_default_dtype() if first is None else first.dtype

    def digest(self) -> Digest | None:
        """Return the digest of the module or of its method."""
        return digest(
            self.module if self.method == "__call__" else getattr(self.module, self.method)
        )

    def tensor(self, batch: torch.Tensor) -> torch.Tensor:
        """Apply the module to a batch ``(n, ...)``, with gradients; keep its device and dtype.

        If the module returns a tuple or list, such as (mean, log variance), the first element is
        the output.

        Raises:
            InvalidInputError: the output is not a tensor with the batch as its first axis.
        """
        import torch

        with user_settings(modes=False):  # a copy: the module may work in place
            out = getattr(self.module, self.method)(batch.to(self.device, self.dtype, copy=True))
        if isinstance(out, (tuple, list)) and out:
            out = out[0]
        if not isinstance(out, torch.Tensor) or out.ndim == 0 or len(out) != len(batch):
            shape = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
            raise InvalidInputError(
                f"{self.who} must return a tensor of shape ({len(batch)}, ...) for a batch of "
                f"shape {tuple(batch.shape)}, got {shape}"
            )
        return out.to(batch.device, batch.dtype)

    def passes_gradients(self, codes: Array) -> bool:
        """Call the module with codes ``(n, dim)``; return True if its output has a gradient."""
        torch = torch_module()
        # Gradients forbid some operations, such as a conversion to numpy.
        with suppress(Exception), torch.enable_grad():
            return bool(self.tensor(torch.from_numpy(codes).requires_grad_()).requires_grad)
        return False

    def __call__(self, batch: ArrayLike) -> np.ndarray[Any, Any]:
        """Apply the module to a batch ``(n, ...)``; return a float64 array ``(n, ...)``."""
        import torch

        rows = np.asarray(batch)
        # max(len(rows), 1): an empty batch also runs once, which gives the shape of the output.
        with torch.no_grad():
            chunks = [
                self.tensor(torch.tensor(rows[i : i + _CHUNK]).to(self.device, self.dtype))
                .cpu()
                .double()
                for i in range(0, max(len(rows), 1), _CHUNK)
            ]
        return torch.cat(chunks).numpy()


def checked_length(designs: Designs, n: int, who: str) -> Sequence[Any]:
    """Return ``designs`` after checking that it has length n; a data frame as a list of dicts.

    Raises:
        InvalidInputError: it is not a sequence, or has another length.
    """
    sized = hasattr(designs, "__len__") and getattr(designs, "shape", None) != ()
    if not sized or len(designs) != n:
        found = f"length {len(designs)}" if sized else type(designs).__name__
        raise InvalidInputError(
            f"{who} must return one result per row, got {found} for a batch of {n}"
        )
    rows = table(designs) if hasattr(designs, "columns") else None  # a data frame
    return cast("Sequence[Any]", designs if rows is None else rows)
