"""Boxes: tensors are decoded as arrays are."""

from __future__ import annotations

import numpy as np
import torch

import bo_invert as bi
from bo_invert.domains.box_domain import box_domain
from bo_invert.spaces.box import Box


def test_tensors_are_decoded_as_arrays_are() -> None:
    """A vector box with one logarithmic coordinate, outside of the unit cube too."""
    box = Box([1e-4, -2.0], [10.0, 3.0])
    parameters = {"x0": bi.Float(1e-4, 10.0, log=True), "x1": bi.Float(-2.0, 3.0)}
    box.domain = box_domain(parameters)
    points = np.random.default_rng(0).uniform(-0.2, 1.2, (20, 2))
    designs = np.array(box.decode(points))
    assert designs[:, 0].min() < 1e-3, "the scale is logarithmic"
    decoded = box.decode_tensor(torch.from_numpy(points)).numpy()
    np.testing.assert_allclose(decoded, designs, rtol=1e-12)
