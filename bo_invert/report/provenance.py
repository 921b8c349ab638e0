"""Provenance of results: a warning if results of one name were created by different code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from operator import attrgetter

from bo_invert.report.runs import Run, grouped
from bo_invert.report.table import Table

UNKNOWN = "not recorded"
MIXED = "Warning: results of different code under one name"


def provenance_table(runs: Sequence[Run]) -> Table:
    """Return methods and problems whose runs were created by different code or packages.

    Runs without recorded code form a version of their own. That alone is no evidence against a
    problem, whose runs belong to many methods.
    """
    rows: list[tuple[object, ...]] = []
    for kind, named, other in (("method", "label", "problem"), ("problem", "problem", "label")):
        alike: dict[tuple[str, ...], list[tuple[str, str, int]]] = {}
        for name, own in grouped(runs, attrgetter(named)).items():
            versions = grouped(own, partial(_version, kind=kind))
            if len(versions) - (kind == "problem" and (UNKNOWN, "") in versions) > 1:
                for (source, packages), same in versions.items():
                    of = _listed(getattr(run, other) for run in same)
                    commits = _listed(run.code.get("commit") for run in same)
                    # One change of the study loop changes every problem: one row, not ten.
                    key = (packages, commits, of, name if kind == "method" else "")
                    alike.setdefault(key, []).append((name, source, len(same)))
        for (packages, commits, of, _), group in alike.items():
            names, sources, counts = zip(*group, strict=True)
            shown = sources[0] if len(set(sources)) == 1 else "one each"
            rows.append((kind, _listed(names), shown, packages, commits, sum(counts), of))
    notes = (
        "+ after a commit: modified files. The version of a problem includes the study loop.",
        "To run a method again, delete the files of its results.",
    )
    columns = ("kind", "name", "fingerprint", "packages", "commits", "runs", "runs of")
    return Table(columns, tuple(rows), MIXED, notes)


def _version(run: Run, kind: str) -> tuple[str, str]:
    """Return the fingerprint of a run and, for a method, the packages that it used."""
    packages = sorted(run.code.get("versions", {}).items())
    listed = _listed(f"{name} {version}" for name, version in packages)
    return run.code.get(kind) or UNKNOWN, listed if kind == "method" else ""


def _listed(things: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(thing) for thing in things if thing)) or "–"
