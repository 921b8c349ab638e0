"""Adapters of user-defined encoders and decoders: torch modules or functions, called on arrays."""

from __future__ import annotations

import copy
import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.errors import InvalidInputError
from bo_invert.generators.network_outputs import Path, UserData, as_array, at, is_array
from bo_invert.hashing import Digest, digest, is_torch_module
from bo_invert.types import Array, Designs
from bo_invert.user_code import (
    UserFunction,
    evaluating,
    torch_module,
    usable_device,
    user_settings,
)
from bo_invert.user_tables import table

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Engineering choice: rows per forward pass; bounds the memory.
_CHUNK = 1024


def is_module(network: object) -> bool:
    """Check for a torch module, or a method of one, that maps tensors to tensors.

    A module with ``differentiable = False``, such as a decoder to SMILES, counts as a plain
    callable.
    """
    owner = getattr(network, "__self__", network)
    return getattr(owner, "differentiable", True) is not False and is_torch_module(owner)


def as_function(
    network: object, who: str, device: str | torch.device | None = None
) -> Frozen | ClosedFunction | PlainFunction:
    """Return ``network`` as a function on batches; a torch module then maps arrays to arrays.

    The function never changes its argument, even if the network works in place.

    Args:
        network: a ``torch.nn.Module``, a method of one, or any callable on a batch.
        who: role of the network in messages.
        device: device of a torch module; default: that of its parameters.

    Raises:
        InvalidInputError: ``network`` is not callable, the module cannot be copied, or there is no
            such device.
    """
    if any(one.__name__ == "ScriptModule" for one in type(network).__mro__):
        return ClosedFunction(cast("Callable[..., Any]", network), who)  # cannot be copied
    if is_module(network):
        return Frozen(network, who, device)
    if not callable(network):
        raise InvalidInputError(
            f"{who} must be a torch module or a callable on batches, got {type(network).__name__}"
        )
    return PlainFunction(network)


@dataclass(frozen=True)
class PlainFunction(UserFunction[Any]):
    """Callable on numpy batches; arrays of other libraries become numpy arrays.

    Args:
        path: place of the result in the output.
        shape: shape of a row that the callable receives; None for that of the batch.
    """

    path: Path = ()
    shape: tuple[int, ...] | None = None

    def raw(self, batch: UserData) -> UserData:
        """Return the output of the callable for a batch of n rows.

        Torch modules that it refers to are in evaluation mode.
        """
        with ExitStack() as stack:
            for module in modules_in(self.fn):
                stack.enter_context(evaluating(module))
            return super().__call__(shaped(batch, self.shape))

    def __call__(self, *args: UserData) -> UserData:
        return as_array(at(self.raw(args[0]), self.path))

    def at(self, path: Path, shape: tuple[int, ...] | None) -> PlainFunction:
        """Return this function with another path of the result and shape of a row."""
        return PlainFunction(self.fn, path, shape)

    def digest(self) -> Digest | None:
        """Return the digest of the callable."""
        return digest(self.fn)


class TorchFunction(ABC):
    """Function from tensors to tensors, called on arrays or on tensors with gradients.

    Args:
        who: role of the network in messages.
        device: device of its inputs.
        dtype: type of its inputs.
    """

    path: Path = ()
    """Place of the result in the output. A tuple or list without a path has it first."""
    shape: tuple[int, ...] | None = None
    """Shape of a row that the network receives; None for that of the batch."""

    def __init__(self, who: str, device: torch.device, dtype: torch.dtype) -> None:
        self.who, self.device, self.dtype = who, device, dtype

    @abstractmethod
    def run(self, batch: torch.Tensor) -> UserData:
        """Call the network with a batch that it may change."""

    @abstractmethod
    def digest(self) -> Digest | None:
        """Return the digest of the network."""

    def at(self, path: Path, shape: tuple[int, ...] | None) -> Self:
        """Return this function with another path of the result and shape of a row."""
        made = copy.copy(self)
        made.path, made.shape = path, shape
        return made

    def raw(self, batch: UserData) -> UserData:
        """Return the output of the network for a batch of n rows, without gradients."""
        torch = torch_module()
        rows = batch if isinstance(batch, torch.Tensor) else torch.tensor(np.asarray(batch))
        with torch.no_grad(), user_settings(modes=False):
            return self.run(shaped(rows, self.shape).to(self.device, self.dtype, copy=True))

    def tensor(self, batch: torch.Tensor) -> torch.Tensor:
        """Apply the network to a batch ``(n, ...)``, with gradients; keep its device and dtype.

        Raises:
            InvalidInputError: the output is not a tensor with the batch as its first axis.
        """
        torch = torch_module()
        with user_settings(modes=False):  # a copy: the network may work in place
            rows = shaped(batch, self.shape).to(self.device, self.dtype, copy=True)
            out = at(self.run(rows), self.path)
        if not self.path and isinstance(out, (tuple, list)) and out:
            out = out[0]
        if isinstance(out, np.ndarray):
            out = torch.from_numpy(out)
        if not isinstance(out, torch.Tensor) or out.ndim == 0 or len(out) != len(batch):
            shape = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
            raise InvalidInputError(
                f"{self.who} must return a tensor of shape ({len(batch)}, ...) for a batch of "
                f"shape {tuple(batch.shape)}, got {shape}"
            )
        made: Tensor = out.to(batch.device, batch.dtype)
        return made

    def passes_gradients(self, codes: Array) -> bool:
        """Call the network with codes ``(n, dim)``; return True if its output has a gradient."""
        torch = torch_module()
        # Gradients forbid some operations, such as a conversion to numpy.
        with suppress(Exception), torch.enable_grad():
            return bool(self.tensor(torch.from_numpy(codes).requires_grad_()).requires_grad)
        return False

    def __call__(self, batch: ArrayLike) -> np.ndarray[Any, Any]:
        """Apply the network to a batch ``(n, ...)``; return a float64 array ``(n, ...)``."""
        torch = torch_module()
        rows = np.asarray(batch)
        # max(len(rows), 1): an empty batch also runs once, which gives the shape of the output.
        with torch.no_grad():
            chunks = [
                self.tensor(torch.tensor(rows[i : i + _CHUNK]).to(self.device, self.dtype))
                .cpu()
                .double()
                for i in range(0, max(len(rows), 1), _CHUNK)
            ]
        made: np.ndarray[Any, Any] = torch.cat(chunks).numpy()
        return made


class Frozen(TorchFunction):
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
            self.module.to(usable_device(who.partition(":")[0], device))
        first = next(self.module.parameters(), None)
        super().__init__(
            who,
            torch.device("cpu" if device is None else device) if first is None else first.device,
            torch.get_default_dtype() if first is None else first.dtype,
        )

    def digest(self) -> Digest | None:
        """Return the digest of the module or of its method."""
        return digest(
            self.module if self.method == "__call__" else getattr(self.module, self.method)
        )

    def run(self, batch: torch.Tensor) -> UserData:
        return getattr(self.module, self.method)(batch)


class ClosedFunction(TorchFunction):
    """Callable of the user on tensors, such as ``lambda z: vae.decode(z).sigmoid()``.

    Torch modules in its closure, arguments and global names are in evaluation mode and without
    gradients of their parameters during a call. They set device and dtype; without any, inputs are
    in single precision on the CPU.

    Args:
        fn: callable on tensors.
        who: role of the callable in messages.
    """

    def __init__(self, fn: Callable[..., Any], who: str) -> None:
        torch = torch_module()
        self.fn = fn
        self.modules = list(modules_in(fn))
        first = next((p for module in self.modules for p in module.parameters()), None)
        super().__init__(
            who,
            torch.device("cpu") if first is None else first.device,
            torch.float32 if first is None else first.dtype,
        )

    def digest(self) -> Digest | None:
        return digest(self.fn)

    def run(self, batch: torch.Tensor) -> UserData:
        with ExitStack() as stack:
            for module in self.modules:
                stack.enter_context(evaluating(module, frozen=True))
            return self.fn(batch)


def modules_in(fn: object, depth: int = 2) -> Iterator[torch.nn.Module]:
    """Yield the torch modules that a function refers to: by closure, names, arguments or object."""
    if is_torch_module(fn):
        yield fn
        return
    if depth == 0:
        return
    parts: list[object] = []
    if isinstance(fn, functools.partial):
        parts += [fn.func, *fn.args, *fn.keywords.values()]
    elif inspect.ismethod(fn):
        parts += [fn.__self__, fn.__func__]
    elif inspect.isfunction(fn):
        names = inspect.getclosurevars(fn)
        parts += [*names.nonlocals.values(), *names.globals.values(), *(fn.__defaults__ or ())]
    elif type(fn).__module__ != "builtins" and not inspect.ismodule(fn):
        parts += list(getattr(fn, "__dict__", {}).values()) if not isinstance(fn, type) else []
    for part in parts:
        yield from modules_in(part, depth - 1)


def shaped(batch: UserData, shape: tuple[int, ...] | None) -> UserData:
    """Return a batch of n rows with another shape of a row; None leaves it as it is."""
    if shape is None:
        return batch
    rows = batch if is_array(batch) else np.asarray(batch)
    return rows.reshape(len(rows), *shape)


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
