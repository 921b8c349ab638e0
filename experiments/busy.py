"""Worker utilization with uneven call times: one call in ten takes ten times longer.

python experiments/busy.py --calls 120 --seconds 0.5

The oracle sleeps. Utilization is the share of worker time inside the oracle until the last call
begins. Each case runs with and without asking ahead (``Pacing`` in
``bo_invert/study/pacing.py``). Imports are done before the measurement.
"""

from __future__ import annotations

import argparse
import itertools
import threading
import time
from typing import Any

import numpy as np

import bo_invert as bi
from bo_invert.problems.examples.synthetic_functions import hartmann6
from bo_invert.study.pacing import Pacing


def measured(
    strategy: str, workers: int, calls: int, seconds: float, ahead: bool
) -> tuple[float, float, float]:
    """Return utilization, mean seconds per ask and the best value."""
    count, lock, times = itertools.count(1), threading.Lock(), []
    asks = []

    def oracle(x: Any) -> float:
        with lock:
            slow = next(count) % 10 == 0
        began = time.perf_counter()
        time.sleep(10 * seconds if slow else seconds)
        times.append((began, time.perf_counter()))
        return float(hartmann6(x)[0])

    problem = bi.Problem(bi.Box([0.0] * 6, [1.0] * 6), oracle, bi.Minimize(), name="uneven")
    study = bi.Study.create("busy", problem, strategy, 0)
    propose = study.propose

    def timed(*given: Any) -> Any:
        began = time.perf_counter()
        answer = propose(*given)
        asks.append(time.perf_counter() - began)
        return answer

    study.propose = timed  # type: ignore[method-assign]
    original = Pacing.ahead
    try:
        if not ahead:
            Pacing.ahead = property(lambda self: 0)  # type: ignore[assignment]
        study.run(calls, batch=workers, executor="threads")
    finally:
        Pacing.ahead = original  # type: ignore[method-assign]
    first, last = min(began for began, _ in times), max(began for began, _ in times)
    busy = sum(min(ended, last) - began for began, ended in times) / (workers * (last - first))
    assert study.best is not None
    return busy, float(np.mean(asks)), float(study.best.loss or 0.0)


def main() -> None:
    """Print a table."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--calls", type=int, default=120)
    options.add_argument("--seconds", type=float, default=0.5)
    options.add_argument("--strategies", default="gp,turbo")
    options.add_argument("--workers", default="4,8")
    given = options.parse_args()
    for strategy in given.strategies.split(","):
        measured(strategy, 2, 24, 0.0, ahead=True)
    print("| strategy | workers | an ask, ms | busy | without asking ahead |")
    print("|---|---:|---:|---:|---:|")
    for strategy in given.strategies.split(","):
        for workers in map(int, given.workers.split(",")):
            busy, ask, _ = measured(strategy, workers, given.calls, given.seconds, ahead=True)
            plain, _, _ = measured(strategy, workers, given.calls, given.seconds, ahead=False)
            print(
                f"| `{strategy}` | {workers} | {1000 * ask:.0f} | {busy:.1%} | {plain:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
