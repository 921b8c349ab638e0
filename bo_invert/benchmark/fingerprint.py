"""Which code a run was made with: fingerprints of the source files that can influence it, and the commit.

A version number says nothing between two releases, and lines of different code must not mix unnoticed.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import bo_invert
from bo_invert import registry
from bo_invert.benchmark.suite import PEERS
from bo_invert.problems.git import commit_of
from bo_invert.types import JSON

ROOT = Path(bo_invert.__file__).parent

#: These name other modules as strings, and do nothing else: a further name is no other code.
DIRECTORIES = {"bo_invert", "bo_invert.registry"}

#: What all methods share, besides the problem: who asks when, and who counts.
LOOP = "bo_invert.study.runner"


class Source(NamedTuple):
    """One file of the package: a digest of its bytes, and the modules of the package that it imports anywhere."""

    digest: str
    imports: frozenset[str]


def code_of(strategy: str, problem: str | None) -> JSON:
    """What is written down with a run; the files are read once per process, as near to its imports as may be.

    A method of ours may hand over to any other by name (``auto`` does), so all strategies and what they import count
    for it. A peer's own file and what that imports are enough: siblings do not know each other.

    Args:
        strategy: its name; one that another package brought has no fingerprint here.
        problem: name of a ready problem; None for any other, which has no fingerprint.

    Returns:
        ``{"method": ..., "problem": ..., "commit": ...}``: fingerprints of the strategy, and of the problem with the
        loop that all methods share, and the commit with a ``+`` if the package's files differ from it; None for what
        is not known.
    """
    ours = [path for path in registry.BUILTIN["strategies"].values() if strategy not in PEERS]
    own = registry.BUILTIN["strategies"].get(strategy)
    posed = registry.BUILTIN["problems"].get(problem or "")
    return {
        "method": None if own is None else fingerprint(_modules([own, *ours]), sources()),
        "problem": None if posed is None else fingerprint([LOOP, *_modules([posed])], sources()),
        "commit": commit_of(ROOT / "__init__.py", "."),
    }


def fingerprint(roots: Iterable[str], files: dict[str, Source]) -> str:
    """Of these modules and all that they import, directly or not, when they are imported or later."""
    reached: set[str] = set()
    coming = set(roots)
    while coming:
        reached |= coming
        coming = {name for module in coming for name in files[module].imports} - reached
    facts = "\n".join(f"{name} {files[name].digest}" for name in sorted(reached))
    return hashlib.sha256(facts.encode()).hexdigest()[:12]


@cache
def sources(root: Path = ROOT) -> dict[str, Source]:
    """All files of a package, by module."""
    found = {_module(path, root): path.read_bytes() for path in sorted(root.rglob("*.py"))}
    return {
        name: Source(hashlib.sha256(data).hexdigest(), frozenset(_imports(data) & (found.keys() - DIRECTORIES)))
        for name, data in found.items()
    }


def _modules(paths: Iterable[str]) -> list[str]:
    return [path.partition(":")[0] for path in paths]


def _module(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(data: bytes) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(data)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names
