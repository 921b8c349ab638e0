"""A torch module as an oracle: batched, differentiable, never changed by being asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from bo_invert.errors import FailedError, InvalidInputError
from bo_invert.oracles.base import Oracle
from bo_invert.types import JSON

_lock = threading.Lock()
_asked: WeakKeyDictionary[torch.nn.Module, tuple[int, list[torch.nn.Module]]] = WeakKeyDictionary()


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode while any thread is inside; afterwards every submodule is in the mode it was in before."""
    with _lock:
        inside, training = _asked.get(module) or (
            0,
            [part for part in module.modules() if part.training],
        )
        for part in training:
            part.training = False
        _asked[module] = (inside + 1, training)
    try:
        yield
    finally:
        with _lock:
            inside, training = _asked.pop(module)
            if inside > 1:
                _asked[module] = (inside - 1, training)
            else:
                for part in training:
                    part.training = True


class TorchModule(Oracle):
    """A ``torch.nn.Module`` from a batch of designs ``(n, ...)`` to outputs ``(n, m)`` or ``(n,)``.

    It is asked in evaluation mode and left as it was found: mode, parameters and their ``.grad`` do not change.

    Args:
        module: the network. Designs arrive on its device and in its dtype; a module without parameters or buffers
            is a formula, and gets float64.
        outputs: names of the m outputs; needed when there are several.
        device: moves the module there first.

    Raises:
        InvalidInputError: ``module`` is no torch module.
    """

    batched = True
    differentiable = True

    def __init__(
        self,
        module: torch.nn.Module,
        outputs: Sequence[str] | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        if not isinstance(module, torch.nn.Module):
            raise InvalidInputError(
                f"TorchModule: expected a torch.nn.Module, got {type(module).__name__}"
            )
        self.module = module if device is None else module.to(device)
        self.outputs = None if outputs is None else tuple(outputs)
        self.device = device

    @property
    def placement(self) -> Mapping[str, Any]:
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            if tensor.is_floating_point():
                return {"device": tensor.device, "dtype": tensor.dtype}
        return {"device": torch.device(self.device or "cpu"), "dtype": torch.float64}

    def __call__(self, designs: Sequence[Any]) -> Any:
        with torch.no_grad():
            return self.forward(self._tensor(designs)).double().cpu().numpy()

    def forward(self, designs: torch.Tensor) -> torch.Tensor:
        with _evaluating(self.module):
            outputs = self.module(designs.to(**self.placement))
        if not isinstance(outputs, torch.Tensor):
            raise FailedError(
                f"{self._name} returned {type(outputs).__name__}, expected a tensor (n, m)"
            )
        if outputs.ndim == 1:
            outputs = outputs.unsqueeze(1)
        if outputs.ndim != 2 or len(outputs) != len(designs):
            raise FailedError(f"{self._name} answered {len(designs)} designs with shape {tuple(outputs.shape)}, "
                         "expected (n, m) or (n,)")  # fmt: skip
        return outputs

    def _tensor(self, designs: Sequence[Any] | torch.Tensor) -> torch.Tensor:
        if isinstance(designs, torch.Tensor):
            return designs
        if any(isinstance(design, Mapping) for design in designs):
            raise InvalidInputError(
                f"{self._name} takes tensors, and a design of this space is a dict of named parameters; wrap the "
                "module in a function that builds its input, or use Box(lower, upper)"
            )
        if all(isinstance(design, torch.Tensor) for design in designs):
            return torch.stack(list(designs))
        return torch.as_tensor(np.asarray(designs))

    @property
    def _name(self) -> str:
        return type(self.module).__name__

    @property
    def inside(self) -> Any:
        return self.module

    def to_json(self) -> JSON:
        return {"type": "torch", "name": self._name}
