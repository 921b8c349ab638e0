"""Problems that the operator of a server put into its configuration, and the problem of a stored study."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bo_invert.errors import BoInvertError, InvalidInputError
from bo_invert.problems.declaration import problem_from_declaration
from bo_invert.problems.loading import load_problem
from bo_invert.problems.problem import Problem
from bo_invert.storage.base import Store
from bo_invert.study.study import Study
from bo_invert.types import JSON


@dataclass(frozen=True)
class Registered:
    """Names to where a problem comes from: ``{"source": "file.py:name", "settings": {...}}``."""

    sources: Mapping[str, Mapping[str, Any]]
    _made: dict[str, Problem] = field(default_factory=dict, compare=False, repr=False)

    @staticmethod
    def load(file: Path) -> Registered:
        """From a TOML file with a table ``[problems.NAME]`` for each problem.

        Raises:
            InvalidInputError: it cannot be read, or says something else.
        """
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InvalidInputError(f"the configuration {file} cannot be read: {error}") from error
        unknown = set(content) - {"problems"}
        if unknown or not isinstance(content.get("problems", {}), dict):
            raise InvalidInputError(
                f"the configuration {file} has tables [problems.NAME] and nothing else, not {unknown}"
            )
        sources: dict[str, dict[str, Any]] = {}
        for name, given in content.get("problems", {}).items():
            if (
                not isinstance(given, dict)
                or set(given) - {"source", "settings"}
                or "source" not in given
            ):
                raise InvalidInputError(
                    f'the configuration {file}: [problems.{name}] wants source = "file.py:name"'
                )
            sources[name] = {
                "source": _beside(file, str(given["source"])),
                "settings": given.get("settings", {}),
            }
        return Registered(sources)

    def __getstate__(self) -> dict[str, Any]:
        return {"sources": self.sources, "_made": {}}

    def problem(self, name: str) -> Problem:
        """A registered problem.

        Raises:
            InvalidInputError: there is none of this name.
        """
        if name not in self.sources:
            raise InvalidInputError(
                f"no problem {name!r} is registered on this server; there are {sorted(self.sources)}"
            )
        if name not in self._made:
            source = self.sources[name]
            self._made[name] = load_problem(source["source"], dict(source["settings"]))
        return self._made[name]

    def known(self, header: JSON) -> Problem | None:
        """The registered problem that a stored study is about: the one it names, or the same one begun in Python."""
        if header.get("registered") in self.sources:
            return self.problem(header["registered"])
        for name in self.sources:
            with suppress(BoInvertError):  # one that cannot be made is not the one
                problem = self.problem(name)
                if problem.to_json() == header["problem"]:
                    return problem
        return None

    def why_not(self, header: JSON, name: str) -> str:
        """Why a stored study can only be read here; empty where its problem can be rebuilt."""
        if header.get("registered") is not None:
            known = header["registered"] in self.sources
            return (
                ""
                if known
                else f"study {name!r} is about {header['registered']!r}, which is not registered here"
            )
        if (
            header.get("declared") is not None
            or _is_plain(header["problem"])
            or self.known(header) is not None
        ):
            return ""
        return (
            f"study {name!r} was begun in Python, and its problem cannot be rebuilt here; it can be read. Let the "
            "operator register the problem to continue it through this server"
        )

    def problem_of(self, header: JSON, name: str) -> Problem:
        """The problem of a stored study: registered, declared, or (of a box) rebuilt from what identifies it.

        Raises:
            InvalidInputError: it cannot be rebuilt.
        """
        reason = self.why_not(header, name)
        if reason:
            raise InvalidInputError(reason)
        if header.get("declared") is not None:
            return problem_from_declaration(header["declared"], header["problem_name"])
        known = header["problem"]
        same = None if header.get("registered") is None and _is_plain(known) else self.known(header)
        if same is not None:
            return same
        space = {"type": "box", "parameters": known["space"]["domain"]["parameters"]}
        return problem_from_declaration(
            {**known, "space": space, "identity": known["space"]}, header["problem_name"]
        )

    def open(self, storage: str | Store, name: str) -> Study:
        """A stored study with its problem.

        Raises:
            InvalidInputError: the problem cannot be rebuilt.
            StudyNotFoundError: there is no such study.
            ProblemChangedError: the registered problem is not the one the study was about.
        """
        from bo_invert.storage.open import open_store

        store = open_store(storage)
        return Study.open(name, store, self.problem_of(store.header(name), name))


def _is_plain(problem: JSON) -> bool:
    """Whether a stored problem can be rebuilt from what identifies it."""
    return bool(
        problem["space"].get("type") == "box" and problem["objective"]["type"] != "composite"
    )


def _beside(file: Path, source: str) -> str:
    """A source whose file is taken to lie beside the configuration."""
    path, colon, attribute = source.rpartition(":")
    if not path.endswith(".py"):
        path, colon, attribute = (source, "", "") if source.endswith(".py") else ("", "", source)
    return f"{file.parent.resolve() / path}{colon}{attribute}" if path else source
