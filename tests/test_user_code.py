"""Private copies for user code, and the settings of torch around it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

import bo_invert as bi
from bo_invert.spaces.base import Space
from bo_invert.user_code import private


class OwnSpace(Space):
    """Space of a user."""

    def decode(self, points: Any) -> Any:
        return points


class Named(NamedTuple):
    """Design with names."""

    a: Any
    b: Any


@dataclass
class Thing:
    """Design of a user's class."""

    values: Any


CONTAINERS: dict[str, Callable[[], Any]] = {
    "array": lambda: np.arange(6.0).reshape(2, 3),
    "transposed array": lambda: np.arange(6.0).reshape(2, 3).T,
    "read-only array": lambda: _read_only(np.arange(3.0)),
    "array of objects": lambda: np.array([np.arange(2.0), np.arange(3.0)], dtype=object),
    "masked array": lambda: np.ma.masked_array([1.0, 2.0], mask=[False, True]),
    "tensor": lambda: torch.arange(6.0).reshape(2, 3).T,
    "sparse tensor": lambda: torch.eye(3).to_sparse(),
    "tensor of inference mode": lambda: _inference(),
    "list": lambda: [np.arange(3.0), [1.0]],
    "tuple": lambda: (np.arange(3.0), np.ones(2)),
    "named tuple": lambda: Named(np.arange(3.0), np.ones(2)),
    "dict": lambda: {"a": np.arange(3.0), "b": {"c": [np.ones(2)]}},
    "data frame": lambda: pd.DataFrame({"a": [1.0, 2.0]}),
    "series": lambda: pd.Series([1.0, 2.0]),
    "object": lambda: Thing(np.arange(3.0)),
}


def _read_only(array: Any) -> Any:
    array.setflags(write=False)
    return array


def _inference() -> torch.Tensor:
    with torch.inference_mode():
        return torch.ones(3)


def arrays(thing: Any) -> Iterator[Any]:
    """Yield all arrays of a container."""
    if isinstance(thing, dict):
        thing = list(thing.values())
    if isinstance(thing, np.ndarray) and thing.dtype.kind == "O":
        thing = list(thing)
    if isinstance(thing, (list, tuple)):
        for one in thing:
            yield from arrays(one)
    elif isinstance(thing, Thing):
        yield thing.values
    elif isinstance(thing, (pd.DataFrame, pd.Series)):
        yield thing.to_numpy()
    elif not isinstance(thing, float):
        yield thing


@pytest.mark.parametrize("kind", CONTAINERS)
def test_copies_are_private_writable_and_contiguous(kind: str) -> None:
    thing = CONTAINERS[kind]()
    made = private(thing)
    assert type(made) is type(thing)
    pairs = list(zip(arrays(made), arrays(thing), strict=True))
    assert pairs
    for one, other in pairs:
        if isinstance(one, torch.Tensor):
            assert not one.is_inference()
            if one.layout is torch.strided:
                assert one.is_contiguous()
                assert one.data_ptr() != other.data_ptr()
            assert torch.equal(one.to_dense(), other.to_dense())
            one *= 2.0
        else:
            assert np.array_equal(np.ma.filled(one, 0), np.ma.filled(other, 0))
            assert not np.shares_memory(one, other)
            assert one.flags.c_contiguous
            if not kind.startswith(("data", "series")):  # pandas protects its arrays
                assert one.flags.writeable


def test_a_copy_of_a_tensor_stays_in_its_graph() -> None:
    x = torch.ones(2, requires_grad=True)
    y = private(x)
    y *= 3.0
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert slope.tolist() == [3.0, 3.0]


def test_random_generators_go_on() -> None:
    rng, generator = np.random.default_rng(0), torch.Generator()
    assert private(rng) is rng
    assert private(generator) is generator


def test_what_cannot_be_copied_is_passed_on() -> None:
    lock = threading.Lock()
    assert private([lock])[0] is lock


def test_methods_of_the_package_are_not_wrapped() -> None:
    assert not hasattr(bi.Box.decode, "__wrapped__")
    assert hasattr(OwnSpace.decode, "__wrapped__")
