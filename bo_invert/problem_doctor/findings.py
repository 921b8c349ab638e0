"""Findings of the doctor: a code, a message and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import partial
from textwrap import fill
from typing import TypeVar

from bo_invert.errors import printable
from bo_invert.problems.recorded_versions import provenance_rows
from bo_invert.report.templating import render
from bo_invert.types import JSON

T = TypeVar("T")


class Severity(StrEnum):
    """Severity of a finding: after an ``error`` a study fails or misleads; a ``warning`` needs
    action."""

    ok = "ok"
    note = "note"
    warning = "warning"
    error = "error"
    advice = "advice"


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Args:
        code: stable identifier, such as ``"oracle.noisy"``.
        severity: severity of the finding.
        message: observation with its numbers, a sentence without a full stop.
        remedy: recommended action; empty if none is needed.
        numbers: JSON values behind the message.
    """

    code: str
    severity: Severity
    message: str
    remedy: str = ""
    numbers: Mapping[str, JSON] = field(default_factory=dict)

    def to_json(self) -> JSON:
        return asdict(self)


def finding(
    severity: Severity, code: str, message: str, remedy: str = "", /, **numbers: JSON
) -> Finding:
    """Return a finding; keyword arguments become its ``numbers``."""
    return Finding(code, severity, message, remedy, numbers)


ok, note, warning, error, advice = (partial(finding, severity) for severity in Severity)

Rule = tuple[object, Finding]
"""Condition, and the finding that is reported where the condition is true."""


def first(*rules: Rule) -> list[Finding]:
    """Return the finding of the first rule that applies; an empty list if none does."""
    return every(*rules)[:1]


def every(*rules: Rule) -> list[Finding]:
    """Return the findings of all rules that apply."""
    return [found for applies, found in rules if applies]


def attempt(function: Callable[..., T], *arguments: object) -> tuple[T | None, Exception | None]:
    """Call a function of the user; return its result or its exception."""
    try:
        return function(*arguments), None
    except Exception as fault:
        return None, fault


_COLOURS = {
    Severity.error: "#c62828",
    Severity.warning: "#b26a00",
    Severity.note: "#1565c0",
    Severity.ok: "#2e7d32",
    Severity.advice: "#4527a0",
}
"""Colours of the severities, in the order of the report."""


@dataclass(frozen=True, eq=False, repr=False)
class DoctorReport:
    """Report of ``bi.doctor``.

    Args:
        problem: name of the problem.
        findings: findings in the order of the checks; advice is last.
        calls: oracle calls made, values plus gradients.
        limit: oracle calls allowed.
        seconds: time inside the oracle.
        judged: calls of the judge, which are not oracle calls.
        provenance: versions and the hash of the oracle, as in a study header.
        finished: all checks ran; False after an interruption or a hang.
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
        """True if any finding is an error."""
        return any(one.severity is Severity.error for one in self.findings)

    @property
    def interrupted(self) -> bool:
        """True if the user interrupted the checks."""
        return self.find("doctor.interrupted") is not None

    @property
    def advice(self) -> tuple[Finding, ...]:
        """Recommended strategies with reasons."""
        return self.of(Severity.advice)

    def of(self, severity: Severity | str) -> tuple[Finding, ...]:
        """Return the findings of one severity."""
        return tuple(one for one in self.findings if one.severity == severity)

    def find(self, code: str) -> Finding | None:
        """Return the finding with this code, or None."""
        return next((one for one in self.findings if one.code == code), None)

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of all findings, in order."""
        return tuple(one.code for one in self.findings)

    @property
    def bill(self) -> str:
        """Cost as text."""
        parts = [
            f"{self.calls} of {self.limit} oracle calls, {seconds(self.seconds)}",
            f"{self.judged} judge calls" if self.judged else "",
            "" if self.finished else "stopped early",
        ]
        return "; ".join(filter(None, parts))

    def to_json(self) -> JSON:
        """Return the report as JSON values."""
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
        lines = [f"Doctor report of {self.problem!r}: {self.bill}"]
        codes = max(map(len, self.codes), default=0)
        for one in self._sorted:
            head = f"  {one.severity:<8}{one.code:<{codes}}  "
            text = f"{one.message}. {one.remedy}".removesuffix(". ")
            lines.append(fill(text, 98, initial_indent=head, subsequent_indent=" " * len(head)))
        facts = provenance_rows(self.provenance)
        return printable(
            "\n".join([*lines, *(f"  {label:<{codes + 8}}  {text}" for label, text in facts)])
        )

    def _repr_html_(self) -> str:
        return render(
            "findings.html",
            report=self,
            findings=self._sorted,
            colours=_COLOURS,
            facts=provenance_rows(self.provenance),
        )

    @property
    def _sorted(self) -> Sequence[Finding]:
        return sorted(self.findings, key=lambda one: list(_COLOURS).index(one.severity))


def seconds(value: float) -> str:
    """Format a duration in seconds, such as 3 ms, 2.1 s, 4 min or 1.5 h."""
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
    """Format a count as ``3 of 8`` or ``all 8``."""
    return f"{count} of {of}" if count < of else f"all {of}"
