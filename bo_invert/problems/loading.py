"""Problems by name: a ready problem's, or ``file.py:name``."""

from __future__ import annotations

import difflib
import sys
import traceback
from collections.abc import Mapping
from importlib.util import module_from_spec, spec_from_file_location
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

from bo_invert import registry
from bo_invert.errors import BoInvertError, InvalidInputError
from bo_invert.problems.problem import Problem


def load_problem(source: str, settings: Mapping[str, Any]) -> Problem:
    """A problem from its name.

    Args:
        source: of a ready problem, or ``file.py:name``, where ``name`` is a ``Problem`` or a function that makes one;
            ``file.py`` alone stands for ``file.py:problem``.
        settings: options of the ready problem, or of the function.

    Raises:
        InvalidInputError: there is no such problem, or it has no such option; the message says what there is.
    """
    path, name = _file_and_name(source)
    if path is None:
        made: Any = registry.resolve("problems", name)
    else:
        module = _module(path)
        if not hasattr(module, name):
            found = [key for key, value in vars(module).items() if isinstance(value, Problem)]
            near = difflib.get_close_matches(name, vars(module), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise InvalidInputError(
                f"{path} has no {name!r}{hint} Problems there: {', '.join(found) or 'none'}"
            )
        made = getattr(module, name)
    if isinstance(made, Problem):
        if settings:
            raise InvalidInputError(
                f"{source} is a finished problem and takes no settings, got {sorted(settings)}"
            )
        return made
    if not callable(made):
        raise InvalidInputError(
            f"{source} is of type {type(made).__name__}, not a Problem or a function that makes one"
        )
    options = signature(made)
    try:
        options.bind(**settings)
    except TypeError as error:
        raise InvalidInputError(
            f"{source}: {error}; its options are: {', '.join(options.parameters) or 'none'}"
        ) from None
    result = made(**settings)
    if not isinstance(result, Problem):
        raise InvalidInputError(
            f"{source}() gave something of type {type(result).__name__}, not a Problem"
        )
    return result


def problem_title(source: str) -> str:
    """How tables call the problem of ``source``."""
    path, name = _file_and_name(source)
    return path.stem if path is not None and name == "problem" else name


class VariedProblem:
    """A function from a seed to a problem that has one option set to that seed. Can travel to another process."""

    def __init__(self, source: str, settings: Mapping[str, Any], option: str) -> None:
        self.source, self.settings, self.option = source, dict(settings), option

    def __call__(self, seed: int) -> Problem:
        return load_problem(self.source, {**self.settings, self.option: seed})


def _file_and_name(source: str) -> tuple[Path | None, str]:
    file, colon, name = source.rpartition(":")
    if not colon or not file.endswith(".py"):  # a colon may also follow a drive letter
        file, name = source, "problem"
    return (Path(file), name) if file.endswith(".py") else (None, source)


def _module(path: Path) -> ModuleType:
    if not path.is_file():
        raise InvalidInputError(f"there is no file {path}")
    path = path.resolve()
    # Under its own name if that is free, so that worker processes can import it too; never in place of another.
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    spec = spec_from_file_location(path.stem if known is None else f"_bo_invert_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    if str(path.parent) not in sys.path:
        sys.path.insert(
            0, str(path.parent)
        )  # as Python does for a script: it may import its neighbours
    try:
        spec.loader.exec_module(module)
    except BoInvertError:
        raise
    except Exception as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == str(path)
        ]
        where = f"{path}:{lines[-1]}" if lines else str(path)
        raise InvalidInputError(
            f"{where} could not be loaded: {type(error).__name__}: {error}"
        ) from error
    return module
