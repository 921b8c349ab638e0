"""Problems that the operator registers in the configuration of a server."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bo_invert.errors import BoInvertError, InvalidInputError
from bo_invert.problems.json_declaration import problem_from_declaration, stored_declaration
from bo_invert.problems.loading import load_problem
from bo_invert.problems.problem import Problem
from bo_invert.study.retargeting import logged_problem
from bo_invert.types import JSON


@dataclass(frozen=True)
class RegisteredProblems:
    """Registered problems of a server, and the problems of its stored studies.

    Args:
        sources: sources of the problems by name,
            ``{"source": "file.py:name", "settings": {...}}``.
    """

    sources: Mapping[str, Mapping[str, Any]]
    _loaded: dict[str, Problem] = field(default_factory=dict, compare=False, repr=False)

    @staticmethod
    def load(file: Path | None) -> RegisteredProblems:
        """Read a TOML file with one table ``[problems.NAME]`` for each problem; None for none.

        Raises:
            InvalidInputError: the file is unreadable or has other contents.
        """
        if file is None:
            return RegisteredProblems({})
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InvalidInputError(f"configuration {file} is unreadable: {error}") from error
        problems = content.pop("problems", {})
        if content or not isinstance(problems, dict):
            raise InvalidInputError(
                f"configuration {file}: tables must be [problems.NAME], got {sorted(content)}"
            )
        for name, entry in problems.items():
            keys = set(entry) if isinstance(entry, dict) else set()
            if not {"source"} <= keys <= {"source", "settings"}:
                raise InvalidInputError(
                    f'configuration {file}: [problems.{name}] must hold source = "file.py:name" '
                    "and optionally settings"
                )
            entry["source"] = _beside(file, str(entry["source"]))
        return RegisteredProblems(problems)

    def __getstate__(self) -> dict[str, Any]:
        return {"sources": self.sources, "_loaded": {}}

    def problem(self, name: str) -> Problem:
        """Return a registered problem.

        Raises:
            InvalidInputError: no problem of this name is registered.
        """
        if name not in self.sources:
            raise InvalidInputError(
                f"registered: name must be one of {sorted(self.sources)}, got {name!r}"
            )
        if name not in self._loaded:
            source = self.sources[name]
            self._loaded[name] = load_problem(source["source"], dict(source.get("settings", {})))
        return self._loaded[name]

    def match(self, header: JSON) -> Problem | None:
        """Return the registered problem of a stored study, by its name or identity."""
        if header.get("registered") in self.sources:
            return logged_problem(header, self.problem(header["registered"]))
        for name in self.sources:
            with suppress(BoInvertError):  # a problem that cannot be loaded does not match
                problem = logged_problem(header, self.problem(name))
                if problem.to_json() == header["problem"]:
                    return problem
        return None

    def why_not(self, header: JSON, name: str) -> str:
        """Return the reason why a stored study is read-only here; empty if it can continue."""
        registered = header.get("registered")
        if registered is not None:
            missing = f"study {name!r}: its problem {registered!r} is not registered on this server"
            return "" if registered in self.sources else missing
        if stored_declaration(header) is not None or self.match(header) is not None:
            return ""
        return (
            f"study {name!r}: its problem was defined in Python, so the study is read-only here. "
            "Register the problem on the server to continue it."
        )

    def problem_of(self, header: JSON, name: str) -> Problem:
        """Return the problem of a stored study: registered, declared, or rebuilt from the log.

        Raises:
            InvalidInputError: the problem cannot be rebuilt.
        """
        declaration = None if header.get("registered") else stored_declaration(header)
        if declaration is not None:
            return problem_from_declaration(declaration, header["problem_name"])
        problem = None if self.why_not(header, name) else self.match(header)
        if problem is None:
            raise InvalidInputError(self.why_not(header, name))
        return problem


def _beside(file: Path, source: str) -> str:
    """Resolve the file of a source relative to the folder of the configuration."""
    found = re.fullmatch(r"(.+\.py)(:.*)?", source)
    return source if found is None else f"{file.parent.resolve() / found[1]}{found[2] or ''}"
