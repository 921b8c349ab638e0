"""Torch module as a batched, differentiable oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.func import functional_call

from bo_invert.errors import FailedError, require
from bo_invert.oracles.base import MISMATCH, Oracle, RawOutputs
from bo_invert.oracles.gradient_flow import passes_gradients
from bo_invert.types import JSON, Array, Design
from bo_invert.user_code import evaluating, usable_device
from bo_invert.user_tables import record


def _normal_tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of parameters and buffers made in inference mode, which gradients refuse."""
    if not torch.is_grad_enabled():
        return {}
    named = (*module.named_parameters(), *module.named_buffers())
    return {name: tensor.clone() for name, tensor in named if tensor.is_inference()}


class TorchModule(Oracle):
    """Oracle that calls a ``torch.nn.Module`` from ``(n, ...)`` to ``(n, m)`` or ``(n,)``.

    The module may also return a dict or another record of such tensors, which are matched by name,
    or a tuple or list of them. Calls use evaluation mode. Mode, parameters and their ``.grad`` do
    not change.

    Args:
        module: module to call. Designs have its device and dtype, or float64 if it has no
            parameters and buffers.
        outputs: names of the m outputs; required if m > 1.
        device: device to move the module to.

    Raises:
        InvalidInputError: ``module`` is not a torch module.
    """

    batched = True
    differentiable = True

    def __init__(
        self,
        module: torch.nn.Module,
        outputs: Sequence[str] | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        require(
            isinstance(module, torch.nn.Module),
            f"TorchModule: module must be a torch.nn.Module, got {type(module).__name__}",
        )
        self.module = module if device is None else module.to(usable_device("TorchModule", device))
        self.outputs = None if outputs is None else tuple(outputs)
        self.device = device

    @property
    def placement(self) -> Mapping[str, Any]:
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            if tensor.is_floating_point():
                return {"device": tensor.device, "dtype": tensor.dtype}
        return {"device": torch.device(self.device or "cpu"), "dtype": torch.float64}

    def passes_gradients(
        self, points: Array, decode: Callable[[torch.Tensor], torch.Tensor]
    ) -> bool:
        dtype = self.placement["dtype"]
        return passes_gradients(self.module, lambda: decode(torch.from_numpy(points).to(dtype)))

    def __call__(self, designs: Sequence[Design]) -> RawOutputs:
        with torch.no_grad():
            return self.forward(self._tensor(designs)).double().cpu().numpy()

    def forward(self, designs: torch.Tensor) -> torch.Tensor:
        with evaluating(self.module):
            return self._outputs(designs, self.placement, _normal_tensors(self.module))

    @contextmanager
    def forwarding(self) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
        if type(self).forward is not TorchModule.forward:  # a subclass with its own forward pass
            yield self.forward
            return
        with evaluating(self.module):
            yield partial(
                self._outputs, placement=self.placement, tensors=_normal_tensors(self.module)
            )

    def _outputs(
        self,
        designs: torch.Tensor,
        placement: Mapping[str, Any],
        tensors: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """Return the outputs ``(n, m)`` of a module in evaluation mode.

        Args:
            designs: designs ``(n, ...)``.
            placement: device and dtype of the module.
            tensors: replacements for parameters and buffers.
        """
        moved = designs.to(**placement)
        module = partial(functional_call, self.module, dict(tensors)) if tensors else self.module
        outputs = self._joined(module(moved), len(designs))
        if not isinstance(outputs, torch.Tensor):
            raise FailedError(
                f"{self._name} must return tensors of {len(designs)} rows, got "
                f"{type(outputs).__name__}"
            )
        if outputs.is_complex():
            raise FailedError(f"{self._name} must return real outputs, got complex ones")
        outputs = outputs.unsqueeze(1) if outputs.ndim == 1 else outputs
        if outputs.ndim != 2 or len(outputs) != len(designs):
            raise FailedError(
                f"{self._name} must return shape (n, m) or (n,) for n = {len(designs)} designs, "
                f"got {tuple(outputs.shape)}"
            )
        return outputs

    def _joined(self, outputs: object, n: int) -> object:
        """Return columns of outputs, by name or in their order, as one tensor ``(n, m)``."""
        if isinstance(outputs, torch.Tensor):
            return outputs
        named = record(outputs)
        if named is not None:
            wanted = self.outputs or ()
            if not wanted or any(name not in named for name in wanted):
                raise FailedError(
                    f"{MISMATCH}{self._name} returns the outputs {list(named)}, got outputs "
                    f"{list(wanted)}. Use TorchModule(module, outputs=[...]) with its names"
                )
            outputs = [named[name] for name in wanted]
        if not isinstance(outputs, (list, tuple)) or not outputs:
            return outputs
        tensors = all(isinstance(one, torch.Tensor) and len(one) == n for one in outputs)
        return torch.cat([one.reshape(n, -1) for one in outputs], 1) if tensors else outputs

    def _tensor(self, designs: Sequence[Design] | torch.Tensor) -> torch.Tensor:
        if isinstance(designs, torch.Tensor):
            return designs
        require(
            not any(isinstance(design, Mapping) for design in designs),
            f"{self._name}: designs must be arrays, got dicts of named parameters. Wrap the "
            "module in a function that builds its input, or use Box(lower, upper).",
        )
        if all(isinstance(design, torch.Tensor) for design in designs):
            return torch.stack(list(designs))
        return torch.from_numpy(np.array(designs))  # on the CPU, whatever the default device is

    @property
    def _name(self) -> str:
        return type(self.module).__name__

    @property
    def implementation(self) -> object:
        return self.module

    def to_json(self) -> JSON:
        return {"type": "torch", "name": self._name}
