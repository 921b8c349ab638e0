"""Loading of problems by name: a ready problem, or ``file.py:name``."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from importlib.util import module_from_spec, spec_from_file_location
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

from bo_invert import registry
from bo_invert.errors import BoInvertError, InvalidInputError, require
from bo_invert.problems.json_declaration import problem_from_declaration
from bo_invert.problems.problem import Problem

_EXAMPLE = (
    '{"space": {"type": "box", "parameters": {"x": {"type": "float", "low": 0, "high": 1, '
    '"log": false}}}, "outputs": ["y"], "objective": {"type": "minimize", "output": "y"}}'
)


def load_problem(source: str, settings: Mapping[str, Any]) -> Problem:
    """Load a problem by its name.

    Args:
        source: name of a ready problem, or ``file.py:name``, where ``name`` is a ``Problem`` or a
            function that returns one; ``file.py`` stands for ``file.py:problem``; or ``file.json``
            with a declaration, as in ``POST /v1/studies``.
        settings: options of the ready problem or of the function.

    Raises:
        InvalidInputError: the problem or an option does not exist; the message lists valid ones.
    """
    path, name = _file_and_name(source)
    if source.endswith(".json"):
        return _declared(Path(source))
    if path is None:
        made: Any = registry.resolve("problems", name)
    else:
        module = _module(path)
        if not hasattr(module, name):
            found = [key for key, value in vars(module).items() if isinstance(value, Problem)]
            raise InvalidInputError(
                f"{path}: no {name!r}{registry.did_you_mean(name, vars(module))} "
                f"Known problems: {', '.join(found) or 'none'}"
            )
        made = getattr(module, name)
    if isinstance(made, Problem):
        if settings:
            raise InvalidInputError(
                f"{source}: a Problem object takes no settings, got {sorted(settings)}"
            )
        return made
    if not callable(made):
        raise InvalidInputError(
            f"{source}: must be a Problem or a function that returns one, got {type(made).__name__}"
        )
    options = signature(made)
    try:
        options.bind(**settings)
    except TypeError as error:
        raise InvalidInputError(
            f"{source}: {error}. Options: {', '.join(options.parameters) or 'none'}"
        ) from None
    result = made(**settings)
    if not isinstance(result, Problem):
        raise InvalidInputError(f"{source}(): must return a Problem, got {type(result).__name__}")
    return result


def _declared(path: Path) -> Problem:
    """Return the problem that a JSON file declares."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
        # The body of ``POST /v1/studies`` holds the problem beside the name of the study.
        body = isinstance(found, dict) and "space" not in found and "problem" in found
        declared = found["problem"] if body else found
        _check_declaration(declared)
        return problem_from_declaration(declared, path.stem)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInputError(
            f"{path}: must be a problem as JSON, such as {_EXAMPLE} "
            f"({type(error).__name__}: {error})"
        ) from None


def _check_declaration(data: object) -> None:
    """Check the entries of a declared problem.

    Raises:
        InvalidInputError: It is no JSON object, or an entry is missing or no object.
    """
    require(
        isinstance(data, dict),
        f"must be a problem as JSON, an object with 'space' and 'objective', got {data!r:.80}",
    )
    assert isinstance(data, dict)
    missing = [name for name in ("space", "objective") if name not in data]
    require(
        not missing,
        f"must be a problem as JSON; it has no {' and no '.join(map(repr, missing))}, but "
        f"{list(data)}. Write {_EXAMPLE}, or the same under 'problem'",
    )
    for name in ("space", "objective"):
        require(
            isinstance(data[name], dict),
            f"must be a problem as JSON; {name} must be an object, got {data[name]!r:.80}",
        )


def problem_title(source: str) -> str:
    """Return the name of the problem of ``source`` in tables."""
    path, name = _file_and_name(source)
    return path.stem if path is not None and name == "problem" else name


def load_varied_problem(
    source: str, settings: Mapping[str, Any], option: str, seed: int
) -> Problem:
    """Load a problem with one option set to the seed."""
    return load_problem(source, {**settings, option: seed})


def _file_and_name(source: str) -> tuple[Path | None, str]:
    file, colon, name = source.rpartition(":")
    if not colon or not file.endswith(".py"):  # a colon may also follow a drive letter
        file, name = source, "problem"
    return (Path(file), name) if file.endswith(".py") else (None, source)


def _module(path: Path) -> ModuleType:
    if not path.is_file():
        raise InvalidInputError(f"file {path} does not exist")
    path = path.resolve()
    # Worker processes import the module by its own name, unless another module has this name.
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    spec = spec_from_file_location(path.stem if known is None else f"_bo_invert_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # as Python does for a script
    try:
        spec.loader.exec_module(module)
    except BoInvertError:
        raise
    except Exception as error:
        lines = [
            f":{frame.lineno}"
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == str(path)
        ]
        raise InvalidInputError(
            f"{path}{''.join(lines[-1:])}: loading failed: {type(error).__name__}: {error}"
        ) from error
    return module
