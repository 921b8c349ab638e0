"""The API pages document every public name."""

from __future__ import annotations

import re
from pathlib import Path

import bo_invert as bi

PAGES = Path(__file__).parents[2] / "docs" / "api"


def test_every_public_name_is_documented() -> None:
    text = "\n".join(page.read_text() for page in PAGES.glob("*.md"))
    documented = set(re.findall(r"^::: (bo_invert\.[\w.]+)$", text, re.M))
    missing = []
    for name in bi.__all__:
        value = getattr(bi, name)
        home = getattr(value, "__module__", None)
        if home is None or name in ("__version__", "realism"):
            continue
        if f"{home}.{name}" not in documented and home not in documented:
            missing.append(f"{home}.{name}")
    assert missing == []
