"""Somebody else's encoder or decoder, called on arrays and left as it was: a torch module or a plain function."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.hashing import Digest, digest

if TYPE_CHECKING:
    import torch

_CHUNK = 1024


def is_module(network: Any) -> bool:
    """Whether it is a torch module from tensors to tensors, or a method of one.

    It is asked by name, so that torch is not imported for the rest. A module that says ``differentiable = False`` (it
    makes molecules, say) is a plain callable.
    """
    owner = getattr(network, "__self__", network)
    if getattr(owner, "differentiable", True) is False:
        return False
    return any(
        c.__module__.startswith("torch.nn.") and c.__name__ == "Module" for c in type(owner).__mro__
    )


def as_function(network: Any, who: str, device: Any = None) -> Callable[[Any], Any]:
    """``network`` as a function from a batch to a batch; arrays in and out where it is a torch module.

    Args:
        network: a ``torch.nn.Module``, a method of one, or any callable on a batch.
        who: its role, for messages.
        device: where a torch module shall run; default: where its parameters are.

    Raises:
        InvalidInputError: it cannot be called, or the module cannot be frozen.
    """
    if is_module(network):
        return Frozen(network, who, device)
    if not callable(network):
        raise InvalidInputError(
            f"{who} must be a torch module or a callable on a batch, got {type(network).__name__}"
        )
    function: Callable[[Any], Any] = network
    return function


class Frozen:
    """A torch module in evaluation mode whose parameters take no gradients.

    It is a copy of the module's structure that shares the parameters' memory: the user's module keeps its mode, its
    ``requires_grad`` flags and its gradients, and threads may call the copy at the same time.

    Args:
        network: a ``torch.nn.Module`` or a method of one (``vae.decode``).
        who: its role, for messages.
        device: where to run; default: where the parameters are. Moving copies the parameters.

    Raises:
        InvalidInputError: the module cannot be copied.
    """

    def __init__(self, network: Any, who: str, device: Any = None) -> None:
        import torch

        self.who = who
        owner = getattr(network, "__self__", network)
        self.method = "__call__" if owner is network else network.__name__
        shared: dict[int, Any] = {
            id(p): torch.nn.Parameter(p.detach(), False) for p in owner.parameters()
        }
        shared.update({id(b): b for b in owner.buffers()})
        try:
            self.module = copy.deepcopy(owner, shared)
        except Exception as error:
            raise InvalidInputError(
                f"{who}: {type(owner).__name__} cannot be copied ({error}); pass a module without live tensors or "
                "handles among its attributes"
            ) from None
        self.module.eval().requires_grad_(False)
        if device is not None:
            self.module.to(device)
        first = next(self.module.parameters(), None)
        self.device = (
            torch.device("cpu" if device is None else device) if first is None else first.device
        )
        self.dtype = torch.get_default_dtype() if first is None else first.dtype

    def digest(self) -> Digest | None:
        """sha256 of the module, and of which method of it."""
        return digest(
            self.module if self.method == "__call__" else getattr(self.module, self.method)
        )

    def tensor(self, batch: torch.Tensor) -> torch.Tensor:
        """Output of a batch ``(n, ...)``, shape ``(n, ...)``, gradients flowing to ``batch``; its device and dtype.

        Of a tuple or list (mean and log variance, say) the first member is taken.

        Raises:
            InvalidInputError: the output is no tensor whose first axis is the batch.
        """
        import torch

        out = getattr(self.module, self.method)(batch.to(self.device, self.dtype))
        if isinstance(out, (tuple, list)) and out:
            out = out[0]
        if not isinstance(out, torch.Tensor) or out.ndim == 0 or len(out) != len(batch):
            shape = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
            raise InvalidInputError(
                f"{self.who} turned a batch of shape {tuple(batch.shape)} into {shape}; it must return a tensor with "
                f"{len(batch)} as its first axis"
            )
        return out.to(batch.device, batch.dtype)

    def __call__(self, batch: Any) -> np.ndarray[Any, Any]:
        """Output of a batch ``(n, ...)`` as a float64 array."""
        import torch

        rows = np.asarray(batch)
        with torch.no_grad():
            chunks = [
                self.tensor(torch.tensor(rows[i : i + _CHUNK]).to(self.device, self.dtype))
                .cpu()
                .double()
                for i in range(0, max(len(rows), 1), _CHUNK)
            ]
        return torch.cat(chunks).numpy()


def checked_length(designs: Any, n: int, who: str) -> Sequence[Any]:
    """``designs`` if there are n of them.

    Raises:
        InvalidInputError: there are not, or they are no sequence.
    """
    sized = hasattr(designs, "__len__") and getattr(designs, "shape", None) != ()
    if not sized or len(designs) != n:
        found = f"{len(designs)} results" if sized else type(designs).__name__
        raise InvalidInputError(
            f"{who} turned a batch of {n} into {found}; it must return one result per row"
        )
    return designs  # type: ignore[no-any-return]
