"""Designs put into text: ``{temperature}``, ``{x[0]:.3f}``. numpy only.

Not ``str.format``: names and indices are looked up in the design and nowhere else, there are no attributes and no
nested fields, and braces that enclose anything but a name stay as they are, as in JSON, C or OpenFOAM files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bo_invert.errors import InvalidInputError
from bo_invert.oracles.io.json_codec import plain

_NAME = r"[A-Za-z_]\w*"
_FIELD = re.compile(
    rf"\{{\{{(?P<kept>{_NAME}(?:\[[^\[\]{{}}\n]*\])*(?::[^{{}}\n]*)?)\}}\}}"
    rf"|\{{(?P<name>{_NAME})(?P<keys>(?:\[[^\[\]{{}}\n]*\])*)(?::(?P<spec>[^{{}}\n]*))?\}}"
)


def values_of(design: Any) -> dict[str, Any]:
    """What placeholders may name: the parameters of a dict design by their names, and any design as ``x``."""
    named = (
        {str(name): value for name, value in design.items()} if isinstance(design, Mapping) else {}
    )
    return {"x": design, **named}


def names_in(text: str) -> list[str]:
    """The names that placeholders of a text begin with, in order, each once."""
    return list(dict.fromkeys(found["name"] for found in _FIELD.finditer(text) if found["name"]))


def fill(text: str, values: Mapping[str, Any], escape: Callable[[str], str] = str) -> str:
    """The text with every placeholder replaced by its value.

    ``{name}`` and ``{x[0][1]}`` show a number so that it reads back to the same number, text as it is, lists as JSON.
    Behind a colon stands a format as in Python (``{pressure:.6e}``), or ``json``, which quotes text. ``{{name}}``
    stands for ``{name}``. What a value holds is never looked at for placeholders again; ``escape`` is applied to it.

    Raises:
        InvalidInputError: a name or an index is not in ``values``, or a format does not suit its value.
    """
    return _FIELD.sub(
        lambda found: "{" + found["kept"] + "}" if found["kept"] else escape(_shown(found, values)),
        text,
    )


def fill_json(value: Any, values: Mapping[str, Any]) -> Any:
    """JSON with placeholders in its strings; a string that is nothing but one becomes the value itself.

    Raises:
        InvalidInputError: see ``fill``.
    """
    if isinstance(value, str):
        alone = _FIELD.fullmatch(value)
        if alone is not None and alone["name"] and alone["spec"] is None:
            return plain(_looked_up(alone, values))
        return fill(value, values)
    if isinstance(value, Mapping):
        return {fill(str(name), values): fill_json(item, values) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [fill_json(item, values) for item in value]
    return value


def _shown(found: re.Match[str], values: Mapping[str, Any]) -> str:
    value, spec = plain(_looked_up(found, values)), found["spec"]
    if spec == "json" or (not spec and not isinstance(value, (str, float))):
        return json.dumps(value)
    if not spec:
        return value if isinstance(value, str) else repr(value)
    try:
        return format(value, spec)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"placeholder {found[0]}: {value!r:.60} cannot be shown so: {error}"
        ) from None


def _looked_up(found: re.Match[str], values: Mapping[str, Any]) -> Any:
    name = found["name"]
    if name not in values:
        raise InvalidInputError(
            f"placeholder {found[0]}: there is no {name!r}; there are {sorted(values)}. "
            f"Write {{{found[0]}}} for the text {found[0]}"
        )
    value = values[name]
    for key in re.findall(r"\[([^\]]*)\]", found["keys"]):
        value = _item(value, key, found[0])
    return value


def _item(value: Any, key: str, placeholder: str) -> Any:
    if isinstance(value, Mapping):
        if key in value:
            return value[key]
        raise InvalidInputError(
            f"placeholder {placeholder}: there is no {key!r}; there are {sorted(map(str, value))}"
        )
    size = 0 if isinstance(value, (str, bytes)) or not hasattr(value, "__len__") else len(value)
    if not isinstance(value, Sequence) and not hasattr(value, "shape"):
        size = 0
    if re.fullmatch(r"-?\d{1,9}", key) and -size <= int(key) < size:
        return value[int(key)]
    what = (
        f"{size} values, from 0 to {size - 1}"
        if size
        else "no parts that could be named by a number"
    )
    raise InvalidInputError(
        f"placeholder {placeholder}: there is no [{key}]; the design has {what}"
    )
