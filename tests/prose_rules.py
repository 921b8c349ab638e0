"""Writing rules as data: banned words, opening words, identifiers, line length and constants.

``experiments/house.py`` lists the violations; ``tests/test_prose.py`` enforces them.
Standard library only.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

WIDTH = 100
"""Longest line in columns."""

WORDS = {
    r"\btold\b": "observed, completed, reported",
    r"\bforetold\b": "predicted",
    r"\bsaid\b": "reported, printed, stated",
    r"\bheard\b": "received, captured",
    r"\bbarren\b": "failed",
    r"\b(?:the|a) wish(?:es)?\b|\bwish(?:es)? for\b|\bwished\b": "plausibility penalty, preference",
    r"\b(?:the|a|an|all|every|each|no|any|its|their|of|last|largest|first|these|those) kept\b"
    r"|\bkept (?:ones?|trials?|points?|designs?|values?|rows?|sums?|runs?|queries|outputs?)\b"
    r"|\bwhat (?:is|was|are|were) kept\b": "retained, stored",
    r"\bnobody\b|\bnobody's\b": "no user, no process, nothing (name the actor)",
    r"\bsomebody\b|\bsomeone\b": "name the actor: a user, another process",
    r"\bwho(?:m|so)?ever\b": "name the actor; any caller",
    r"\banew\b|\bbegun anew\b": "again; resample",
    r"\blest\b": "to avoid, because",
    r"\bin vain\b": "without improvement, unsuccessful",
    r"\bso (?:many|much)\b": "state the number or name the quantity",
    r"\bas far as\b": "up to, within",
    r"\b(?:is|are|was|were|be|been|often) taken for\b": "is treated as",
    r"\b(?:came|come|comes|became|become|becomes) of\b(?! age)": "outcome, result",
    r"\bas good as\b": "nearly, equivalent to",
    r"\bwhatever (?:it|they|he)\b": "regardless of (name the noun)",
    r"\b(?:he|she|those|one|anyone|everybody|everyone) who\b|[.:;,] who [a-z]+"
    r"|\bwho is\b": "name the actor: the caller, the strategy",
    r"\bthat is all\b": "delete",
    r"\bfooled\b": "exploits errors of",
    r"\bas it were\b|\b(?:t?hence|whence|thereof|therein|hither|thither)\b": "plain word",
    r"\bsigns? of life\b": "heartbeat",
    r"\b(?:fell|falls?|fallen) silent\b": "stopped sending heartbeats",
    r"\blast words\b": "last output, last error",
    r"\b(?:the|its|their) likes? of\b": "such as",
}
"""Banned patterns in prose (ignoring case), each with the replacement to consider."""

OPENINGS = ("What", "Whether", "Where", "How", "Which", "Who", "For", "Of", "So")
"""First words that no docstring has."""

IDENTIFIERS = frozenset(
    {"told", "kept", "said", "heard", "foretold", "barren", "wish", "wished", "anew", "nobody"}
)
"""Words that occur in no identifier, also not as a part between underscores or capitals."""

_WORDS = [
    (re.compile(pattern.replace(" ", r"\s+"), re.IGNORECASE), hint)
    for pattern, hint in WORDS.items()
]
_OPENING = re.compile(rf"\s*(?:{'|'.join(OPENINGS)})\b")
_CODE = re.compile(r"``[^`]*``|`[^`\n]*`")
_JS_NAMES = re.compile(r"\?*\.\w+|\b\w+(?=:)")
"""Properties and keys of JavaScript; many are keys of the HTTP API."""
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_PRIVATE = re.compile(r"_[A-Z][A-Z0-9_]*$")
_SOURCE = re.compile(
    r"\bet al\b|\b[A-Z]\w+,? (?:(?:and|&) [A-Z]\w+,? )?\(?(?:19|20)\d\d\b|experiments/|docs/"
    r"|\b(?:RFC|IEEE|ISO|POSIX|HTTP|SQLite|PostgreSQL|MLflow|JSON|WCAG|arXiv|doi)\b|https?://"
    r"|[Mm]achine (?:epsilon|precision)|\b[Dd]efaults? (?:of|in)\b|Engineering choice"
    r"|\bexact(?:ly)?\b|\b[Bb]y definition\b|\b[Ee]quation\b|\bEq\. ?\(?\d|\b[Tt]able \d"
)
_UNITS = """
dimensionless seconds? minutes? hours? milliseconds? microseconds? days? bytes? bits? [KMG]i?B
characters? columns? rows? lines? pixels? points? trials? calls? evaluations? observations? samples?
draws? iterations? steps? epochs? batch(?:es)? restarts? attempts? retries coordinates? dimensions?
features? units? cells? items? entries events? requests? processes workers? threads? tokens? atoms?
designs? queries counts? numbers? fraction share ratio factor multiples? probability probabilities
quantile percent degrees? radians? met(?:re|er)s? deviations? sd variances? nats? lengthscales?
weights? codes? ports? width height size colou?rs? digits? figures? decimals? significance level
tolerance exponent power order radius versions? seeds? runs? studies files? folders? names?
messages? candidates? starts? paths? groups? nodes? layers? channels? neurons? parameters?
constants? coefficients? curves? ticks? inch(?:es)? dpi em px pt cube
"""
_UNIT = re.compile(rf"\b(?:{'|'.join(_UNITS.split())})\b|%", re.IGNORECASE)


EXEMPT = frozenset({"tests/prose_rules.py", "tests/test_prose.py", "experiments/faults.py"})
"""Files that quote the banned words; ``faults`` quotes the code of the former version."""


@dataclass(frozen=True)
class Finding:
    """One violation of a rule at a line of a file."""

    path: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


@dataclass(frozen=True)
class Piece:
    """One piece of prose; ``kind`` is docstring, attribute, comment, string or text."""

    line: int
    kind: str
    text: str


@dataclass(frozen=True, eq=False)
class Source:
    """One Python file, read and parsed once."""

    path: str
    text: str
    tree: ast.Module
    nodes: tuple[ast.AST, ...] = field(repr=False)

    @cached_property
    def lines(self) -> list[str]:
        """Lines without their ends."""
        return self.text.splitlines()


@cache
def parse(root: Path, path: str) -> Source:
    """Read and parse ``root / path``."""
    text = (root / path).read_text(encoding="utf-8")
    tree = ast.parse(text)
    return Source(path, text, tree, tuple(ast.walk(tree)))


def python_files(root: Path, *folders: str) -> list[str]:
    """List Python files below the folders of a checkout as relative POSIX paths."""
    found = (path for folder in folders for path in (root / folder).rglob("*.py"))
    return sorted(
        path.relative_to(root).as_posix() for path in found if "__pycache__" not in path.parts
    )


def text_files(root: Path) -> list[str]:
    """List documents that hold prose: Markdown pages, notebooks and the service's page."""
    patterns = (
        "*.md",
        "docs/*.md",
        "docs/*/*.md",
        "notebooks/*.ipynb",
        "bo_invert/**/*.html",
        "bo_invert/**/*.js",
    )
    found = {
        path.relative_to(root).as_posix() for pattern in patterns for path in root.glob(pattern)
    }
    return sorted(found)


# --- pieces of prose -------------------------------------------------------------------------


def docstrings(source: Source) -> Iterator[Piece]:
    """Yield docstrings of modules, classes and functions, and those below attributes."""
    for node in source.nodes:
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        before: ast.stmt | None = None
        for index, statement in enumerate(node.body):
            if text := _string_statement(statement):
                if index == 0:
                    yield Piece(statement.lineno, "docstring", text)
                elif isinstance(before, (ast.Assign, ast.AnnAssign)):
                    yield Piece(statement.lineno, "attribute", text)
            before = statement


def _string_statement(statement: ast.stmt) -> str:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return statement.value.value if isinstance(statement.value.value, str) else ""
    return ""


@cache
def comments(source: Source) -> tuple[Piece, ...]:
    """Return all comments; consecutive full-line comments form one piece."""
    found: list[tuple[int, bool, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[: token.start[1]].strip()
            found.append((token.start[0], alone, token.string.lstrip("#: ").strip()))
    pieces: list[Piece] = []
    last, joined = -1, False
    for line, alone, text in found:
        if alone and joined and line == last + 1:
            pieces[-1] = Piece(pieces[-1].line, "comment", f"{pieces[-1].text}\n{text}")
        else:
            pieces.append(Piece(line, "comment", text))
        last, joined = line, alone
    return tuple(pieces)


def strings(source: Source) -> Iterator[Piece]:
    """Yield string literals that hold prose: those with a space, docstrings excepted."""
    own = {id(node.value) for node in source.nodes if isinstance(node, ast.Expr)}
    for node in source.nodes:
        if isinstance(node, ast.JoinedStr):
            own |= {id(value) for value in node.values}
            parts = [
                value.value if isinstance(value, ast.Constant) else "{}" for value in node.values
            ]
            text = "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in own:
            text = node.value
        else:
            continue
        if " " in text.strip():
            yield Piece(node.lineno, "string", text)


def pieces(source: Source) -> Iterator[Piece]:
    """Yield all prose of a Python file."""
    yield from docstrings(source)
    yield from comments(source)
    yield from strings(source)


def text_pieces(root: Path, path: str) -> Iterator[Piece]:
    """Yield the prose of a document: no fenced code, and only Markdown cells of a notebook."""
    text = (root / path).read_text(encoding="utf-8")
    if path.endswith(".ipynb"):
        cells = json.loads(text)["cells"]
        text = "\n".join(
            "".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"
        )
    if path.endswith(".js"):
        text = _JS_NAMES.sub(lambda match: " " * len(match[0]), text)
    lines = text.splitlines()
    fenced, start, block = False, 1, []
    for number, line in enumerate([*lines, ""], 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            line = ""
        if fenced or not line.strip():
            if block:
                yield Piece(start, "text", "\n".join(block))
            block = []
            continue
        if not block:
            start = number
        block.append(line)


# --- rules -----------------------------------------------------------------------------------


def banned(path: str, found: Iterator[Piece]) -> Iterator[Finding]:
    """Yield banned words; code in backticks is exempt."""
    for piece in found:
        text = _CODE.sub(lambda match: " " * len(match[0]), piece.text)
        for pattern, hint in _WORDS:
            for match in pattern.finditer(text):
                line = piece.line + (
                    text[: match.start()].count("\n") if piece.kind != "string" else 0
                )
                word = " ".join(match[0].split())
                yield Finding(path, line, "banned word", f'"{word}" in {piece.kind}; use: {hint}')


def openings(source: Source) -> Iterator[Finding]:
    """Yield docstrings that begin with one of ``OPENINGS``."""
    for piece in docstrings(source):
        if _OPENING.match(piece.text):
            yield Finding(
                source.path, piece.line, "first word", piece.text.strip().splitlines()[0][:70]
            )


def _names(node: ast.AST) -> Iterator[str]:
    for attribute in ("id", "attr", "arg", "asname"):
        if isinstance(value := getattr(node, attribute, None), str):
            yield value
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.alias)):
        yield node.name
    if isinstance(node, (ast.Global, ast.Nonlocal)):
        yield from node.names
    if isinstance(node, ast.ExceptHandler) and node.name:
        yield node.name
    if isinstance(node, ast.MatchAs) and node.name:
        yield node.name


def identifiers(source: Source) -> Iterator[Finding]:
    """Yield banned identifiers, each name once a line, and banned file names."""
    seen = set()
    text = source.text.lower()
    # Most files hold none of the words: their names need no inspection.
    for node in source.nodes if any(word in text for word in IDENTIFIERS) else ():
        for name in _names(node):
            words = {part.lower() for part in _PARTS.findall(name)} & IDENTIFIERS
            if words and (key := (getattr(node, "lineno", 1), name)) not in seen:
                seen.add(key)
                yield Finding(source.path, key[0], "identifier", name)
    if words := {part.lower() for part in _PARTS.findall(Path(source.path).stem)} & IDENTIFIERS:
        yield Finding(source.path, 1, "identifier", f"file name with {', '.join(sorted(words))}")


def long_lines(source: Source) -> Iterator[Finding]:
    """Yield lines of more than ``WIDTH`` columns."""
    for number, line in enumerate(source.lines, 1):
        if len(line) > WIDTH:
            yield Finding(source.path, number, "line length", f"{len(line)} columns")


def _numeric(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
    if isinstance(node, ast.UnaryOp):
        return _numeric(node.operand)
    if isinstance(node, ast.BinOp):
        return (_numeric(node.left) or _numeric(node.right)) and not any(
            isinstance(one, ast.Constant) and isinstance(one.value, str) for one in ast.walk(node)
        )
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return bool(node.elts) and all(map(_numeric, node.elts))
    if isinstance(node, ast.Dict):
        return bool(node.values) and all(map(_numeric, node.values))
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in _NUMERIC_CALLS and any(map(_numeric, node.args))
    return False


_NUMERIC_CALLS = {
    "math.log",
    "math.sqrt",
    "float",
    "int",
    "range",
    "np.array",
    "np.log",
    "np.sqrt",
    "frozenset",
    "timedelta",
}


def constants(source: Source) -> Iterator[tuple[int, str, str]]:
    """Yield line, name and explanation of each private numeric constant of a module or class.

    The explanation is the comment above or at the end of the line and the docstring below.
    """
    above = {piece.line + piece.text.count("\n"): piece.text for piece in comments(source)}
    for node in source.nodes:
        if not isinstance(node, (ast.Module, ast.ClassDef)):
            continue
        for statement, after in zip(node.body, [*node.body[1:], None], strict=True):
            names = [
                name
                for name, value in _assigned(statement)
                if _PRIVATE.match(name) and _numeric(value)
            ]
            if not names:
                continue
            below = _string_statement(after) if after is not None else ""
            first, last = statement.lineno, statement.end_lineno or statement.lineno
            texts = [*(above.get(line, "") for line in range(first - 1, last + 1)), below]
            for name in names:
                yield first, name, " ".join(texts)


def _assigned(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    if (
        isinstance(statement, ast.AnnAssign)
        and statement.value is not None
        and isinstance(statement.target, ast.Name)
    ):
        yield statement.target.id, statement.value
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield target.id, statement.value
            elif isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
                pairs = zip(target.elts, statement.value.elts, strict=False)
                yield from ((one.id, value) for one, value in pairs if isinstance(one, ast.Name))


def unsourced(source: Source) -> Iterator[Finding]:
    """Yield private numeric constants whose explanation names no source or no unit."""
    for line, name, text in constants(source):
        lacking = [
            word for word, rule in (("source", _SOURCE), ("unit", _UNIT)) if not rule.search(text)
        ]
        if lacking:
            yield Finding(
                source.path, line, "constant", f"{name} lacks a {' and a '.join(lacking)}"
            )


_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"(])|\n\s*\n|\n\s*[-*] |:\n")


def long_sentences(source: Source) -> Iterator[Finding]:
    """Yield sentences of docstrings and comments with more than 25 words (advice, not enforced)."""
    for piece in (*docstrings(source), *comments(source)):
        for sentence in _SENTENCE.split(piece.text):
            if len(words := sentence.split()) > 25 and "|" not in sentence:
                at = piece.line + piece.text[: piece.text.find(sentence)].count("\n")
                yield Finding(
                    source.path,
                    at,
                    "long sentence",
                    f"{len(words)} words: {' '.join(words[:8])} ...",
                )


RULES = (openings, identifiers)
"""Rules of one Python file, besides the banned words; package code has two more."""


def prose(root: Path, path: str) -> Iterator[Finding]:
    """Yield all violations of one file, Python or document."""
    if not path.endswith(".py"):
        yield from banned(path, text_pieces(root, path))
        return
    source = parse(root, path)
    yield from banned(path, pieces(source))
    for rule in RULES:
        yield from rule(source)
    if path.startswith("bo_invert/"):
        yield from long_lines(source)
        yield from unsourced(source)
