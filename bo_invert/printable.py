"""Names and reasons come from others; a terminal obeys some characters instead of showing them."""

from __future__ import annotations

import re

_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, escape sequences, turns of the writing direction, halves of characters."""


def printable(text: str) -> str:
    """The text with every such character spelled out as JSON does it, ``\\u001b`` for escape; lines stay lines."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
