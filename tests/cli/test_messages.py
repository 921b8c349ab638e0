"""Messages of the library that the command line shows: options instead of Python calls."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import bo_invert
from bo_invert.cli.messages import command_text

PACKAGE = Path(bo_invert.__file__).parent
PYTHON_ONLY = {
    "domains/constrained_box.py", "study/copying.py", "study/distinct_queries.py",
    "study/header.py", "study/continuation.py", "study/next_steps.py",
    "study/outcome_messages.py", "study/retargeting.py",
    "study/robustness.py", "study/solutions.py", "study/tolerance_checks.py",
    "storage/trial_transitions.py",
}  # fmt: skip
"""Files with messages that no command shows, or whose calls have parts computed at run time."""
CALL = re.compile(r"\bstudy\.\w+\(|\b(?:run|enqueue)\(|\b(?:find|stop|budget|retries|fixed)=")


def literals(tree: ast.AST) -> Iterator[str]:
    """Yield the texts of a file that are no docstrings, with 7 or 'x' for computed parts."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
              for part in ast.walk(node) if part is not node}  # fmt: skip
    inside |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in inside:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant)
                else "'x'" if isinstance(part, ast.FormattedValue) and part.conversion == ord("r")
                else "7"
                for part in node.values
            )  # fmt: skip


def test_no_message_names_a_python_call() -> None:
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith("cli/") or name in PYTHON_ONLY:
            continue
        for text in literals(ast.parse(path.read_text(encoding="utf-8"))):
            if " " in text and CALL.search(command_text(text)):
                wrong.append(f"{name}: {command_text(text)}")
    assert wrong == []


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("use run(stop='verdict')", "use `bo-invert run --stop verdict`"),
        ("study.run(..., find='all') continues", "`bo-invert run --find all` continues"),
        ("run: find='all' needs a target", "run: --find all needs a target"),
        ("for example with study.run(budget=40).", "with `bo-invert run --budget 40`."),
        ("Use study.run(retries=2); each", "Use `bo-invert worker --retries 2`; each"),
        ("Use study.run(retries=...) for", "Use `bo-invert worker --retries N` for"),
        ("one of study.solutions(), or", "one of `bo-invert solutions`, or"),
        ("study.tell(3, bi.FailedError('why')) to", "`bo-invert tell STUDY 3 --failed REASON` to"),
        (
            "call study.tell(3, [0.5, 1.0], attempt=0)",
            "record [0.5, 1.0] with `bo-invert tell STUD",
        ),
        ("study.recommend() returns", "`bo-invert best` returns"),
        ('with storage="sqlite:///runs.db";', "with --storage sqlite:///runs.db;"),
        ("bi.Isolated(oracle, timeout=...)", "bi.Isolated(oracle, timeout=...)"),
        ("Pass points instead (add(points=...), enqueue(point=...)).", "Pass points instead."),
        ("Open the study with problem=...", "Pass --problem file.py:name"),
    ],
)
def test_calls_become_commands(message: str, shown: str) -> None:
    assert shown in command_text(message)
