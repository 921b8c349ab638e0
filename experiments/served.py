"""Load test of one server: throughput, latencies of ask and tell, and memory.

python experiments/served.py --workers 50 --seconds 120
python experiments/served.py --workers 4 --seconds 20 --trials 100000
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from servers import Served

import bo_invert as bi

ASK = {"count": 1, "lease": 60.0}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--strategy", default="random")
    parser.add_argument(
        "--trials", type=int, default=0, help="trials in the study before the workers start"
    )
    parser.add_argument("--dim", type=int, default=6)
    options = parser.parse_args()
    problem = bi.Problem(bi.Box([0.0] * options.dim, [1.0] * options.dim), None, bi.Minimize())
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/runs.db"
        study = bi.Study.create("s", problem, options.strategy, 0, url)
        points = np.random.default_rng(0).random((options.trials, options.dim))
        for start in range(0, options.trials, 5000):
            some = points[start : start + 5000]
            study.add(some, [float(((x - 0.3) ** 2).sum()) for x in some])
        served = Served(Path(folder), url, "--asks-per-second", "100000")
        try:
            run(served, options)
        finally:
            served.kill()


def run(served: Served, options: argparse.Namespace) -> None:
    """Run the workers and print throughput, latencies and memory."""
    headers = {"Authorization": f"Bearer {served.token}"}
    began = time.perf_counter()
    first = httpx.get(f"{served.url}/v1/studies/s", headers=headers, timeout=120.0).json()
    opened = time.perf_counter() - began
    asks: list[float] = []
    tells: list[float] = []
    wrong: list[str] = []
    memory = [resident(served.process.pid)]
    end = time.monotonic() + options.seconds

    def work(number: int) -> None:
        with httpx.Client(base_url=served.url, headers=headers, timeout=60.0) as client:
            while time.monotonic() < end:
                asked = timed(
                    asks,
                    lambda: client.post("/v1/studies/s/ask", json={**ASK, "worker": f"w{number}"}),
                )
                if asked.status_code != 200:
                    wrong.append(asked.text)
                    continue
                for trial in asked.json()["trials"]:
                    body = {"attempt": trial["attempt"], "outputs": sum(trial["point"])}
                    path = f"/v1/studies/s/trials/{trial['number']}/tell"
                    response = timed(
                        tells, lambda path=path, body=body: client.post(path, json=body)
                    )
                    if response.status_code != 200:
                        wrong.append(response.text)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(options.workers)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(min(5.0, options.seconds / 10))
        memory.append(resident(served.process.pid))
    for thread in threads:
        thread.join()
    last = httpx.get(f"{served.url}/v1/studies/s", headers=headers, timeout=60.0).json()
    assert last["spent"]["values"] == len(tells) - len([w for w in wrong if "tell" in w]), (
        "a tell was lost"
    )
    print(
        f"{options.workers} workers, {options.strategy}, {first['trials']} trials before, "
        f"{last['trials']} after"
    )
    print(
        f"opened in {opened:.2f} s; {len(tells) / options.seconds:.0f} trials a second; "
        f"{len(wrong)} refused"
    )
    for what, seconds in (("ask", asks), ("tell", tells)):
        middle, late = 1000.0 * np.quantile(seconds, [0.5, 0.99])
        print(f"{what}: median {middle:.1f} ms, 99 % within {late:.1f} ms")
    half = len(tells) // 2
    early, later = (1000.0 * float(np.median(part)) for part in (tells[:half], tells[half:]))
    print(f"tell: first half {early:.1f} ms, second half {later:.1f} ms")
    start, middle, finish = memory[0], memory[len(memory) // 2], memory[-1]
    print(
        f"memory of the server: {start:.0f} MB at first, {middle:.0f} MB half way, "
        f"{finish:.0f} MB at last"
    )


def timed(into: list[float], call: Any) -> httpx.Response:
    began = time.perf_counter()
    answer: httpx.Response = call()
    into.append(time.perf_counter() - began)
    return answer


def resident(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
