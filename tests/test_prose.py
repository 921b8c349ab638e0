"""Tests of names, prose and constants by the rules of ``prose_rules``, and ruff ceilings."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import prose_rules as rules
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = rules.python_files(ROOT, "bo_invert")
PYTHON = [*PACKAGE, *rules.python_files(ROOT, "tests", "experiments", "notebooks")]
CEILINGS = {"D401": 0, "PLC0415": 129, "BLE001": 28, "PLR0913": 55, "ANN401": 43}
"""Allowed violations of each ruff rule in ``bo_invert``. A command has one argument per option, so
PLR0913 does not count commands."""


def violations() -> dict[str, list[rules.Finding]]:
    """Return all findings by rule."""
    found: dict[str, list[rules.Finding]] = {}
    for path in sorted({*PYTHON, *rules.text_files(ROOT)} - rules.EXEMPT):
        for one in rules.prose(ROOT, path):
            found.setdefault(one.rule, []).append(one)
    return found


@pytest.fixture(scope="module")
def found() -> dict[str, list[rules.Finding]]:
    return violations()


@pytest.mark.parametrize(
    "rule", ["banned word", "first word", "identifier", "line length", "constant"]
)
def test_rule(rule: str, found: dict[str, list[rules.Finding]]) -> None:
    over = found.get(rule, [])
    assert not over, f"{len(over)} violations\n" + "\n".join(map(str, over[:40]))


def test_ruff_counts_stay_below_their_ceilings() -> None:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not installed")
    command = [ruff, "check", "--isolated", "--exit-zero", "--output-format", "json", "--no-cache"]
    command += ["--select", ",".join(CEILINGS), "--target-version", "py311"]
    command += ["--per-file-ignores", "**/cli/*.py:PLR0913", str(ROOT / "bo_invert")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    counts = Counter(one["code"] for one in json.loads(ran.stdout))
    assert {code: counts[code] for code in CEILINGS if counts[code] > CEILINGS[code]} == {}


def source(text: str) -> rules.Source:
    """Return a source of package code with the given text."""
    tree = rules.ast.parse(text)
    return rules.Source("bo_invert/example.py", text, tree, tuple(rules.ast.walk(tree)))


@pytest.mark.parametrize(
    "text",
    [
        '"""Return the told trials."""',
        '"""Points so\nmany that none is left."""',
        "x = 1  # nobody reads this",
        "raise ValueError('what came of the call')",
        "raise ValueError(f'trial {number} was taken for noise')",
        "option(help='The one who is asked')",
        "def f():\n    '''Draw anew.'''",
        "x = 1\n'''Whatever it costs.'''",
    ],
)
def test_banned_words_are_found(text: str) -> None:
    example = source(text)
    assert list(rules.banned(example.path, rules.pieces(example)))


@pytest.mark.parametrize(
    "text",
    [
        'event["told"] = 1',
        '"""Return the value of ``told`` in the log."""',
        '"""Results are kept in memory."""',
        '"""Newest files come first."""',
        "x = 'nobody'",
    ],
)
def test_log_keys_and_code_are_allowed(text: str) -> None:
    example = source(text)
    assert not list(rules.banned(example.path, rules.pieces(example)))


@pytest.mark.parametrize(
    "text",
    ["told = 1", "x.kept", "def said(): ...", "f(heard=1)", "class Heard: ...", "_told_x = 0"],
)
def test_banned_identifiers_are_found(text: str) -> None:
    assert list(rules.identifiers(source(text)))


@pytest.mark.parametrize("text", ["untold = 1", "x['kept']", "observed = 'said'", "keptical = 1"])
def test_other_identifiers_are_allowed(text: str) -> None:
    assert not list(rules.identifiers(source(text)))


@pytest.mark.parametrize("first", rules.OPENINGS)
@pytest.mark.parametrize("text", ["'''{} x.'''", "def f():\n    '''{} x.'''", "x = 1\n'''{} x.'''"])
def test_first_words_are_found(first: str, text: str) -> None:
    assert list(rules.openings(source(text.format(first))))
    assert not list(rules.openings(source(text.format(f"Some {first}"))))


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("_MANY = 40", False),
        ("_MANY = 40\n'''Points that are looked at.'''", False),
        ("_MANY = 40\n'''Engineering choice: it works.'''", False),
        ("_MANY = 40\n'''Starting points; Eriksson et al. 2019.'''", True),
        ("# Seconds; engineering limit, see experiments/kills.py.\n_WAIT = 1.5", True),
        ("_EPS = 1e-8  # dimensionless, machine epsilon to the power 1/2", True),
        ("_LOW, _HIGH = 0.1, 10.0", False),
        ("class A:\n    _SIZES = (1, 2)", False),
        ("_RATES: dict[str, float] = {'a': 0.1}", False),
        ("_NAME = 'x'", True),
        ("MANY = 40", True),
    ],
)
def test_constants_need_a_unit_and_a_source(text: str, accepted: bool) -> None:
    assert (not list(rules.unsourced(source(text)))) == accepted


def test_long_lines_are_found() -> None:
    assert list(rules.long_lines(source("#" + "x" * rules.WIDTH)))
    assert not list(rules.long_lines(source("#" + "x" * (rules.WIDTH - 1))))
