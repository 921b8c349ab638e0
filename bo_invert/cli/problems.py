"""``bo-invert problems``: the ready problems."""

from __future__ import annotations

import inspect
from typing import Any

from bo_invert import registry
from bo_invert.cli.options import Shape
from bo_invert.cli.output import Format, emit


def list_problems(how: Shape = Format.table) -> None:
    """List the ready problems and their options for --set."""
    emit([_described(name) for name in registry.names("problems")], how)


def _described(name: str) -> dict[str, Any]:
    try:
        make = registry.resolve("problems", name)
    except ImportError as error:  # a broken plug-in must not hide the other problems
        return {"problem": name, "about": f"cannot be imported: {error}", "options": ""}
    about = (inspect.getdoc(make) or "").partition("\n")[0]
    parameters = inspect.signature(make).parameters.items()
    options = [f"{key}={option.default!r}" for key, option in parameters]
    return {"problem": name, "about": about, "options": ", ".join(options)}
