"""Seconds per ask by dimension d, observations n and batch size q, for several strategies.

    OMP_NUM_THREADS=1 python experiments/overhead.py auto gp ax botorch \\
        'optuna:{"sampler": "gp"}' --cells 16,100,1 16,100,4 16,300,1 --reference ax

Every round asks each strategy once, in rotating order. All strategies get the same new log of
n observations of a smooth function. Oracle calls are not timed. A "cold" ask has no memo. A "warm"
ask follows the outcomes of the ask before and gets its memo. For Ax and Optuna only the seconds
inside their own call count, without the rebuild of their state from our log.

An ask is stopped after ``--limit`` seconds; its strategy skips every cell that is larger in all
respects. A strategy that used ``--spend`` seconds in a cell skips the remaining rounds. After
every cell the script writes raw figures to OUT.json and medians to OUT.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from asking import OverLimit, import_everything, observed_study, timed_asks
from entrants import Cell, Entrant, add_arguments, cells_of, seconds, write

Record = dict[str, Any]
CELLS = (
    "4,100,1",
    "4,100,4",
    "16,100,1",
    "16,100,4",
    "16,300,1",
    "16,300,4",
    "64,100,1",
    "64,100,4",
    "64,300,1",
)
SETTINGS = ("reference", "rounds", "warm", "limit", "spend", "space", "outputs", "seed")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, CELLS)
    parser.add_argument("--reference", help="the strategy whose time is divided by the others'")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm", type=int, default=8, help="warm asks after each cold one")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for one ask")
    parser.add_argument(
        "--spend", type=float, default=300.0, help="seconds for one strategy in one cell"
    )
    parser.add_argument("--out", type=Path, default=Path("overhead"))
    options = parser.parse_args()
    reference = options.reference and Entrant.parse(options.reference).label
    if reference and reference not in [entrant.label for entrant in options.strategies]:
        parser.error(f"--reference {options.reference} is none of the strategies")
    for entrant in options.strategies:
        try:
            import_everything(entrant, options.space, options.outputs, options.limit)
        except (Exception, OverLimit) as error:  # each cell reports it again
            print(f"{entrant.label}: {type(error).__name__}: {error}", flush=True)
    records: list[Record] = []
    for cell in cells_of(options):
        records += measured(options.strategies, cell, options, records)
        text = tables(records, reference, options.rounds)
        options.out.with_suffix(".md").write_text(text, encoding="utf-8")
        write(options.out.with_suffix(".json"), records, options, SETTINGS)
    print(text)


def measured(
    entrants: Sequence[Entrant], cell: Cell, options: argparse.Namespace, before: Sequence[Record]
) -> list[Record]:
    """Run all rounds of one cell; record skipped and failed asks too."""
    records: list[Record] = []
    going = {entrant.label: entrant for entrant in entrants}
    spent = dict.fromkeys(going, 0.0)
    for slow in before:
        if (
            "stopped_wall" in slow
            and slow["strategy"] in going
            and Cell(slow["d"], slow["n"], slow["q"]).within(cell)
        ):
            records.append(
                {
                    "strategy": slow["strategy"],
                    **cell._asdict(),
                    "skipped": "stopped in a smaller cell",
                }
            )
            del going[slow["strategy"]]
    for turn in range(options.rounds):
        for label in rotated(list(going), turn):
            head = {"strategy": label, **cell._asdict(), "round": turn}
            study = observed_study(cell, options.space, options.outputs, seed=options.seed + turn)
            started, kind = time.perf_counter(), "cold"
            try:
                for timing in timed_asks(going[label], study, cell.q, options.warm, options.limit):
                    records.append({**head, "kind": kind, **timing.to_json()})
                    kind = "warm"
            except OverLimit as stopped:
                spent_in = {
                    f"stopped_{key}": round(value, 3)
                    for key, value in asdict(stopped.clock).items()
                }
                records.append({**head, "kind": kind, **spent_in})
                del going[label]
            except Exception as error:
                records.append(
                    {**head, "kind": kind, "error": f"{type(error).__name__}: {error}"[:200]}
                )
                del going[label]
            spent[label] += time.perf_counter() - started
            if spent[label] > options.spend:
                going.pop(label, None)
            print(f"{cell}, round {turn}, {label}: {summary(records[-1])}", flush=True)
    return records


def rotated(labels: list[str], turn: int) -> list[str]:
    """Rotate the labels by the round number."""
    first = turn % max(1, len(labels))
    return labels[first:] + labels[:first]


def summary(record: Record) -> str:
    """Summarize one record."""
    if "wall" in record:
        return f"{seconds(record['wall'])} s ({record['kind']})"
    return (
        f"stopped after {seconds(record['stopped_wall'])} s"
        if "stopped_wall" in record
        else str(record.get("error", "skipped"))
    )


class Shown(NamedTuple):
    """Table entry of one strategy, kind and cell."""

    text: str = ""
    value: float | None = None
    bound: bool = False
    """True if the value is a lower bound, because the ask was stopped."""


def shown(records: Iterable[Record], clock: str, rounds: int) -> Shown:
    """Summarize the records of one strategy, kind and cell.

    A stopped ask counts as infinitely long.
    """
    found = list(records)
    if any("skipped" in record for record in found):
        return Shown("not tried")
    if any("error" in record for record in found):
        return Shown("failed")
    stopped = [record[f"stopped_{clock}"] for record in found if f"stopped_{clock}" in record]
    times = [record[clock] for record in found if clock in record]
    if len(stopped) > len(times):
        return Shown(f"> {seconds(stopped[0])}", stopped[0], bound=True)
    if not times:
        return Shown()
    if not all(record["queries"] for record in found if clock in record):
        return Shown("no proposal")
    middle = median([*times, *[max(times)] * len(stopped)])
    turns = len({record["round"] for record in found})
    text = seconds(middle)
    if found[0].get("kind") == "warm" and not stopped:
        text += f" to {seconds(max(times))}"  # some asks refit the model, most do not
    return Shown(text + (f" [{turns} of {rounds}]" if turns < rounds else ""), middle)


def tables(records: Sequence[Record], reference: str | None, rounds: int) -> str:
    """Return tables of median seconds and CPU seconds, with multiples of the reference.

    Warm asks also show the maximum. Cold asks are compared with the reference's cold asks, warm
    asks with its warm asks. A reference without a memo has cold asks only; the caption then
    states that warm asks are compared with these.
    """
    labels = list(dict.fromkeys(record["strategy"] for record in records))
    with_memo = {record["strategy"] for record in records if record.get("kind") == "warm"}
    columns = [
        (label, kind)
        for label in labels
        for kind in ("cold", "warm")
        if kind == "cold" or label in with_memo
    ]
    heads = [f"{label}, {kind}" if label in with_memo else label for label, kind in columns]
    basis_of = {"cold": "cold", "warm": "warm" if reference in with_memo else "cold"}
    brackets = f"; in brackets, how many times as long `{reference}` takes" if reference else ""
    if reference in with_memo:
        brackets += ", cold by cold and warm by warm"
    elif reference and with_memo:
        brackets += f"; `{reference}` has cold asks alone, and warm ones are compared with these"
    text = ""
    for clock, words in (("wall", "seconds"), ("cpu", "CPU seconds")):
        text += f"Median {words} of one ask{brackets}\n\n| d | n | q | {' | '.join(heads)} |\n"
        text += "|---" * (3 + len(columns)) + "|\n"
        for cell in dict.fromkeys(Cell(r["d"], r["n"], r["q"]) for r in records):
            here = [r for r in records if (r["d"], r["n"], r["q"]) == cell]
            row = {
                (label, kind): shown(
                    (r for r in here if r["strategy"] == label and r.get("kind", kind) == kind),
                    clock,
                    rounds,
                )
                for label, kind in columns
            }
            texts = [
                own.text
                + (
                    ""
                    if label == reference
                    else ratio(row.get((reference or "", basis_of[kind]), Shown()), own)
                )
                for (label, kind), own in row.items()
            ]
            text += f"| {cell.d} | {cell.n} | {cell.q} | {' | '.join(texts)} |\n"
        text += "\n"
    return text


def ratio(reference: Shown, own: Shown) -> str:
    """Format the ratio as `` (34x)``; empty without two figures, ``>`` for a stopped reference."""
    if not reference.value or not own.value or own.bound:
        return ""
    times = reference.value / own.value
    return f" ({'> ' * reference.bound}{times:.{int(times < 10)}f}x)"


if __name__ == "__main__":
    main()
