"""Robustness test: completion and cost of a study whose oracle fails in 30 % of its calls.

python experiments/torture.py --calls 300

The oracle raises, returns NaN or the wrong shape, hangs, segfaults, exits or exhausts memory. It
first notes the call in a file and waits for the disk. In the end the script compares the study's
log with that file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from torture import FINE, WAYS, tortured

KINDS = {
    "isolated": "threads, `Isolated`",
    "processes": "processes",
    "dask": "Dask",
    "threads": "threads alone",
}


def main() -> None:
    """Print a table."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--calls", type=int, default=300)
    options.add_argument("--limit", type=float, default=10.0, help="seconds for a call")
    options.add_argument("--kinds", default=",".join(KINDS))
    given = options.parse_args()
    print(
        "| executor | entered | billed | deaths of the study | healthy calls lost "
        "| best is healthy | seconds |"
    )
    print("|---|---:|---:|---:|---:|---|---:|")
    for kind in given.kinds.split(","):
        with tempfile.TemporaryDirectory() as folder:
            found = tortured(Path(folder), kind, given.calls, given.limit)
        best = "yes" if found.best_is_healthy else "NO"
        print(
            f"| {KINDS[kind]} | {found.entered} | {found.billed} | {found.restarts} "
            f"| {len(found.lost)} | {best} | {found.seconds:.0f} |",
            flush=True,
        )
        ways = ", ".join(f"{way} {found.ways[way]}" for way in (*WAYS, FINE))
        print("\n".join([f"{kind}: {ways}", *found.lost]), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
