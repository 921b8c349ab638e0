"""Carry stored benchmark rows over to the present code where golden proposals justify it.

A row stores fingerprints of the code that made it, and the commit. A refactoring changes the
fingerprints, but no result. The script records proposals of each method on each problem of the
suite, with the code of every commit named in the rows and with the present code. Where both
recordings agree bit for bit, the rows get the present fingerprints. All other rows stay unchanged:
those with different proposals, an unknown commit, or uncommitted changes.

One command, which can be repeated whenever the code changed::

    export OMP_NUM_THREADS=1 PYTHONPATH=$PWD
    python experiments/carry_over.py docs/benchmarks/results --jobs 2 --write

Recordings of commits are stored in ``--recordings`` and used again. They must come from the same
machine.
``row["code"]["recorded"]`` holds the fingerprints with which a row was written. The commit stays.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import golden

import bo_invert
from bo_invert.benchmark.fingerprint import code_of

ROOT = Path(__file__).resolve().parents[1]


@cache
def present_code(strategy: str, problem: str) -> dict[str, Any]:
    """Return the fingerprints of a method and a problem in the present code."""
    return dict(code_of(strategy, problem))


def record(out: Path, package: Path, jobs: int, keys: set[str]) -> dict[str, Any]:
    """Record cases of the suite with the package in a folder; return the records by key.

    A file that exists is read instead. Cases that the package cannot run are missing.
    """
    if not out.exists():
        command = [sys.executable, str(ROOT / "experiments" / "golden.py"), "record", str(out)]
        command += ["--suite", "--jobs", str(jobs), "--strategies", *sorted(keys)]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": str(package)}, check=False)
    return dict(json.loads(out.read_text(encoding="utf-8"))["records"])


def checkout(commit: str, folder: Path) -> Path:
    """Write the package of a commit into a folder."""
    made = folder / f"code-{commit}"
    if not made.exists():
        command = ["git", "-C", str(ROOT), "archive", commit, "bo_invert"]
        packed = subprocess.run(command, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(made, filter="data")
    return made


def kind_of(row: dict[str, Any], same: dict[str, set[str]] | None = None) -> str:
    """Classify a row by its code.

    Args:
        row: of a results file.
        same: keys of unchanged cases by commit; None before the commits are compared.
    """
    code = row.get("code") or {}
    if not code.get("method"):
        return "of unknown code"
    now = present_code(row["spec"]["name"], row["problem"])
    if all(code[name] == now[name] for name in ("method", "problem")):
        return "up to date"
    if not code.get("commit") or code["commit"].endswith("+"):
        return "of uncommitted code"
    if same is None:
        return "stale"
    key = golden.suite_key(row["spec"], row["problem"])
    return "carried over" if key in same[code["commit"]] else "of other code"


def carried(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the present fingerprints."""
    code = row["code"]
    recorded = code.get("recorded") or {name: code[name] for name in ("method", "problem")}
    now = present_code(row["spec"]["name"], row["problem"])
    present = {name: now[name] for name in ("method", "problem")}
    return {**row, "code": {**code, **present, "recorded": recorded}}


def unchanged(before: dict[str, Any], present: dict[str, Any], commit: str) -> set[str]:
    """List the cases on which two recordings agree; print the first difference of others."""
    same = set()
    for key in sorted(before.keys() & present.keys()):
        found = next(golden.differences(before[key], present[key]), None)
        if found is None:
            same.add(key)
        else:
            print(f"{commit} {key}: {found}")
    return same


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="folder with results, docs/benchmarks/results")
    parser.add_argument(
        "--recordings", type=Path, default=Path("runs/carry_over"), help="folder for recordings"
    )
    parser.add_argument("--now", type=Path, help="recording of the present code, if there is one")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument(
        "--write", action="store_true", help="rewrite the rows; default: count only"
    )
    arguments = parser.parse_args()
    if ROOT not in Path(bo_invert.__file__).parents:
        parser.error(f"bo_invert must be imported from {ROOT}; set PYTHONPATH={ROOT}")
    folder = arguments.recordings.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    rows = {
        file: [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for file in sorted(arguments.results.rglob("*.jsonl"))
    }
    every = [row for each in rows.values() for row in each]
    keys: dict[str, set[str]] = {}
    for row in every:
        if kind_of(row) == "stale":
            key = golden.suite_key(row["spec"], row["problem"])
            keys.setdefault(row["code"]["commit"], set()).add(key)
    now = (arguments.now or folder / "now.json").resolve()
    if arguments.now is None:
        now.unlink(missing_ok=True)
    same: dict[str, set[str]] = {}
    for commit, wanted in sorted(keys.items()):
        present = record(now, ROOT, arguments.jobs, set().union(*keys.values()))
        out = folder / f"{commit}.json"
        before = record(out, checkout(commit, folder), arguments.jobs, wanted)
        same[commit] = unchanged(before, present, commit)
    count: Counter[str] = Counter()
    for file, each in rows.items():
        new = []
        for row in each:
            kind = kind_of(row, same)
            row = carried(row) if kind == "carried over" else row
            count[kind] += 1
            new.append(json.dumps(row, allow_nan=False, separators=(",", ":")) + "\n")
        if arguments.write:
            file.write_text("".join(new), encoding="utf-8")
    print(", ".join(f"{number} rows {kind}" for kind, number in sorted(count.items())))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
