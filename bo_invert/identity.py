"""When two designs are one: equal designs have equal names. numpy only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def design_name(design: Any) -> str | None:
    """A short name of a design by its content, the same in every process; None for objects that cannot be compared.

    Numbers, text, arrays and tensors have names, and so have lists and dicts of these in any depth. Types count where
    an oracle can see them: 1 is not 1.0, and single precision is not double. 0.0 and -0.0 are one number, a list and
    a tuple one list, and the order of a dict does not matter.
    """
    digest = hashlib.sha256()
    try:
        for part in _content(design):
            digest.update(part)
    except (TypeError, RecursionError):
        return None
    return digest.hexdigest()


def _content(value: Any) -> Iterator[bytes]:
    """The value as bytes; every part says what it is and how long, so that no two values have the same."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        value = value + 0.0  # -0.0 is 0.0
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if value is None or isinstance(value, (bool, int, float, complex)):
        yield f"{type(value).__name__} {value!r};".encode()
    elif isinstance(value, (str, bytes)):
        text = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        yield f"{type(value).__name__} {len(text)} ".encode() + text
    elif isinstance(value, np.ndarray):
        yield from _array(value)
    elif isinstance(value, (list, tuple)):
        yield f"list {len(value)} ".encode()
        for item in value:
            yield from _content(item)
    elif isinstance(value, Mapping):
        keys = {b"".join(_content(key)): key for key in value}
        yield f"dict {len(keys)} ".encode()
        for name in sorted(keys):
            yield name
            yield from _content(value[keys[name]])
    else:
        raise TypeError(f"{type(value).__name__} has no content that could be compared")


def _array(array: NDArray[Any]) -> Iterator[bytes]:
    if array.dtype.kind == "f":
        array = array + array.dtype.type(0.0)
    if array.dtype.kind not in "biufcUSmM":
        raise TypeError(f"an array of {array.dtype} has no content that could be compared")
    yield f"array {array.dtype.str} {array.shape} ".encode()
    yield array.tobytes()
