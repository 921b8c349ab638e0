"""Interrupted runs: signals at random times, then the same study again, until it is complete.

python experiments/interruptions.py --signal KILL --batch 4 --times 1000
python experiments/interruptions.py --signal INT TERM KILL --batch 1 4 8 --times 30

Each process runs ``study.run`` on a database until it gets a signal, at a random time after up to
three calls; the next one resumes. The oracle notes the start and the end of each call in a file and
waits for the disk. In the end the script compares the log with these notes and with a study of the
same seed that nothing disturbed. With an executor the order of the answers is random. The script
then asks the strategy again for each ask of the log, with the trials that it knew, and compares the
points.

Columns: *lost* are recorded outcomes (a tell had returned) that the log does not contain. *In
flight* are calls that had returned when the signal came, without a recorded outcome. *Unbilled* are
calls beyond the attempts of a trial, *billed twice* outcomes beyond the calls of a trial. *Not
called* are attempts that are billed although the oracle was not reached.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import bo_invert as bi
from bo_invert.storage.log_replay import LATE, Log
from bo_invert.storage.open import open_store
from bo_invert.storage.optimistic_journal import Journal
from bo_invert.strategies.base import Request
from bo_invert.study.study import Study
from bo_invert.types import State, Trial

PAUSED = 75
"""Exit code of a process that found its study paused."""
HEAD = (
    "signal", "batch", "executor", "interruptions", "calls", "lost", "in flight", "billed",
    "not called", "unbilled", "billed twice", "cancelled", "pauses", "identical",
)  # fmt: skip


def note(file: Path, line: str, sync: bool = True) -> None:
    """Append a line to a file and wait for the disk; a line survives a kill without the wait."""
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, (line + "\n").encode())
    if sync:
        os.fsync(handle)
    os.close(handle)


def problem(folder: Path) -> bi.Problem:
    def oracle(x: Any) -> float:
        note(folder / "calls", str(np.asarray(x).tolist()))
        time.sleep(random.uniform(0.0, 0.1))
        value = float(((np.asarray(x) - 0.3) ** 2).sum() + 0.1 * np.sin(9.0 * x[0]))
        note(folder / "answers", str(np.asarray(x).tolist()), sync=False)
        return value

    return bi.Problem(bi.Box([0.0] * 3, [1.0] * 3), oracle, bi.Minimize(), name="interrupted")


def search(folder: Path, seed: int, options: argparse.Namespace, batch: int) -> None:
    """Create or resume the study and run it to the end; note each outcome that is recorded."""
    study = Study.create(
        "s", problem(folder), options.strategy, seed, f"sqlite:///{folder}/runs.db", exist_ok=True
    )
    study.run(options.budget, batch=batch, executor=options.executor)


def start(folder: Path, seed: int, options: argparse.Namespace, batch: int) -> int:
    """Return the id of a forked process that runs the study."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stderr = (folder / "stderr").open("a")
        finish = Journal.finish

        def noted(journal: Journal, number: int, outcome: Any, attempt: int | None = None) -> Any:
            trial = finish(journal, number, outcome, attempt)
            note(folder / "tells", f"{trial.number} {float(outcome.y[0])!r}")
            return trial

        Journal.finish = noted  # type: ignore[method-assign]
        random.seed()
        search(folder, seed, options, batch)
        code = 0
    except (KeyboardInterrupt, SystemExit):
        code = 130
    except Exception as error:
        code = PAUSED if type(error).__name__ == "StudyPausedError" else 1
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def series(
    folder: Path, seed: int, options: argparse.Namespace, batch: int, name: str, left: int
) -> tuple[int, int]:
    """Interrupt a study until it is complete; return the number of interruptions and pauses."""
    number, done, pauses = getattr(signal, f"SIG{name}"), 0, 0
    chance = random.Random(f"{seed} {batch} {name} {left}")
    while True:
        process = start(folder, seed, options, batch)
        if done < left:
            strike(process, number, folder, chance)
        _, status = os.waitpid(process, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            return done, pauses
        if code == PAUSED:
            pauses += 1
            study = Study.open("s", f"sqlite:///{folder}/runs.db")
            for trial in study.trials:
                if trial.state is State.LOST:
                    study.retry(trial)
        elif code in (130, -number):
            done += 1
        else:
            sys.exit(f"a process ended with {code}: {(folder / 'stderr').read_text()[-3000:]}")


def strike(process: int, number: int, folder: Path, chance: random.Random) -> None:
    """Send a signal after 0 to 3 calls: into a call, a record, an ask or a start."""
    begun = sum(points(folder / "calls").values()) + chance.randrange(4)
    ended = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    while ended is None and sum(points(folder / "calls").values()) < begun:
        time.sleep(0.005)
        ended = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    time.sleep(chance.uniform(0.0, chance.choice([0.1, 0.8])))
    os.kill(process, number)


def points(file: Path) -> collections.Counter[str]:
    """Return the notes in a file; a kill may truncate the last line."""
    return collections.Counter(file.read_text().split("\n")[:-1] if file.exists() else [])


def compare(folder: Path, quiet: Study, in_order: bool) -> collections.Counter[str]:
    """Compare the log with the notes and with an undisturbed study."""
    study = Study.open("s", f"sqlite:///{folder}/runs.db", problem(folder))
    trials = [trial for trial in study.trials if trial.origin != LATE]
    calls, answers = points(folder / "calls"), points(folder / "answers")
    known: dict[str, list[Trial]] = collections.defaultdict(list)
    for trial in trials:  # a strategy may propose a point twice
        known[str(np.asarray(trial.design).tolist())].append(trial)
    assert set(calls) <= set(known), "a call that the log does not know of"
    found: collections.Counter[str] = collections.Counter(calls=sum(calls.values()))
    for point, same_point in known.items():
        attempts = [attempt for trial in same_point for attempt in trial.attempts]
        outcomes = sum(attempt.outcome is not None for attempt in attempts)
        billed = sum(attempt.cost.values for attempt in attempts)
        found["in flight"] += max(0, answers[point] - outcomes)
        found["not called"] += max(0, billed - calls[point])
        found["unbilled"] += max(0, calls[point] - billed)
        found["billed twice"] += max(0, outcomes - calls[point])
    for line in points(folder / "tells"):
        number, loss = line.split()
        found["lost"] += study.trials[int(number)].loss != float(loss)
    found["cancelled"] = sum(trial.state is State.CANCELLED for trial in trials)
    found["billed"] = study.spent.values
    same = described(study) == described(quiet) if in_order else replays(study)
    found["identical"] = int(same)
    return found


def described(study: Study) -> list[tuple[object, object]]:
    return [(trial.query.to_json(), None if trial.y is None else trial.y.tolist())
            for trial in study.trials]  # fmt: skip


def replays(study: Study) -> bool:
    """Return True if the strategy proposes the points of each ask of the log again."""
    events = study.journal._store.events(study.name)
    log = Log()
    for event in events:
        if event["kind"] != "asked":
            continue
        log.apply(events[log.seq : event["seen"]])
        request = Request(
            event["ask"], len(event["queries"]), study.seed, event["budget"], log.memo
        )
        again = study.strategy.ask(study.statement, log.trials, request).queries
        if [query.point.tolist() for query in again] != [q["point"] for q in event["queries"]]:
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--signal", nargs="+", choices=("INT", "TERM", "KILL"), default=["KILL"])
    parser.add_argument("--batch", nargs="+", type=int, default=[4])
    parser.add_argument("--times", type=int, default=100, help="interruptions of each row")
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--executor", default=None)
    parser.add_argument("--budget", type=int, default=48)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    print(f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}", sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as root:
        quiet: dict[tuple[int, int], Study] = {}
        for name in options.signal:
            for batch in options.batch:
                total: collections.Counter[str] = collections.Counter()
                studies = 0
                while total["interruptions"] < options.times:
                    seed = studies % options.seeds
                    if (seed, batch) not in quiet and options.executor is None:
                        folder = Path(root, f"quiet-{seed}-{batch}")
                        folder.mkdir()
                        search(folder, seed, options, batch)
                        quiet[seed, batch] = Study.open("s", open_store(folder / "runs.db"))
                        _ = quiet[seed, batch].trials
                    folder = Path(root, f"{name}-{batch}-{studies}")
                    folder.mkdir()
                    left = options.times - total["interruptions"]
                    done, pauses = series(folder, seed, options, batch, name, left)
                    total += collections.Counter(interruptions=done, pauses=pauses)
                    known = quiet.get((seed, batch))
                    total += compare(folder, known, known is not None)  # type: ignore[arg-type]
                    studies += 1
                    print(name, batch, studies, dict(total), file=sys.stderr, flush=True)
                row = {column: str(total[column]) for column in HEAD}
                row |= {"signal": name, "batch": str(batch), "executor": str(options.executor)}
                row["identical"] = f"{total['identical']} of {studies}"
                print(f"| {' | '.join(row.values())} |", flush=True)


if __name__ == "__main__":
    main()
