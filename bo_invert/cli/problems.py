"""``bo-invert problems``: the ready problems."""

from __future__ import annotations

import inspect
from typing import Any

from bo_invert import registry
from bo_invert.cli.options import Shape
from bo_invert.cli.output import Format, emit


def list_problems(how: Shape = Format.table) -> None:
    """The ready problems, and the options that ``--set`` takes."""
    emit([_described(name) for name in registry.names("problems")], how)


def _described(name: str) -> dict[str, Any]:
    try:
        make = registry.resolve("problems", name)
    except ImportError as error:  # an installed one that is broken is no reason to hide the others
        return {"problem": name, "about": f"cannot be imported: {error}", "options": ""}
    about = (inspect.getdoc(make) or "").partition("\n")[0]
    options = [
        f"{key}={option.default!r}" for key, option in inspect.signature(make).parameters.items()
    ]
    return {"problem": name, "about": about, "options": ", ".join(options)}
