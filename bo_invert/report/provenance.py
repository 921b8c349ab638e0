"""Results of different code under one name: what a comparison must not hide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bo_invert.report.runs import Run
from bo_invert.report.table import Table

UNKNOWN = "not noted"
MIXED = "Warning: results of different code under one name"


def provenance_table(runs: Sequence[Run]) -> Table:
    """Methods whose runs were made with different code or packages, and problems that changed between runs.

    A method's runs of which nobody noted the code are told from those where it was. That alone is no reason to suspect
    a problem, whose runs are of many methods.
    """
    rows: list[tuple[Any, ...]] = []
    for kind in ("method", "problem"):
        groups: dict[str, dict[tuple[str, str], list[Run]]] = {}
        for run in runs:
            made = (run.code.get(kind) or UNKNOWN, _packages(run) if kind == "method" else "")
            groups.setdefault(run.label if kind == "method" else run.problem, {}).setdefault(
                made, []
            ).append(run)
        alike: dict[tuple[str, ...], list[tuple[str, str, list[Run]]]] = {}
        for name, versions in groups.items():
            suspected = set(versions) if kind == "method" else set(versions) - {(UNKNOWN, "")}
            if len(suspected) > 1:
                for (source, packages), same in versions.items():
                    of = _listed(run.problem if kind == "method" else run.label for run in same)
                    commits = _listed(run.code.get("commit") for run in same)
                    # One change of the loop changes every problem: that is one row, not ten.
                    key = (packages, commits, of, name if kind == "method" else "")
                    alike.setdefault(key, []).append((name, source, same))
        for (packages, commits, of, _), group in alike.items():
            sources = list(dict.fromkeys(source for _, source, _ in group))
            shown = sources[0] if len(sources) == 1 else "one each"
            count = sum(len(same) for _, _, same in group)
            rows.append(
                (kind, _listed(name for name, _, _ in group), shown, packages, commits, count, of)
            )
    notes = (
        "A + behind a commit: the files differed from it. A problem counts together with the loop that asks and tells.",
        "Delete the files of a method's results to have it run again.",
    )
    columns = ("what", "name", "fingerprint", "packages", "commits", "runs", "of")
    return Table(columns, tuple(rows), MIXED, notes)


def _packages(run: Run) -> str:
    return _listed(
        f"{name} {version}" for name, version in sorted(run.code.get("versions", {}).items())
    )


def _listed(things: Any) -> str:
    return ", ".join(dict.fromkeys(str(thing) for thing in things if thing)) or "–"
