"""Texts of charts: short names, wrapped labels, numbers."""

from __future__ import annotations

import textwrap

from bo_invert.errors import printable


def shortened(text: str, longest: int) -> str:
    """Return a text of at most ``longest`` characters; the middle of a longer one is left out."""
    line = " ".join(printable(text).split())
    if len(line) <= longest:
        return line
    head = (longest - 1) // 2
    return f"{line[:head]}…{line[len(line) - (longest - 1 - head) :]}"


def wrapped(text: str, longest: int, lines: int = 2) -> str:
    """Return a text in at most ``lines`` lines of ``longest`` characters; it keeps its lines."""
    parts = text.splitlines()
    if len(parts) > 1:
        return "\n".join(shortened(part, longest) for part in parts)
    found = textwrap.wrap(shortened(text, longest * lines), longest)
    return "\n".join(found) if len(found) <= lines else shortened(text, longest)


def value_text(value: object) -> str:
    """Return a value with four digits, a text in full."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "–" if value is None else str(value)
    return str(value) if isinstance(value, int) else f"{value:.4g}"
