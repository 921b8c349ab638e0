"""CPU seconds of asks of this version and of an older one, measured in turns, beside Optuna's GP.

    python experiments/ask_time.py --old /path/to/old/tree --rounds 5 --out ask_time

Each round starts one process per entrant, in rotating order, on one thread: ``auto`` of either
version and Optuna's GP. All get the same new logs of n observations of a smooth function, see
``asking.py``. A "cold" ask has no memo; up to ``--warm`` asks follow it with theirs. Of Optuna only
the seconds inside its own call count. A second table holds cold asks of ``gp`` with a target of 15
outputs, and with 10 outcome constraints.

The script writes raw figures to OUT.json and medians to OUT.md. CPU seconds depend on what else the
machine computes, so only ratios within one run mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from asking import import_everything, observed_study, timed_asks
from entrants import Cell, Entrant, conditions, seconds

ROOT = Path(__file__).parents[1]
CELLS = (Cell(16, 100, 1), Cell(16, 300, 1), Cell(64, 300, 1))
MANY = {
    "15 outputs": {"outputs": 15},
    "10 constraints": {"constraints": 10},
}
"""Arguments of ``observed_study`` for the second table; d = 16, n = 300."""
OPTUNA = Entrant("optuna", {"sampler": "gp"})

Record = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--old", type=Path, help="checkout of the older version")
    parser.add_argument("--strategy", type=Entrant.parse, default=Entrant("auto"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm", type=int, default=8, help="warm asks after each cold one")
    parser.add_argument("--out", type=Path, default=Path("ask_time"))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        for record in measured(**json.loads(options.measure)):
            print(json.dumps(record), flush=True)
        return
    trees = {"new": ROOT} if options.old is None else {"old": options.old.resolve(), "new": ROOT}
    entrants = [(name, tree, options.strategy.text) for name, tree in trees.items()]
    entrants.append(("optuna", ROOT, OPTUNA.text))
    records: list[Record] = []
    for turn in range(options.rounds):
        first = turn % len(entrants)
        for name, tree, text in entrants[first:] + entrants[:first]:
            records += run(name, tree, text, turn, options.warm)
            print(f"round {turn}, {name}", flush=True)
        head = json.dumps({"conditions": conditions(), "rounds": turn + 1})
        lines = ",\n".join(map(json.dumps, records))
        options.out.with_suffix(".json").write_text(
            f'{head[:-1]}, "records": [\n{lines}\n]}}\n', encoding="utf-8"
        )
        options.out.with_suffix(".md").write_text(tables(records), encoding="utf-8")
    print(tables(records))


def run(name: str, tree: Path, text: str, turn: int, warm: int) -> list[Record]:
    """Measure one entrant in a process of its own with the package of a tree."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    task = json.dumps({"text": text, "turn": turn, "warm": warm})
    ran = subprocess.run(
        [sys.executable, __file__, "--measure", task],
        env={**os.environ, **threads, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [{"entrant": name, **json.loads(line)} for line in ran.stdout.splitlines()]


def measured(text: str, turn: int, warm: int) -> Iterator[Record]:
    """Yield the timings of one round of an entrant."""
    entrant = Entrant.parse(text)
    import_everything(entrant, "box", 1)
    for cell in CELLS:
        study = observed_study(cell, seed=turn)
        asks = timed_asks(entrant, study, 1, 0 if entrant == OPTUNA else warm)
        for number, timing in enumerate(asks):
            kind = "warm" if number else "cold"
            yield {"case": f"({cell.d}, {cell.n})", "kind": kind, "round": turn, **timing.to_json()}
    if entrant == OPTUNA:
        return
    for case, arguments in MANY.items():
        study = observed_study(Cell(16, 300, 1), seed=turn, **arguments)
        for timing in timed_asks(Entrant("gp"), study, 1):
            yield {"case": case, "kind": "cold", "round": turn, **timing.to_json()}


def tables(records: Sequence[Record]) -> str:
    """Return median CPU seconds by case, and their ratios."""
    names = [
        name for name in ("old", "new", "optuna") if any(r["entrant"] == name for r in records)
    ]
    cases = [(f"({c.d}, {c.n})", kind) for c in CELLS for kind in ("cold", "warm")]
    text = "Median CPU seconds of one ask; in brackets the lowest and highest median of a round\n\n"
    ratios = [name for name in names if name != "new"]
    heads = [*names, *(f"new / {name}" for name in ratios)]
    text += f"| case | ask | {' | '.join(heads)} |\n" + "|---" * (2 + len(heads)) + "|\n"
    for case, kind in [*cases, *((case, "cold") for case in MANY)]:
        found = {}
        for name in names:
            # Optuna has no memo; warm asks are compared with its only kind.
            own = "cold" if name == "optuna" else kind
            rounds: dict[int, list[float]] = {}
            for r in records:
                if (r["entrant"], r["case"], r["kind"]) == (name, case, own):
                    rounds.setdefault(r["round"], []).append(r["cpu"])
            found[name] = [median(times) for times in rounds.values()]
        cells = [
            f"{seconds(median(own))} ({seconds(min(own))} to {seconds(max(own))})" if own else ""
            for own in found.values()
        ]
        cells += [
            f"{median(found['new']) / median(found[name]):.2f}" if found[name] else ""
            for name in ratios
        ]
        text += f"| {case} | {kind} | {' | '.join(cells)} |\n"
    return text


if __name__ == "__main__":
    main()
