"""Detection of torch modules whose outputs have no gradient: they disable or cut the graph.

Nothing is computed: a copy of the module runs on torch's ``meta`` device, which has shapes only. To
spare most modules this call, it follows only if the code uses an operation that can cut a graph.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import CodeType, FunctionType
from typing import Any

import torch

from bo_invert.user_tables import record

_CUTS = {
    "no_grad", "inference_mode", "set_grad_enabled", "requires_grad_", "detach", "detach_", "data",
    "numpy", "item", "tolist", "tensor", "as_tensor", "from_numpy", "argmax", "argmin", "argsort",
    "long", "int", "bool", "floor_divide",
}  # fmt: skip
"""Names of operations and attributes that can cut the graph of a computation."""
_HOST = {"numpy", "tolist", "from_numpy"}
"""Names of operations whose results torch does not know."""
_DECORATOR = "torch/utils/_contextlib.py"
"""End of the path of the code that decorates a function with ``no_grad`` or ``inference_mode``."""


def passes_gradients(module: torch.nn.Module, example: Callable[[], torch.Tensor]) -> bool:
    """Return False if the outputs of a module do not depend on its input by a gradient.

    Args:
        module: module in any mode; it is not called and does not change.
        example: function that returns inputs ``(n, ...)`` of the module's type.
    """
    names = set(_names(module))
    if not names & _CUTS:
        return True
    with suppress(Exception):  # the module may need values, not only shapes
        shared = {
            id(one): one.to("meta") if not isinstance(one, torch.nn.Parameter)
            else torch.nn.Parameter(one.to("meta"), False)
            for one in (*module.parameters(), *module.buffers())
        }  # fmt: skip
        dry = copy.deepcopy(module, shared).eval()
        with torch.enable_grad():
            outputs = dry(example().detach().to("meta").requires_grad_())
        named = None if isinstance(outputs, torch.Tensor) else record(outputs)
        parts = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return any(bool(one.requires_grad) for one in (named.values() if named else parts))
    return not (names & _HOST or _DECORATOR in names)


def _names(module: torch.nn.Module) -> Iterator[str]:
    """Yield the names that the code of a module and of the functions it calls contains."""
    seen: set[int] = set()
    waiting: list[Any] = []
    for part in module.modules():
        waiting += [one for one in vars(part).values() if inspect.isfunction(one)]
        for cls in type(part).__mro__:
            if not cls.__module__.startswith("torch."):
                waiting += [inspect.unwrap(one) for one in vars(cls).values() if callable(one)]
                waiting += [one for one in vars(cls).values() if callable(one)]
    while waiting:
        function = waiting.pop()
        if not isinstance(function, FunctionType) or id(function) in seen:
            continue
        seen.add(id(function))
        if function.__code__.co_filename.endswith(_DECORATOR):
            yield from ("no_grad", _DECORATOR)
            continue
        names = set(_code_names(function.__code__))
        yield from names
        called = [function.__globals__.get(name) for name in names]
        waiting += [one for one in called if not _of_torch(one)]
        for cell in function.__closure__ or ():
            try:
                waiting.append(cell.cell_contents)
            except ValueError:  # an empty cell
                continue


def _of_torch(thing: object) -> bool:
    return str(getattr(thing, "__module__", "")).split(".")[0] in ("torch", "numpy")


def _code_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_names(constant)
