"""Differences between two JSON values."""

from __future__ import annotations

from bo_invert.types import JSON

# Length in characters of a quoted value. Engineering choice: one screen line.
_MAX_LENGTH = 200


def differences(stored: JSON, given: JSON, path: str = "") -> list[str]:
    """List the differences between two JSON values, one line each."""
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
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}…"
