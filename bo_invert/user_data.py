"""Numbers in data of the user, read at one place; numpy only.

Numbers come as Python objects, numpy scalars, tensors, or containers of length one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Set
from datetime import date, time, timedelta
from numbers import Integral
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bo_invert.errors import InvalidInputError
from bo_invert.user_tables import record

_UNIT = "has a unit; write its magnitude, in the unit of the problem"
_COMPLEX = "is complex; write its real part or its absolute value"


def has_unit(value: object) -> bool:
    """Return True for dates, durations, and quantities of pint, astropy and similar packages."""
    return (
        isinstance(value, (date, time, timedelta, np.datetime64, np.timedelta64))
        or (hasattr(value, "magnitude") and hasattr(value, "units"))
        or (hasattr(value, "value") and hasattr(value, "unit"))
        or (isinstance(value, np.ndarray) and hasattr(value, "units"))
        or hasattr(getattr(value, "dtype", None), "units")
        or (hasattr(value, "to_series") and hasattr(getattr(value, "data", None), "units"))
    )


def _missing(value: object) -> bool:
    """Return True for None, ``pandas.NA`` and ``NaT``."""
    return (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or (isinstance(value, (np.datetime64, np.timedelta64)) and bool(np.isnat(value)))
    )


def scalar(value: object) -> object:
    """Return the element of a scalar or of a container of length one as a Python object.

    A missing value (masked, NA, NaT, None) is NaN. Other objects are returned as they are.
    """
    if type(value) in (int, float, bool, complex):
        return value
    if type(value) is np.float64:
        return float(value)
    if _missing(value) or value is np.ma.masked:
        return math.nan
    if isinstance(value, (str, bytes, bytearray)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, (np.longdouble, np.clongdouble)):  # ``item`` would return themselves
        return float(value) if isinstance(value, np.longdouble) else complex(value)
    if hasattr(value, "as_py"):  # pyarrow
        return scalar(value.as_py())
    if has_unit(value) or record(value) is not None:
        return value
    if isinstance(value, np.ma.MaskedArray) and value.size == 1:
        return math.nan if np.ma.getmaskarray(value).all() else scalar(value.data)
    size = value.numel() if hasattr(value, "numel") else getattr(value, "size", None)
    if callable(getattr(value, "item", None)) and size == 1:
        return scalar(value.item())  # type: ignore[attr-defined]  # checked above
    if getattr(value, "ndim", 1) != 1 or hasattr(value, "columns") or isinstance(value, Set):
        return value
    sized: Any = value
    return scalar(next(iter(sized))) if hasattr(value, "__len__") and len(sized) == 1 else value


def missing(value: object) -> bool:
    """Return True for an empty cell of a table: None, NaN, NA, NaT, or blank text."""
    one = scalar(value)
    return not one.strip() if isinstance(one, str) else isinstance(one, float) and math.isnan(one)


def number(value: object) -> float:
    """Convert a value to a number; a missing value is NaN.

    Raises:
        TypeError: the value is complex, has a unit, or is no number; the message says which.
    """
    one = scalar(value)
    if isinstance(one, float):
        return one
    if not isinstance(one, int):
        if has_unit(one):
            raise TypeError(_UNIT)
        if isinstance(one, complex):
            raise TypeError(_COMPLEX)
        known = any(hasattr(type(one), method) for method in ("__float__", "__index__"))
        if not known or isinstance(one, (str, bytes, np.ndarray)):
            raise TypeError(f"is not a number{_decimal_comma(one)}")
    try:
        return float(one)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise TypeError("is not a number") from None


def _decimal_comma(value: object) -> str:
    """Return a hint for text with a decimal comma."""
    comma = isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*", value)
    return f"; write a decimal point: {str(value).strip().replace(',', '.')}" if comma else ""


def numbers(values: object) -> NDArray[np.float64]:
    """Convert an array, a tensor, a data frame or nested lists to float64; missing values are NaN.

    Raises:
        TypeError: a value is no number, or rows have different lengths.
    """
    if type(values) is np.ndarray and values.dtype.kind in "fiub":
        return values.astype(np.float64)
    if _missing(values) or hasattr(values, "as_py"):  # a scalar of pyarrow
        return np.array(number(values))
    if hasattr(values, "detach"):
        values = _host_array(values)
    if has_unit(values):
        raise TypeError(_UNIT)
    if isinstance(values, (list, tuple)) and not all(type(v) in (int, float) for v in values):
        try:
            return np.array([numbers(value) for value in values], dtype=np.float64)
        except ValueError:
            raise TypeError("has rows of different lengths") from None
    try:
        array = np.asanyarray(values) if np.ma.isMaskedArray(values) else np.asarray(values)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError("is not an array of numbers") from None
    if array.dtype.kind in "fiub" or (array.dtype.kind == "V" and array.dtype.names is None):
        found = np.array(array.astype(np.float64), dtype=np.float64)
        if isinstance(array, np.ma.MaskedArray):
            found[np.ma.getmaskarray(array)] = np.nan
        return found
    if array.ndim == 0 and array.dtype.kind == "O":
        return np.array(number(values))
    flat = [number(value) for value in array.ravel()]
    return np.array(flat, dtype=np.float64).reshape(array.shape)


def _host_array(tensor: object) -> NDArray[Any]:
    """Copy a tensor of any device, layout and precision to a numpy array."""
    there: Any = tensor.detach().cpu()  # type: ignore[attr-defined]  # tensors of torch
    if there.is_complex():
        raise TypeError(_COMPLEX)
    there = there.dequantize() if there.is_quantized else there
    found: NDArray[Any] = there.to_dense().double().numpy()
    return found


def vector(values: object) -> NDArray[np.float64]:
    """Convert a number, a vector, or a list of numbers or arrays of length one; see ``numbers``."""
    if isinstance(values, (list, tuple)) and values:
        try:
            return np.array([number(value) for value in values])
        except TypeError:
            if len(values) > 1:
                raise
    return np.atleast_1d(numbers(values))


def real(where: str, name: str, value: object) -> float:
    """Return an argument as a finite ``float``; ``where`` received it as ``name``."""
    try:
        found, why = number(value), ""
    except TypeError as error:
        found, why = math.nan, f", which {error}"
    if not math.isfinite(found):
        raise InvalidInputError(f"{where}: {name} must be a finite number, got {value!r:.200}{why}")
    return found


def real_array(where: str, values: object) -> NDArray[np.float64]:
    """Return an array of the user in float64; missing values are NaN.

    Raises:
        InvalidInputError: a value is no real number, or rows have different lengths.
    """
    try:
        return numbers(values)
    except TypeError as error:
        raise InvalidInputError(f"{where} must be an array of numbers; a value {error}") from None


def real_vector(where: str, name: str, values: object) -> NDArray[np.float64]:
    """Return an argument as a vector ``(n,)`` of finite numbers, n >= 1; see ``real``."""
    try:
        nested = isinstance(values, list) and any(isinstance(one, list) for one in values)
        found = np.empty(0) if nested else vector(values)
        found = found[0] if found.ndim == 2 and len(found) == 1 else found
    except TypeError:
        found = np.empty(0)
    if found.ndim != 1 or not found.size or not np.isfinite(found).all():
        kinds = "a number, a vector or a dict of finite numbers"
        raise InvalidInputError(f"{where}: {name} must be {kinds}, got {values!r:.200}")
    return found


def whole_number(
    where: str, name: str, value: object, least: int = 1, most: int | None = None
) -> int:
    """Return an argument from ``least`` to ``most`` as an ``int``; booleans are not accepted."""
    if type(value) is int and value >= least and most is None:
        return value
    one = scalar(value)
    if (
        isinstance(one, bool)
        or has_unit(one)
        or not isinstance(one, Integral)
        or int(one) < least
        or (most is not None and int(one) > most)
    ):
        limits = f">= {least}" if most is None else f"from {least} to {most}"
        raise InvalidInputError(f"{where}: {name} must be a whole number {limits}, got {value!r}")
    return int(one)


def whole_numbers(where: str, name: str, values: object, least: int) -> tuple[int, ...]:
    """Return one or several whole numbers as a tuple of ``int``; see ``whole_number``."""
    one: Any = scalar(values)
    items = [one] if isinstance(one, str) or not isinstance(one, Iterable) else one
    return tuple(whole_number(where, name, item, least) for item in items)


def plain_options(value: object) -> object:
    """Copy options; convert scalars of numpy, tensors and arrays of one element to Python."""
    if isinstance(value, Mapping):
        return {key: plain_options(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        items = [plain_options(one) for one in cast("list[object]", value)]
        return items if isinstance(value, list) else tuple(items)
    return scalar(value) if hasattr(value, "item") and not has_unit(value) else value


def brief(value: object, exact: bool = False) -> str:
    """Format an array or another design in a few words; all digits of its numbers if ``exact``."""
    if isinstance(value, Mapping):
        return ", ".join(
            f"{k}={v!r}" if exact else f"{k}={v:.6g}" if isinstance(v, float) else f"{k}={v}"
            for k, v in value.items()
        )
    array = np.asarray(value) if isinstance(value, (np.ndarray, list, tuple)) else None
    if array is None or array.dtype.kind not in "fiu":
        return f"{value!r:.80}"
    if array.size > 12:
        return f"array of shape {array.shape}"
    if exact:
        return repr(array.tolist())
    return np.array2string(array, precision=6, separator=", ").replace("\n", "")


def like(value: object, other: object) -> object:
    """Convert JSON to the type of another design: an array, a tensor or a dict."""
    if isinstance(other, np.ndarray):
        return np.array(value, dtype=other.dtype)
    new_tensor = getattr(other, "new_tensor", None)
    return dict(cast("Mapping[str, object]", value)) if new_tensor is None else new_tensor(value)


def nested_lists(array: NDArray[np.float64] | None) -> list[object] | None:
    """Return nested lists; JSON has no NaN and no infinities, they become null."""
    if array is None or array.ndim > 1:
        return None if array is None else [nested_lists(row) for row in array]
    return [value if math.isfinite(value) else None for value in array.tolist()]


def with_nan(values: Iterable[float | None] | None) -> NDArray[np.float64] | None:
    """Return numbers with NaN for null, shape ``(n,)``."""
    if values is None:
        return None
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)
