"""Scaling of an ask: seconds and peak memory by observations, dimensions and batch size.

    OMP_NUM_THREADS=1 python experiments/scaling.py auto turbo --cells 64,1000,1 64,10000,100
    OMP_NUM_THREADS=1 python experiments/scaling.py spherical --space latent --cells 512,2000,1
    OMP_NUM_THREADS=1 python experiments/scaling.py auto ax --from-cold 5

Every cell runs in a separate process, which isolates its peak memory. "before" is the peak after
the imports and the creation of the log, "peak" the peak after the last ask. A process is ended
after ``--limit`` seconds; its reports until then count.

``--from-cold TIMES`` measures fresh interpreters from their start to the first proposal, imports
included: for an empty study and for 20 observations in 6 dimensions, which need a model. The table
shows medians of TIMES starts. Figures go to OUT.json and OUT.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from asking import import_everything, observed_study, timed_asks
from entrants import Cell, Entrant, add_arguments, cells_of, seconds, write

Record = dict[str, Any]
CELLS = ("64,1000,1", "64,10000,1", "64,10000,100", "512,1000,1")
SETTINGS = ("warm", "limit", "from_cold", "space", "outputs", "seed")
COLD_CELLS = (Cell(6, 0, 1), Cell(6, 20, 1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, CELLS)
    parser.add_argument("--warm", type=int, default=3, help="warm asks after the cold one")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for one process")
    parser.add_argument(
        "--from-cold", type=int, metavar="TIMES", help="time fresh interpreters instead"
    )
    parser.add_argument("--out", type=Path, default=Path("scaling"))
    parser.add_argument("--child", choices=("imported", "bare"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        report(options)
        return
    cells = COLD_CELLS if options.from_cold else cells_of(options)
    records: list[Record] = []
    for cell in cells:
        for turn in range(options.from_cold or 1):
            for entrant in options.strategies:
                records += [{**record, "round": turn} for record in child(entrant, cell, options)]
                print(f"{cell}, {entrant.label}: {records[-1]}", flush=True)
        text = starts(records) if options.from_cold else table(records)
        options.out.with_suffix(".md").write_text(text, encoding="utf-8")
        write(options.out.with_suffix(".json"), records, options, SETTINGS)
    print(text)


def child(entrant: Entrant, cell: Cell, options: argparse.Namespace) -> list[Record]:
    """Run one cell in a fresh interpreter and collect its records.

    The last record may hold the reason of an early end.
    """
    head: Record = {"strategy": entrant.label, **cell._asdict()}
    manner, warm = ("bare", 0) if options.from_cold else ("imported", options.warm)
    command = [
        sys.executable,
        __file__,
        entrant.text,
        "--child",
        manner,
        "--cells",
        ",".join(map(str, cell)),
    ]
    command += ["--warm", str(warm), "--space", options.space, "--outputs", str(options.outputs)]
    started = time.time()
    try:
        done = subprocess.run(
            [*command, "--seed", str(options.seed)],
            capture_output=True,
            text=True,
            timeout=options.limit,
            check=False,
        )
        printed, trouble = (
            done.stdout,
            (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:200],
        )
        failed = done.returncode != 0
    except subprocess.TimeoutExpired as stopped:
        printed, trouble, failed = (
            (stopped.stdout or b"").decode(),
            f"over {options.limit:g} s",
            True,
        )
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith('{"stage"')]
    records = [{**head, **line, "at": round(line["at"] - started, 3)} for line in lines]
    return [*records, {**head, "stage": "ended", "why": trouble}] if failed else records


def report(options: argparse.Namespace) -> None:
    """Print one line of JSON per completed stage, in the subprocess."""
    (entrant,), (cell,) = options.strategies, options.cells
    if options.child == "imported":
        import_everything(entrant, options.space, options.outputs)
    study = observed_study(cell, options.space, options.outputs, options.seed)
    say("told")
    stage = "cold"
    for timing in timed_asks(entrant, study, cell.q, options.warm):
        say(stage, **timing.to_json())
        stage = "warm"


def say(stage: str, **figures: float) -> None:
    so_far = {
        "at": time.time(),
        "burnt": round(time.process_time(), 3),
        "peak_mb": peak_megabytes(),
    }
    print(json.dumps({"stage": stage, **so_far, **figures}), flush=True)


def peak_megabytes() -> float:
    """Return the peak memory of this process. Linux counts in KiB, macOS in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / (2**20 if sys.platform == "darwin" else 2**10), 1)


def table(records: Sequence[Record]) -> str:
    """Return one row per cell and strategy."""
    text = (
        "| strategy | d | n | q | cold ask, s | CPU, s | warm ask, s | CPU, s "
        "| before, MB | peak, MB | |\n"
    )
    text += "|---" * 11 + "|\n"
    for (label, *cell), rows in grouped(records):
        figures = [
            middle([row[key] for row in rows if row["stage"] == stage])
            for stage in ("cold", "warm")
            for key in ("wall", "cpu")
        ]
        peaks = {row["stage"]: f"{row['peak_mb']:.0f}" for row in rows if row["stage"] != "ended"}
        figures += [peaks.get("told", ""), peaks.get("warm", peaks.get("cold", ""))]
        short = [
            f"proposed {row['queries']}" for row in rows if row.get("queries", cell[2]) < cell[2]
        ][:1]
        remarks = "; ".join([*short, *(row["why"] for row in rows if row["stage"] == "ended")])
        text += f"| {label} | {' | '.join(map(str, cell))} | {' | '.join(figures)} | {remarks} |\n"
    return text


def starts(records: Sequence[Record]) -> str:
    """Return median seconds from the start of an interpreter to its first proposal."""
    text = (
        "| strategy | observations | start to proposal, s | CPU, s | ask alone, s | peak, MB | |\n"
    )
    text += "|---" * 7 + "|\n"
    for (label, _, n, _), rows in grouped(records):
        asked = [row for row in rows if row["stage"] == "cold"]
        figures = [middle([row[key] for row in asked]) for key in ("at", "burnt", "wall")]
        peak = f"{max(row['peak_mb'] for row in asked):.0f}" if asked else ""
        remarks = "; ".join(dict.fromkeys(row["why"] for row in rows if row["stage"] == "ended"))
        text += f"| {label} | {n} | {' | '.join(figures)} | {peak} | {remarks} |\n"
    return text


def grouped(records: Sequence[Record]) -> Iterable[tuple[tuple[Any, ...], list[Record]]]:
    """Group records by strategy and cell, in order."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record[key] for key in ("strategy", "d", "n", "q")), []).append(
            record
        )
    return groups.items()


def middle(values: Sequence[float]) -> str:
    """Format the median and, for several values, the maximum."""
    if not values:
        return ""
    return seconds(median(values)) + (f" to {seconds(max(values))}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
