"""Floods of a server by one token, or without one, and the tells of another token meanwhile.

python experiments/floods.py --repeats 3

Each row runs in turns with a quiet period. The flooding clients have the lowest priority, as if
they ran on another machine. The checkout on PYTHONPATH is measured, so an older one can be, too.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import bo_invert as bi

sys.path.insert(0, str(Path(bi.__file__).resolve().parents[1] / "tests"))

from servers import Served

from bo_invert.service.access_tokens import Access

BOX = bi.Box([0.0] * 6, [1.0] * 6)
TRIALS = 5000


def call(
    line: http.client.HTTPConnection, token: str, method: str, path: str, body: Any = None
) -> tuple[int, bytes]:
    """Send one request on a connection; return status and body."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    line.request(method, path, None if body is None else json.dumps(body), headers)
    answer = line.getresponse()
    return answer.status, answer.read()


def hammer(port: int, token: str, requests: list[tuple[str, str, Any]], clients: int) -> None:
    """Send requests from several threads, without pauses, until the process is killed."""
    os.nice(19)

    def work(first: int) -> None:
        number = first
        while True:
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=120.0)
            try:
                while True:
                    method, path, body = requests[number % len(requests)]
                    number += 1
                    call(line, token, method, path, body)
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(600.0)


def stream(port: int, token: str, paths: list[str], count: int) -> None:
    """Open event streams, again if they are refused, until the process is killed."""
    os.nice(19)

    def work(path: str) -> None:
        while True:
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=120.0)
            try:
                line.request("GET", path, headers={"Authorization": f"Bearer {token}"})
                answer = line.getresponse()
                while answer.read(1):
                    pass
            except (OSError, http.client.HTTPException):
                time.sleep(0.01)

    for i in range(count):
        threading.Thread(target=work, args=(paths[i % len(paths)],), daemon=True).start()
    time.sleep(600.0)


def strangers(port: int, _: str, pause: float, count: int) -> None:
    """Send requests without a token until the process is killed.

    Args:
        port: port of the server.
        pause: seconds before a client gives up and connects again; 0 to wait for each response.
        count: number of clients.
    """
    os.nice(19)
    request = b"GET /v1/studies HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

    def work() -> None:
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5.0) as line:
                line.sendall(request)
                if pause:
                    time.sleep(pause)
                    continue
                while line.recv(65536):
                    line.sendall(request)

    for _ in range(count):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(600.0)


@contextmanager
def running(target: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Run a flood in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    try:
        time.sleep(4.0)
        yield
    finally:
        process.kill()
        process.join()


class Meter:
    """Tells of the other token, and the memory of the server."""

    def __init__(self, served: Served, token: str, count: int) -> None:
        self.served, self.token, self.count = served, token, count
        self.next = 0

    def tells(self) -> list[float]:
        """Return the milliseconds of tells at 40 a second; a refused one counts 60 seconds."""
        line = http.client.HTTPConnection("127.0.0.1", self.served.port, timeout=60.0)
        taken = []
        for _ in range(self.count):
            path = f"/v1/studies/mine/trials/{self.next}/tell"
            self.next += 1
            began = time.perf_counter()
            try:
                status, _ = call(line, self.token, "POST", path, {"outputs": 1.0})
            except (OSError, http.client.HTTPException):
                status = 0
                line.close()
            seconds = time.perf_counter() - began if status == 200 else 60.0
            taken.append(1000.0 * seconds)
            time.sleep(max(0.0, 0.025 - seconds))
        return taken

    def memory(self) -> float:
        """Return the memory of the server without its children, in MB."""
        return psutil.Process(self.served.process.pid).memory_info().rss / 1e6


def prepare(url: str, tells: int) -> None:
    """Create the studies of both tokens."""
    problem = bi.Problem(BOX, None, bi.Minimize())
    mine = bi.Study.create("mine", problem, "random", 0, url)
    for _ in range(0, tells, 500):
        mine.ask(500)
    points = np.random.default_rng(0).random((TRIALS, BOX.domain.dim))
    for i in range(4):
        bi.Study.create(f"filled{i}", problem, "random", 0, url)
        study = bi.Study.create(f"theirs{i}", problem, "random", 0, url)
        study.add(points, [float(((x - 0.3) ** 2).sum()) for x in points])
    slow = bi.Problem(bi.Box([0.0] * 20, [1.0] * 20), None, bi.Minimize())
    points = np.random.default_rng(0).random((400, 20))
    for i in range(2):
        study = bi.Study.create(f"slow{i}", slow, "gp", 0, url)
        study.add(points, [float(((x - 0.3) ** 2).sum()) for x in points])


READS = [
    ("GET", f"/v1/studies/theirs{i}/{verb}", None)
    for verb in ("columns", "trials?limit=1000", "log?limit=1000", "solutions?count=100")
    for i in range(4)
]
ASKS = [
    ("POST", f"/v1/studies/{name}/ask", {"count": 4})
    for name in ("theirs0", "theirs1", "theirs2", "slow0", "slow1")
]
LIVE = [f"/v1/studies/theirs{i}/live" for i in range(4)]


OBSERVATIONS = [
    (
        "POST",
        f"/v1/studies/filled{i}/observations",
        {"observations": [{"point": [0.1] * 6, "outputs": 1.0}] * 1000},
    )
    for i in range(4)
]


def invalid_declaration() -> tuple[str, str, Any]:
    """Return a request of 4 MB with a million invalid values."""
    parameters = {f"p{i}": {"type": "choice", "values": [[]] * 900} for i in range(1000)}
    space = {"type": "box", "parameters": parameters}
    problem = {"space": space, "objective": {"type": "minimize"}}
    return "POST", "/v1/studies", {"name": "invalid", "problem": problem}


def floods(served: Served, meter: Meter, repeats: int, chosen: list[str]) -> None:
    """Print quiet and loaded milliseconds of tells for each flood."""
    port, token = served.port, served.token
    cases: dict[str, tuple[Callable[..., None], Any, int]] = {
        "reads": (hammer, READS, 16),
        "asks": (hammer, ASKS, 16),
        "streams": (stream, LIVE, 200),
        "observations": (hammer, OBSERVATIONS, 16),
        "invalid declarations": (hammer, [invalid_declaration()], 16),
        "requests without a token": (strangers, 0.0, 600),
        "new connections": (strangers, 0.05, 16),
    }
    cases = {name: case for name, case in cases.items() if not chosen or name in chosen}
    print("| flood | quiet p50, p99, ms | loaded p50, p99, ms | ratio of p99 |")
    print("|---|---:|---:|---:|")
    for name, (flood, what, clients) in cases.items():
        quiet: list[float] = []
        loaded: list[float] = []
        for _ in range(repeats):
            quiet += meter.tells()
            with running(flood, port, token, what, clients):
                loaded += meter.tells()
            time.sleep(2.0)
        (q50, q99), (l50, l99) = (np.quantile(one, [0.5, 0.99]) for one in (quiet, loaded))
        print(
            f"| {name} | {q50:.1f}, {q99:.1f} | {l50:.1f}, {l99:.1f} | {l99 / q99:.1f} |",
            flush=True,
        )


def silent(served: Served, meter: Meter) -> None:
    """Print the response to a valid request beside 1,001 silent connections."""
    lines = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(1001)]
    time.sleep(2.0)
    taken = meter.tells()[:20]
    refused = sum(one >= 60_000 for one in taken)
    print(f"1,001 silent connections: {refused} of {len(taken)} tells refused, ", end="")
    print(f"p50 {np.median(taken):.1f} ms", flush=True)
    for line in lines:
        line.close()


def bodies(served: Served, meter: Meter) -> None:
    """Print the memory that 150 unfinished bodies without a token take."""
    time.sleep(2.0)
    before, lines = meter.memory(), []
    for _ in range(150):
        line = socket.create_connection(("127.0.0.1", served.port))
        line.settimeout(0.5)
        line.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4194304\r\n\r\n")
        with suppress(OSError):
            line.sendall(b" " * 4_000_000)
        lines.append(line)
    time.sleep(1.0)
    print(f"150 unfinished bodies: {meter.memory() - before:.0f} MB more", flush=True)
    for line in lines:
        line.close()


def declaration(served: Served, meter: Meter) -> None:
    """Print the time for which a large declaration and an ask delay a health check."""
    values = [f"v{i:04d}" for i in range(440)]
    parameters = {f"p{i:04d}": {"type": "choice", "values": values} for i in range(800)}
    problem = {
        "space": {"type": "box", "parameters": parameters},
        "objective": {"type": "minimize", "output": "y"},
    }
    longest, before, statuses = 0.0, meter.memory(), []

    def ask() -> None:
        line = http.client.HTTPConnection("127.0.0.1", served.port, timeout=120.0)
        body = {"name": "large", "problem": problem, "strategy": {"name": "random"}}
        statuses.append(call(line, served.token, "POST", "/v1/studies", body)[0])
        if statuses == [201]:
            path = "/v1/studies/large/ask"
            statuses.append(call(line, served.token, "POST", path, {"count": 1})[0])

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    peak = before
    while thread.is_alive():
        line = http.client.HTTPConnection("127.0.0.1", served.port, timeout=120.0)
        began = time.perf_counter()
        line.request("GET", "/healthz")
        line.getresponse().read()
        longest = max(longest, time.perf_counter() - began)
        peak = max(peak, meter.memory())
        time.sleep(0.05)
    print(
        f"a declaration of {len(json.dumps(problem)) / 1e6:.1f} MB and an ask: status {statuses}, "
        f"health check delayed by {longest:.2f} s, {peak - before:.0f} MB more",
        flush=True,
    )


def isolation(served: Served) -> None:
    """Print the time of an ask while another study has a slow one, of the same token."""
    line = http.client.HTTPConnection("127.0.0.1", served.port, timeout=600.0)
    call(line, served.token, "POST", "/v1/studies/theirs3/ask", {})
    with running(hammer, served.port, served.token, ASKS[3:4], 4):
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            status, _ = call(line, served.token, "POST", "/v1/studies/theirs3/ask", {})
            taken.append(time.perf_counter() - began)
    print(f"ask beside slow asks of another study: status {status}, {max(taken):.2f} s at most")


def competing(served: Served) -> None:
    """Print the statuses of asks of one study by 16 clients, each with another budget."""
    statuses: list[int] = []

    def work(number: int) -> None:
        line = http.client.HTTPConnection("127.0.0.1", served.port, timeout=600.0)
        for _ in range(5):
            body = {"budget": 10_000 + number}
            status, _ = call(line, served.token, "POST", "/v1/studies/theirs3/ask", body)
            statuses.append(status)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    print(f"80 competing asks: statuses {sorted(set(statuses))}, {took:.1f} s", flush=True)


def listing(served: Served, url: str) -> None:
    """Print the time to list 300 studies of 50 trials."""
    problem = bi.Problem(BOX, None, bi.Minimize())
    points = np.random.default_rng(0).random((50, BOX.domain.dim))
    for i in range(300):
        bi.Study.create(f"many{i}", problem, "random", 0, url).add(points, points.sum(1))
    line = http.client.HTTPConnection("127.0.0.1", served.port, timeout=600.0)
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        _, body = call(line, served.token, "GET", "/v1/studies?limit=300")
        taken.append(time.perf_counter() - began)
    count = len(json.loads(body)["studies"])
    print(f"list of {count} studies: {taken[0]:.2f} s, then {np.median(taken[1:]):.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tells", type=int, default=200, help="tells in each period")
    parser.add_argument("--floods", default="", help="names of floods, separated by commas")
    parser.add_argument("--only", default="", help="names of parts, separated by commas")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/runs.db"
        prepare(url, (14 * options.repeats + 4) * options.tells)
        served = Served(Path(folder), url)
        meter = Meter(served, served.tokens.make("other", Access.WRITE).secret, options.tells)
        parts: dict[str, Callable[[], None]] = {
            "floods": lambda: floods(
                served, meter, options.repeats, [one for one in options.floods.split(",") if one]
            ),
            "isolation": lambda: isolation(served),
            "competing": lambda: competing(served),
            "listing": lambda: listing(served, url),
            "bodies": lambda: bodies(served, meter),
            "silent": lambda: silent(served, meter),
            "declaration": lambda: declaration(served, meter),
        }
        try:
            meter.tells()
            for name, part in parts.items():
                if not options.only or name in options.only.split(","):
                    part()
        finally:
            served.kill()


if __name__ == "__main__":
    main()
