"""Hook of MkDocs: formulas as MathML, which browsers draw without scripts of other hosts."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)


def on_page_content(content: str, **_: object) -> str:
    """Replace formulas of the extension ``arithmatex`` by MathML."""
    return _FORMULA.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    text = html.unescape(found[2]).strip()[2:-2]  # without \( and \), or \[ and \]
    return convert(text, display="inline" if found[1] == "span" else "block")
