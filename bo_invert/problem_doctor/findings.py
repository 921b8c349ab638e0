"""What a checkup found: a code for programs, a sentence for people, numbers for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from html import escape
from textwrap import fill
from typing import Any

from bo_invert.problems.provenance import told
from bo_invert.types import JSON, printable


class Severity(StrEnum):
    """How bad it is: with an ``error`` a study fails, or is misled; a ``warning`` calls for something to be done."""

    ok = "ok"
    note = "note"
    warning = "warning"
    error = "error"
    advice = "advice"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        code: what it is, as ``"oracle.noisy"``; the same from version to version.
        severity: how bad it is.
        message: what was seen, a sentence with its numbers.
        remedy: what to do; empty where nothing needs to be.
        numbers: behind the message, JSON values.
    """

    code: str
    severity: Severity
    message: str
    remedy: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> JSON:
        return {
            "code": self.code,
            "severity": str(self.severity),
            "message": self.message,
            "remedy": self.remedy,
            "numbers": dict(self.numbers),
        }


def ok(
    code: str, message: str, remedy: str = "", numbers: Mapping[str, Any] | None = None
) -> Finding:
    """As it should be."""
    return Finding(code, Severity.ok, message, remedy, numbers or {})


def note(
    code: str, message: str, remedy: str = "", numbers: Mapping[str, Any] | None = None
) -> Finding:
    """Good to know."""
    return Finding(code, Severity.note, message, remedy, numbers or {})


def warning(
    code: str, message: str, remedy: str = "", numbers: Mapping[str, Any] | None = None
) -> Finding:
    """Something should be done."""
    return Finding(code, Severity.warning, message, remedy, numbers or {})


def error(
    code: str, message: str, remedy: str = "", numbers: Mapping[str, Any] | None = None
) -> Finding:
    """A study would fail, or be misled."""
    return Finding(code, Severity.error, message, remedy, numbers or {})


_ORDER = (Severity.error, Severity.warning, Severity.note, Severity.ok, Severity.advice)
_COLOURS = {
    "error": "#c62828",
    "warning": "#b26a00",
    "note": "#1565c0",
    "ok": "#2e7d32",
    "advice": "#4527a0",
}


@dataclass(frozen=True, eq=False, repr=False)
class DoctorReport:
    """What ``bi.doctor`` found.

    Args:
        problem: its name.
        findings: in the order in which they were made; advice comes last.
        calls: of the oracle that were made, gradients included.
        limit: how many were allowed.
        seconds: that they took.
        judged: calls of the judge, which are not the oracle's.
        provenance: versions, and a hash of the oracle, as a study notes them.
        finished: whether all was looked at; False after an interruption or a hang.
    """

    problem: str
    findings: tuple[Finding, ...]
    calls: int
    limit: int
    seconds: float
    judged: int
    provenance: JSON
    finished: bool = True

    @property
    def hopeless(self) -> bool:
        """Whether a study of this problem would fail, or be misled."""
        return any(one.severity is Severity.error for one in self.findings)

    @property
    def interrupted(self) -> bool:
        """Whether somebody did not wait for the end."""
        return self.find("doctor.interrupted") is not None

    @property
    def advice(self) -> tuple[Finding, ...]:
        """Which strategy to take, and why."""
        return self.of(Severity.advice)

    def of(self, severity: Severity | str) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(one for one in self.findings if one.severity == severity)

    def find(self, code: str) -> Finding | None:
        """The finding of this code; None if it was not made."""
        return next((one for one in self.findings if one.code == code), None)

    @property
    def codes(self) -> tuple[str, ...]:
        """Of all findings, in order."""
        return tuple(one.code for one in self.findings)

    @property
    def bill(self) -> str:
        """What it cost, in words."""
        calls = f"{self.calls} call{'s' * (self.calls != 1)} of the {self.limit} allowed, {seconds(self.seconds)}"
        judge = f"; the judge was asked {self.judged} times" if self.judged else ""
        return calls + judge + ("" if self.finished else "; not all was looked at")

    def to_json(self) -> JSON:
        """Plain values: everything that is shown, and the numbers behind it."""
        return {
            "problem": self.problem,
            "hopeless": self.hopeless,
            "finished": self.finished,
            "calls": self.calls,
            "limit": self.limit,
            "seconds": self.seconds,
            "judged": self.judged,
            "findings": [one.to_json() for one in self.findings],
            "provenance": self.provenance,
        }

    def __repr__(self) -> str:
        lines = [f"Checkup of {self.problem!r}: {self.bill}"]
        codes = max((len(one.code) for one in self.findings), default=0)
        for one in self._sorted:
            head = f"  {one.severity:<8}{one.code:<{codes}}  "
            said = f"{one.message}. {one.remedy}".removesuffix(". ")
            lines.append(fill(said, 118, initial_indent=head, subsequent_indent=" " * len(head)))
        lines += [f"  {what:<{codes + 8}}  {which}" for what, which in told(self.provenance)]
        return printable("\n".join(lines))

    def _repr_html_(self) -> str:
        cell = "padding:3px 10px;text-align:left;vertical-align:top"
        rows = "".join(
            f'<tr><td style="{cell};color:{_COLOURS[one.severity]};font-weight:600">{one.severity}</td>'
            f'<td style="{cell}"><code>{escape(one.code)}</code></td><td style="{cell}">{escape(one.message)}.'
            f"{f' <em>{escape(one.remedy)}.</em>' if one.remedy else ''}</td></tr>"
            for one in self._sorted
        )
        facts = "".join(
            f"<div><b>{escape(what)}</b>: {escape(which)}</div>"
            for what, which in told(self.provenance)
        )
        return (
            '<div style="font-family:system-ui,sans-serif;border:1px solid #8884;border-radius:10px;padding:12px 16px;'
            f'max-width:72em"><strong>Checkup of {escape(self.problem)}</strong>: {escape(self.bill)}'
            f'<table style="border-collapse:collapse;margin:8px 0">{rows}</table>'
            f'<div style="opacity:.7;font-size:85%;overflow-wrap:anywhere">{facts}</div></div>'
        )

    @property
    def _sorted(self) -> Sequence[Finding]:
        return sorted(self.findings, key=lambda one: _ORDER.index(one.severity))


def seconds(value: float) -> str:
    """A time as people say it: 3 ms, 2.1 s, 4 min, 1.5 h."""
    for limit, unit, size in (
        (1e-3, "µs", 1e-6),
        (1.0, "ms", 1e-3),
        (120.0, "s", 1.0),
        (7200.0, "min", 60.0),
    ):
        if value < limit:
            return (
                f"{value / size:.2g} {unit}"
                if value / size < 99.5
                else f"{value / size:.0f} {unit}"
            )
    return f"{value / 3600.0:.2g} h" if value < 360_000 else f"{value / 86_400.0:,.0f} days"


def share(count: int, of: int) -> str:
    """A part of several, as people say it."""
    return f"{count} of {of}" if count < of else f"all {of}"
