"""Fingerprints of the code that can influence a benchmark run.

A version number does not change between two releases. A fingerprint changes with every statement
that a run can reach. It ignores what cannot influence a result: comments, layout, docstrings,
type-checking imports, and the names and places of modules.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from functools import cache
from pathlib import Path
from typing import NamedTuple

import bo_invert
from bo_invert import registry
from bo_invert.benchmark.suite import PEERS
from bo_invert.problems.git import commit_of
from bo_invert.types import JSON

ROOT = Path(bo_invert.__file__).parent

DIRECTORIES = {"bo_invert", "bo_invert.registry"}
"""Modules that only list the names of others; a further name does not change the code of a run."""

LOOP = "bo_invert.study.runner"
"""Module that all methods share besides the problem: the loop that asks, evaluates and bills."""

_MARK = re.compile(r"<module ([\w.]+)>")
"""Reference to a module of the package in the text of another one."""


class Source(NamedTuple):
    """Digest of the statements of one file, and the package's modules that it imports anywhere."""

    digest: str
    imports: frozenset[str]


def code_of(strategy: str, problem: str | None) -> JSON:
    """Describe the code of a run. The files are read once per process.

    A strategy of this package can hand over to another one by name, as ``auto`` does. Its
    fingerprint therefore covers all strategies of the package. Peers do not call each other: the
    fingerprint of a peer covers its own file and the imports of that file.

    Args:
        strategy: name; a strategy of another package has no fingerprint.
        problem: name of a ready problem; None for any other, which has no fingerprint.

    Returns:
        ``{"method": ..., "problem": ..., "commit": ...}``: fingerprint of the strategy, fingerprint
        of the problem and the loop, and the commit with a ``+`` if the package's files differ from
        it. Unknown values are None.
    """
    ours = [path for path in registry.BUILTIN["strategies"].values() if strategy not in PEERS]
    own = registry.BUILTIN["strategies"].get(strategy)
    posed = registry.BUILTIN["problems"].get(problem or "")
    return {
        "method": None if own is None else fingerprint(_modules([own, *ours]), sources()),
        "problem": None if posed is None else fingerprint([LOOP, *_modules([posed])], sources()),
        "commit": commit_of(ROOT / "__init__.py", "."),
    }


def fingerprint(roots: Iterable[str], files: Mapping[str, Source]) -> str:
    """Return the fingerprint of modules and of all that they import, directly or not."""
    reached: set[str] = set()
    coming = set(roots)
    while coming:
        reached |= coming
        coming = {name for module in coming for name in files[module].imports} - reached
    digests = sorted({files[name].digest for name in reached} - {""})
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:12]


@cache
def sources(root: Path = ROOT) -> dict[str, Source]:
    """Read all files of a package, by module."""
    trees = {
        _module(path, root): ast.parse(path.read_bytes()) for path in sorted(root.rglob("*.py"))
    }
    readers = {name: _Reader(tree, trees.keys()) for name, tree in trees.items()}
    # A reference to a module becomes the digest of that module's own statements, not its name.
    own = {name: reader.digest({}) for name, reader in readers.items()}
    own |= dict.fromkeys(DIRECTORIES, "")
    return {
        name: Source(reader.digest(own), frozenset(reader.targets - DIRECTORIES))
        for name, reader in readers.items()
    }


class _Reader:
    """Canonical text of a syntax tree, with marks in place of the package's module names.

    Import statements become a set, so their order and place do not count.

    Args:
        tree: of one file.
        modules: all modules of the package.
    """

    def __init__(self, tree: ast.Module, modules: Set[str]) -> None:
        self.targets: set[str] = set()
        """Modules of the package that the file imports."""
        self._modules = modules
        self._aliases: dict[str, str] = {}
        """Modules by their names within the file."""
        self._imports = {line for node in _statements(tree) for line in self._imported(node)}
        self._body = repr(self._plain(tree))

    def digest(self, named: Mapping[str, str]) -> str:
        """Return the digest of the file; an empty text where it holds nothing but docstrings.

        Args:
            named: texts that stand for modules of the package; others all look alike.
        """
        if not self._imports and self._body == "('Module',)":
            return ""
        lines = [
            _MARK.sub(lambda found: named.get(found[1], ""), line)
            for line in (*self._imports, self._body)
        ]
        return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "replace")).hexdigest()

    def _imported(self, node: ast.AST) -> Iterator[str]:
        match node:
            case ast.Import():
                for alias in node.names:
                    yield f"import {self._mark(alias.name)} as {alias.asname}"
            case ast.ImportFrom(names=names):
                module = str(node.module)
                for alias in names:
                    within = f"{module}.{alias.name}"
                    mark = self._mark(module)
                    if within in self._modules:
                        self._aliases[alias.asname or alias.name] = self._mark(within)
                        yield f"import {self._mark(within)}"
                    else:
                        yield f"from {mark} import {alias.name} as {alias.asname}"

    def _mark(self, name: str) -> str:
        """Return a module's name, or a mark for it where it is one of the package."""
        if name not in self._modules:
            return name
        self.targets.add(name)
        return f"<module {name}>"

    def _plain(self, node: object) -> object:
        """Return a node, or a field of one, as nested tuples without positions and empty fields.

        ``ast.dump`` and ``ast.unparse`` differ between versions of Python.
        """
        if isinstance(node, ast.Constant):
            return ("Constant", self._constant(node.value))
        if isinstance(node, ast.Name):
            return ("Name", self._aliases.get(node.id, node.id))
        if isinstance(node, list):
            return [self._plain(one) for one in node if not _idle(one)]
        if not isinstance(node, ast.AST):
            return node
        fields = [(name, self._plain(value)) for name, value in ast.iter_fields(node)]
        return (type(node).__name__, *(field for field in fields if field[1] not in (None, [])))

    def _constant(self, value: object) -> str:
        """Return a constant, with a mark for the module in a path ``"package.module:Name"``."""
        path, colon, name = value.partition(":") if isinstance(value, str) else ("", "", "")
        return f"{self._mark(path)}{colon}{name}" if path in self._modules else repr(value)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree without the blocks that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if not _typing_only(child):
            yield child
            yield from _statements(child)


def _idle(node: object) -> bool:
    """Report that a node has no effect, or that it is an import, which is read separately."""
    docstring = (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
    return docstring or isinstance(node, (ast.Import, ast.ImportFrom)) or _typing_only(node)


def _typing_only(node: object) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
        and not node.orelse
    )


def _modules(paths: Iterable[str]) -> list[str]:
    return [path.partition(":")[0] for path in paths]


def _module(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
