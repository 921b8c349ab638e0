"""Measure the structure and the language of a checkout, before and after a restructuring.

    python experiments/house.py [ROOT] [--json]
    python experiments/house.py --list prose bo_invert/models docs/concepts.md
    python experiments/house.py --list constants bo_invert/strategies

ROOT is a checkout (default: this one). ``--list`` prints the lines behind a measure, one
``file:line: rule: text`` each, below the given folders or files.

Definitions; package code means all ``bo_invert/**/*.py``:

- Nodes of the import graph between packages: each folder directly below ``bo_invert`` and each
  file in its root; ``cli`` and ``cli_*`` are one node. An edge is a distinct ordered pair of nodes
  with at least one import. ``bo_invert/__init__.py`` only re-exports names lazily and is no node.
  "Edges" counts imports at module level, those under ``TYPE_CHECKING`` included; "edges, local
  imports included" adds the imports inside functions.
- Import cycles: strongly connected components with more than one module, over all imports
  (module level, ``TYPE_CHECKING``, inside functions), without the typed re-exports of
  ``bo_invert/__init__.py``.
- Docstrings: of modules, classes and functions, and string statements below assignments.
- Files with algorithms: below ``models``, ``strategies`` and ``generators``. A comment line is one
  that holds nothing but a comment, directives excepted (``noqa``, ``type:``, ``fmt:``, ``pragma``).
- Private numeric constants: assignments to ``_NAME`` in a module or class whose value is a
  number, an expression, a tuple or a dictionary of numbers. One is unsourced if neither the comment
  above or beside it nor the docstring below names a source and a unit (``tests/prose_rules.py``).
- ``Any`` in signatures: ruff ANN401 counts parameters and returns annotated as ``Any`` or as a
  union with ``Any``; the same is counted here with ``ast``.
- Statements: ``ast.stmt`` nodes without string statements (docstrings).
- Banned words: matches in docstrings, comments, string literals and documents.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE / "tests"))

import prose_rules as rules  # noqa: E402
from prose_rules import Finding, Source  # noqa: E402

RUFF = ("D401", "PLC0415", "BLE001", "PLR0913", "ANN401")
"""Ruff rules that are counted in package code."""

ALGORITHMS = ("models", "strategies", "generators")
"""Packages whose files hold algorithms."""

_DIRECTIVE = re.compile(r"(?:noqa|type:|fmt:|ruff:|pragma)")


class Checkout:
    """A checkout: its package code parsed once, its documents and its import graph."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = rules.python_files(root, "bo_invert")
        self.modules = {module_name(path): path for path in self.files}

    def sources(self) -> Iterator[Source]:
        """Yield the parsed package code."""
        return (rules.parse(self.root, path) for path in self.files)

    def texts(self) -> list[str]:
        """List documents and Python files outside of the package whose prose is checked."""
        return [*rules.text_files(self.root), *self.extra()]

    def extra(self) -> list[str]:
        """List Python files of experiments and tests, without those that quote banned words."""
        found = rules.python_files(self.root, "experiments", "bench", "tests", "notebooks")
        return [path for path in found if path not in rules.EXEMPT]

    def imports(self, module: str, *, local: bool = True) -> set[str]:
        """Return the package modules that a module imports, ``TYPE_CHECKING`` imports included."""
        found: set[str] = set()

        def walk(node: ast.AST) -> None:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and not local:
                    continue
                if isinstance(child, ast.Import):
                    found.update(alias.name for alias in child.names)
                elif isinstance(child, ast.ImportFrom) and child.module:
                    full = (f"{child.module}.{alias.name}" for alias in child.names)
                    found.update(
                        name if name in self.modules else str(child.module) for name in full
                    )
                walk(child)

        walk(rules.parse(self.root, self.modules[module]).tree)
        return {
            name for name in found if name in self.modules and name not in (module, "bo_invert")
        }

    def graph(self, *, local: bool = True) -> dict[str, set[str]]:
        """Return the import graph of all modules without the facade ``bo_invert``."""
        return {
            name: self.imports(name, local=local) for name in self.modules if name != "bo_invert"
        }


def module_name(path: str) -> str:
    """Return the dotted name of a package file."""
    parts = path.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def node_of(module: str) -> str:
    """Return the package or root file that a module belongs to."""
    name = module.split(".")[1]
    return "cli" if name.startswith("cli_") else name


def edges(graph: dict[str, set[str]]) -> dict[tuple[str, str], str]:
    """Return distinct pairs of nodes, each with one example of an import."""
    found: dict[tuple[str, str], str] = {}
    for module, targets in graph.items():
        for target in targets:
            pair = node_of(module), node_of(target)
            if pair[0] != pair[1]:
                found.setdefault(pair, f"{module} imports {target}")
    return found


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return strongly connected components with several modules (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(graph.get(name, ())):
            if target not in index:
                visit(target)
            if target in stack:
                low[name] = min(low[name], low[target])
        if low[name] == index[name]:
            component = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(component) > 1:
                found.append(sorted(component))

    for name in graph:
        if name not in index:
            visit(name)
    return found


# --- lists: the lines behind each measure ----------------------------------------------------


def _anywhere(checkout: Checkout) -> Iterator[Finding]:
    for path in [*checkout.files, *checkout.texts()]:
        yield from rules.prose(checkout.root, path)


def _words(checkout: Checkout) -> Iterator[Finding]:
    return (one for one in _anywhere(checkout) if one.rule == "banned word")


def _per_file(
    rule: Callable[[Source], Iterator[Finding]],
) -> Callable[[Checkout], Iterator[Finding]]:
    return lambda checkout: (one for source in checkout.sources() for one in rule(source))


def _identifiers(checkout: Checkout) -> Iterator[Finding]:
    for path in [*checkout.files, *checkout.extra()]:
        yield from rules.identifiers(rules.parse(checkout.root, path))


def _is_any(node: ast.expr | None) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_any(node.left) or _is_any(node.right)
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) in (
        "Optional",
        "Union",
        "Annotated",
    ):
        return any(
            map(_is_any, node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice])
        )
    return isinstance(node, ast.Name) and node.id == "Any"


def any_signatures(source: Source) -> Iterator[Finding]:
    """Yield parameters and returns annotated as ``Any``."""
    for node in source.nodes:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        args = node.args
        named = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
        for one in filter(None, named):
            if _is_any(one.annotation):
                yield Finding(source.path, one.lineno, "any", f"{node.name}({one.arg})")
        if _is_any(node.returns):
            yield Finding(source.path, node.lineno, "any", f"{node.name} returns Any")


def local_imports(source: Source) -> Iterator[Finding]:
    """Yield imports inside functions."""
    seen = set()
    for node in source.nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for child in ast.walk(node):
                if isinstance(child, (ast.Import, ast.ImportFrom)) and child not in seen:
                    seen.add(child)
                    yield Finding(source.path, child.lineno, "local import", ast.unparse(child))


def _sizes(checkout: Checkout) -> Iterator[Finding]:
    for source in checkout.sources():
        if (count := len(source.lines)) > 300:
            yield Finding(source.path, count, "file size", f"{count} lines")


def _comments(checkout: Checkout) -> Iterator[Finding]:
    for source in _algorithms(checkout):
        share = len(list(comment_lines(source))) / max(1, len(source.lines))
        yield Finding(source.path, 1, "comments", f"{share:.1%} of {len(source.lines)} lines")


def _edges(checkout: Checkout) -> Iterator[Finding]:
    for (here, there), example in sorted(edges(checkout.graph()).items()):
        yield Finding(here, 0, "edge", f"-> {there}: {example}")


def _cycles(checkout: Checkout) -> Iterator[Finding]:
    for names in cycles(checkout.graph()):
        yield Finding(names[0], 0, "cycle", ", ".join(names))


LISTS: dict[str, Callable[[Checkout], Iterator[Finding]]] = {
    "prose": _anywhere,
    "words": _words,
    "openings": _per_file(rules.openings),
    "identifiers": _identifiers,
    "lines": _per_file(rules.long_lines),
    "constants": _per_file(rules.unsourced),
    "sentences": _per_file(rules.long_sentences),
    "any": _per_file(any_signatures),
    "local": _per_file(local_imports),
    "sizes": _sizes,
    "comments": _comments,
    "edges": _edges,
    "cycles": _cycles,
}
"""Lists for ``--list``; ``prose`` holds words, openings, identifiers, lines and constants."""


# --- measures ------------------------------------------------------------------------------------


def _algorithms(checkout: Checkout) -> Iterator[Source]:
    return (source for source in checkout.sources() if source.path.split("/")[1] in ALGORITHMS)


def comment_lines(source: Source) -> Iterator[str]:
    """Yield lines that hold nothing but a comment, directives excepted."""
    for piece in rules.comments(source):
        if source.lines[piece.line - 1].lstrip().startswith("#"):
            yield from (line for line in piece.text.splitlines() if not _DIRECTIVE.match(line))


def whitelisted(checkout: Checkout, folders: set[str]) -> int:
    """Count the folders with import rules in ``tests/test_architecture.py``."""
    path = "tests/test_architecture.py"
    if not (checkout.root / path).exists():
        return 0
    for node in rules.parse(checkout.root, path).nodes:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if ast.unparse(target) in ("MAY_IMPORT", "FORBIDDEN_ROOMS"):
                keys = {key.value for key in node.value.keys if isinstance(key, ast.Constant)}
                return len(keys & folders)
    return 0


def ruff_counts(root: Path) -> dict[str, int]:
    """Count the violations of ``RUFF`` in package code; empty without ruff."""
    ruff = shutil.which("ruff") or shutil.which("ruff", path=str(Path(sys.executable).parent))
    if ruff is None:
        return {}
    command = [ruff, "check", "--isolated", "--no-cache", "--exit-zero", "--output-format", "json"]
    command += ["--select", ",".join(RUFF), "--target-version", "py311", "bo_invert"]
    found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    counts = Counter(one["code"] for one in json.loads(found))
    return {code: counts[code] for code in RUFF}


def measures(checkout: Checkout) -> dict[str, tuple[str | int, str]]:
    """Return each measure's value and what is required of it."""
    sources = list(checkout.sources())
    nodes = [node for source in sources for node in source.nodes]
    folders = {path.split("/")[1] for path in checkout.files if path.count("/") > 1}
    root_files = sum(path.count("/") == 1 for path in checkout.files)
    lines = sum(len(source.lines) for source in sources)
    documented = sum(1 for source in sources for _ in rules.docstrings(source))
    algorithms = list(_algorithms(checkout))
    algorithm_lines = sum(len(source.lines) for source in algorithms)
    commented = sum(1 for source in algorithms for _ in comment_lines(source))
    count = {name: sum(1 for _ in LISTS[name](checkout)) for name in LISTS}
    constants = sum(1 for source in sources for _ in rules.constants(source))
    docstrings = sum(isinstance(node, ast.Expr) and _is_text(node.value) for node in nodes)
    statements = sum(isinstance(node, ast.stmt) for node in nodes) - docstrings
    largest = max(sources, key=lambda source: len(source.lines))
    at_import = checkout.graph(local=False)
    return {
        "files in the root": (root_files, "<= 12"),
        "packages under the whitelist": (
            f"{whitelisted(checkout, folders)} of {len(folders)}",
            "all",
        ),
        "import cycles": (count["cycles"], "0"),
        "edges between packages and root files": (len(edges(at_import)), "<= 190"),
        "edges, local imports included": (count["edges"], ""),
        "docstrings with a banned first word": (_share(count["openings"], documented), "<= 2 %"),
        "banned words": (count["words"], "0"),
        "banned identifiers": (count["identifiers"], "0"),
        "comment lines in files with algorithms": (_share(commented, algorithm_lines), ">= 3 %"),
        f"lines over {rules.WIDTH} columns": (_share(count["lines"], lines), "0"),
        "private numeric constants": (constants, ""),
        "... without unit and source": (count["constants"], "0"),
        "Any in signatures": (count["any"], "<= 120"),
        "function-local imports": (count["local"], "<= 120"),
        "statements": (statements, "6 % fewer"),
        "largest file in lines": (f"{len(largest.lines)} ({largest.path})", "<= 400"),
        "files over 300 lines": (count["sizes"], ""),
        "files": (len(checkout.files), ""),
        "lines": (lines, ""),
        "docstrings": (documented, ""),
        "docstring sentences over 25 words": (count["sentences"], ""),
        **{f"ruff {code}": (number, "") for code, number in ruff_counts(checkout.root).items()},
    }


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(1, whole):.1f} % ({part})"


def main() -> None:
    """Print the table of measures, or the list behind one."""
    parser = argparse.ArgumentParser(
        description="Measure the structure and language of a checkout."
    )
    parser.add_argument(
        "paths", nargs="*", help="a checkout, and with --list folders or files in it"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--list", choices=LISTS, help="print the lines behind a measure")
    chosen = parser.parse_args()
    roots = [Path(path).resolve() for path in chosen.paths if (Path(path) / "bo_invert").is_dir()]
    checkout = Checkout(roots[0] if roots else HERE)
    if chosen.list:
        within = [Path(path) for path in chosen.paths if not (Path(path) / "bo_invert").is_dir()]
        found = [
            one for one in LISTS[chosen.list](checkout) if _below(one.path, within, checkout.root)
        ]
        for one in sorted(found, key=lambda one: (one.path, one.line)):
            print(one)
        by_rule = ", ".join(
            f"{count} {rule}" for rule, count in Counter(one.rule for one in found).items()
        )
        print(f"{len(found)} findings" + (f": {by_rule}" if by_rule else ""), file=sys.stderr)
        return
    table = measures(checkout)
    if chosen.json:
        print(json.dumps({name: value for name, (value, _) in table.items()}, indent=2))
        return
    width = max(map(len, table))
    values = max(len(str(value)) for value, _ in table.values())
    print(f"{'measure':{width}}  {'value':{values}}  required")
    for name, (value, required) in table.items():
        print(f"{name:{width}}  {value!s:{values}}  {required}".rstrip())


def _below(path: str, within: Iterable[Path], root: Path) -> bool:
    full = root / path
    tops = [one.resolve() if one.is_absolute() or one.exists() else root / one for one in within]
    return not tops or any(full == top or top in full.parents for top in tops)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
