"""Provenance of results: a warning if results of one name were created by different code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bo_invert.report.runs import Run
from bo_invert.report.table import Table

UNKNOWN = "not recorded"
MIXED = "Warning: results of different code under one name"


def provenance_table(runs: Sequence[Run]) -> Table:
    """Return methods and problems whose runs were created by different code or packages.

    Runs without recorded code form a version of their own. That alone is no evidence against a
    problem, whose runs belong to many methods.
    """
    rows: list[tuple[object, ...]] = []
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
                    # One change of the study loop changes every problem: one row, not ten.
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
        "+ after a commit: modified files. The version of a problem includes the study loop.",
        "To run a method again, delete the files of its results.",
    )
    columns = ("kind", "name", "fingerprint", "packages", "commits", "runs", "runs of")
    return Table(columns, tuple(rows), MIXED, notes)


def _packages(run: Run) -> str:
    return _listed(
        f"{name} {version}" for name, version in sorted(run.code.get("versions", {}).items())
    )


def _listed(things: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(thing) for thing in things if thing)) or "–"
