"""Messages of the library in terms of the command line: options instead of Python arguments."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from contextlib import suppress
from shlex import quote

_OPTIONS = "outside|blank|repeats|executor|strategy|stop"
"""Arguments that the command line has as options of the same name."""
_COMMANDS = "amend|tell|ask|add|run|solutions|posterior|predict|outlook|polish|verdict|retarget"
"""Methods of a study that the command line has as commands of the same name."""
_STRATEGY = "acquisition|surrogate|kernel|initial"
"""Options of strategies in messages."""


def command_text(message: str) -> str:
    """Return a message with the names of options and commands of ``bo-invert``."""
    for pattern, replacement in _RULES:
        message = pattern.sub(replacement, message)
    return message


def _pairs(option: str) -> Callable[[re.Match[str]], str]:
    """Return a replacement of a dict by one option ``--option KEY=VALUE`` for each entry."""

    def replace(match: re.Match[str]) -> str:
        with suppress(ValueError, SyntaxError):
            entries = ast.literal_eval(match[1]).items()
            return " ".join(f"{option} {quote(f'{key}={value}')}" for key, value in entries)
        return match[0]

    return replace


def _run(match: re.Match[str]) -> str:
    """Return the command for a call of ``run``; only ``worker`` has ``--retries``."""
    command = "worker" if match[1] == "retries" else "run"
    value = "N" if match[2] == "..." else match[2]
    return f"`bo-invert {command} --{match[1]} {value}`"


def _sign(match: re.Match[str]) -> str:
    sign = next(one for one in match.groups()[1:] if one is not None)
    return f"--{match[1]} {quote(sign) if sign != ',' else sign}"


_RULES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\b(?:study\.)?run\((?:\.\.\., )?(find|stop|budget|retries)=\W?(\w+|\.\.\.)\W?\)", _run),
        (r"\bfind='(\w+)'", r"--find \1"),
        (r"\bleave find out", "leave --find out"),
        (r", or with run\(reuse_limit=0\) to evaluate known designs again", ""),
        (rf"\b(?:add\(\w+(?:, \w+)*, )?({_OPTIONS})='([\w-]+)'\)?", r"--\1 \2"),
        (rf"\b({_STRATEGY})='([\w-]+)'", r"--option \1=\2"),
        (r"\bnoisy=True\b", "--noisy"),
        (r"\b(decimal|thousands|separator)=(?:'([^']*)'|\"([^\"]*)\")", _sign),
        (r"\bcolumns=(\{[^}]*\})", _pairs("--column")),
        (r"\bfixed=(\{[^}]*\})", _pairs("--fix")),
        (r"\bask: fixed\b", "ask: --fix"),
        (r"\badd: columns, blank,", "add: --column, --blank,"),
        (r"\bat: ", "--at: "),
        (r" Name the outputs, as in bi\.Target\(.*?\)\. Objective and constraints.*?outputs\.", ""),
        (
            r"\bFor each design give a number, a vector or a dict with .*?InfeasibleError",
            "Give OUTPUT=VALUE for each, or --failed or --infeasible",
        ),
        (r"\bextra: ", "--extra: "),
        (
            r"\bstudy\.tell\((\d+), bi\.FailedError\('why'\)\)",
            r"`bo-invert tell STUDY \1 --failed REASON`",
        ),
        (
            r"\bcall study\.tell\((\d+), (\[.*?\]), attempt=\d+\)",
            r"record \2 with `bo-invert tell STUDY \1`",
        ),
        (r", or study\.cancel\(\d+\) to skip it", ""),
        (r"\bRead study\.trials\[\d+\]", "Read it with `bo-invert trials`"),
        (r"\bpass FailedError\('why'\)", "give --failed REASON"),
        (r"\(exist_ok=True\) ", ""),
        (r"\bpass problem=( to continue it| for models)?", r"pass --problem file.py:name\1"),
        (r"\bstudy\.amend\(trial, (at|extra)=\.\.\.\)", r"`bo-invert amend --\1 NAME=VALUE`"),
        (r"\bstudy\.amend\(trial, \.\.\.\)", "`bo-invert amend`"),
        (r"\bstudy\.(?:recommend\(\)|best\b)", "`bo-invert best`"),
        (r" \(?(?:study\.)?add\(points=[^()]*\)(?:, enqueue\(point=[^()]*\))?\)?", ""),
        (r"\bstudy\.add and study\.enqueue need", "`bo-invert add` needs"),
        (
            r"\bstudy\.retarget\(Target\(value, tolerance=\.\.\.\)\)",
            "`bo-invert retarget STUDY NEW --target OUTPUT=VALUE --tolerance T`",
        ),
        (
            rf"\bstudy\.({_COMMANDS})\((?:\.\.\.)?\)",
            r"`bo-invert \1`",
        ),
        (r", `?study\.enqueue\(\) to evaluate the point again,", ","),
        (r", or use enqueue\(design\) to repeat one", ""),
        (r"\bUse enqueue\((?:design)?\)", "Use `bo-invert add` with a row without outputs"),
        (r"study\.retry\(\d+\) to evaluate it again \((bo-invert run --unpause)\)", r"`\1`"),
        (r"\b(Use )?calls=0\b", r"\1--calls 0"),
        (r"\bcalls > 0 checks", "--calls above 0 checks"),
        (r"\bPass (tolerance|strategy)=", r"Pass --\1"),
        (r"\bstorage=['\"]([^'\"]*)['\"]", r"--storage \1"),
        (r"\bOpen the study with problem=\.\.\.", "Pass --problem file.py:name"),
        (r"\(batch=(\d+), executor=\.\.\.\)", r"(--batch \1 --executor processes)"),
        (r"\b(use|give) token=\.\.\.", r"\1 --token TOKEN"),
        (r"(?<!oracle, )\btimeout=", "--timeout "),
    )
)
