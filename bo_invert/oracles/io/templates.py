"""Templates with placeholders for values of a design: ``{temperature}``, ``{x[0]:.3f}``.

Unlike ``str.format``, placeholders have no attributes and no nested fields. Braces that enclose
anything but a name stay unchanged, as in JSON, C or OpenFOAM files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bo_invert.errors import InvalidInputError, require
from bo_invert.oracles.io.json_codec import plain
from bo_invert.types import JSON

_NAME = r"[A-Za-z_]\w*"
_FIELD = re.compile(
    rf"\{{\{{(?P<literal>{_NAME}(?:\[[^\[\]{{}}\n]*\])*(?::[^{{}}\n]*)?)\}}\}}"
    rf"|\{{(?P<name>{_NAME})(?P<keys>(?:\[[^\[\]{{}}\n]*\])*)(?::(?P<spec>[^{{}}\n]*))?\}}"
)


def values_of(design: object) -> dict[str, Any]:
    """Return the values for placeholders: the design as ``x``, and named parameters."""
    named = design if isinstance(design, Mapping) else {}
    return {"x": design, **{str(name): value for name, value in named.items()}}


def names_in(text: str) -> list[str]:
    """Return the names in the placeholders of a text, in order, each once."""
    return list(dict.fromkeys(found["name"] for found in _FIELD.finditer(text) if found["name"]))


def fill(text: str, values: Mapping[str, Any], escape: Callable[[str], str] = str) -> str:
    """Replace the placeholders of a text by their values.

    ``{name}`` and ``{x[0][1]}`` print numbers without loss, text unchanged and lists as JSON. A
    format as in Python (``{pressure:.6e}``), or ``json``, which quotes text, follows a colon.
    ``{{name}}`` gives ``{name}``. Placeholders in values are not replaced.

    Args:
        text: template.
        values: values by name.
        escape: function applied to each printed value.

    Raises:
        InvalidInputError: unknown name or index, or a format of another type.
    """
    return _FIELD.sub(
        lambda match: (
            "{" + match["literal"] + "}" if match["literal"] else escape(_shown(match, values))
        ),
        text,
    )


def fill_json(value: JSON, values: Mapping[str, Any]) -> JSON:
    """Replace placeholders in the strings of JSON; a string of one placeholder becomes its value.

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


def _shown(match: re.Match[str], values: Mapping[str, Any]) -> str:
    value, spec = plain(_looked_up(match, values)), match["spec"]
    if spec == "json" or (not spec and not isinstance(value, (str, float))):
        return json.dumps(value)
    if not spec:
        return value if isinstance(value, str) else repr(value)
    try:
        return format(value, spec)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"placeholder {match[0]}: format must suit {value!r:.60}: {error}"
        ) from None


def _looked_up(match: re.Match[str], values: Mapping[str, Any]) -> object:
    name = match["name"]
    require(
        name in values,
        f"placeholder {match[0]}: name must be one of {sorted(values)}, got {name!r}. "
        f"Write {{{match[0]}}} for the text {match[0]}.",
    )
    value = values[name]
    for key in re.findall(r"\[([^\]]*)\]", match["keys"]):
        value = _item(value, key, match[0])
    return value


def _item(value: Any, key: str, placeholder: str) -> object:
    if isinstance(value, Mapping):
        allowed = f"key must be one of {sorted(map(str, value))}"
        require(key in value, f"placeholder {placeholder}: {allowed}, got {key!r}")
        return value[key]
    indexed = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    size = len(value) if indexed or getattr(value, "shape", False) else 0
    allowed = f"from 0 to {size - 1}" if size else "absent, because the value has no items"
    require(
        re.fullmatch(r"-?\d{1,9}", key) and -size <= int(key) < size,
        f"placeholder {placeholder}: index must be {allowed}, got {key!r}",
    )
    return value[int(key)]
