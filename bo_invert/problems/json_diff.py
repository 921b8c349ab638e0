"""Where two JSON values differ, in words."""

from __future__ import annotations

from bo_invert.types import JSON

_LONGEST = 200


def differences(stored: JSON, given: JSON, path: str = "") -> list[str]:
    """Where two JSON values differ, one readable line each."""
    if isinstance(stored, dict) and isinstance(given, dict):
        keys = [*stored, *(key for key in given if key not in stored)]
        return [
            line
            for key in keys
            for line in differences(
                stored.get(key), given.get(key), f"{path}.{key}" if path else key
            )
        ]
    return [] if stored == given else [f"{path}: was {_quoted(stored)}, is {_quoted(given)}"]


def _quoted(value: JSON) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
