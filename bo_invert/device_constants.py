"""Constant arrays as tensors, copied to a device once and not at each step of a descent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import torch


class DeviceConstants:
    """Arrays with one copy of tensors per device and dtype.

    Args:
        arrays: arrays of real numbers, which get the dtype of the points, integers or Booleans.
    """

    def __init__(self, *arrays: ArrayLike) -> None:
        self._arrays = tuple(np.asarray(array) for array in arrays)
        self._tensors: dict[object, tuple[torch.Tensor, ...]] = {}

    def like(self, points: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the arrays on the device and in the dtype of ``points``."""
        # The class separates real tensors from those of a tracer.
        key = (points.device, points.dtype, type(points))
        known = self._tensors.get(key)
        if known is None:
            import torch

            # Tensors of inference mode could not take part in later gradients.
            with torch.inference_mode(False):
                known = tuple(
                    torch.as_tensor(
                        array, device=points.device,
                        dtype=points.dtype if array.dtype.kind == "f" else None,
                    )
                    for array in self._arrays
                )  # fmt: skip
            self._tensors[key] = known
        return known

    def __getstate__(self) -> dict[str, Any]:
        # Another process may lack the device.
        return {"_arrays": self._arrays, "_tensors": {}}
