"""JSON endpoints as oracles, against servers in a thread that behave, and others that do not."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.oracles.base import OracleResult

pytest.importorskip("httpx")

X = np.array([1.0, 2.5])
Reply = tuple[int, Any] | tuple[int, Any, dict[str, str]]


class Server:
    """Server that records requests and responds with ``reply(path, body, n)`` to request n."""

    def __init__(self, reply: Callable[[str, Any, int], Reply]) -> None:
        asked: list[tuple[str, str, Any, dict[str, str]]] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                received = self.rfile.read(int(self.headers.get("content-length", 0)))
                body = json.loads(received) if received else None
                asked.append((self.command, self.path, body, dict(self.headers)))
                status, content, *more = reply(self.path, body, len(asked))
                sent = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in (more[0] if more else {}).items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_PUT = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self.asked = asked
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/predict"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving(reply: Callable[[str, Any, int], Reply]) -> Iterator[Server]:
    server = Server(reply)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def raw(behave: Callable[[socket.socket], None]) -> Iterator[tuple[str, list[int]]]:
    """Run a raw TCP server; ``behave`` gets the connection after a request."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken: list[int] = []

    def attend(connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            connection.recv(65536)
            taken.append(1)
            behave(connection)

    def listen() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=attend, args=(connection,), daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", taken
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def ask(oracle: bi.Oracle, design: Any = X, outputs: tuple[str, ...] = ("y",)) -> OracleResult:
    (answer,) = oracle.answers([design], outputs)
    return answer


def reason(answer: OracleResult) -> str:
    assert isinstance(answer.error, bi.FailedError)
    return answer.error.reason


def total(path: str, body: Any, n: int) -> Reply:
    return 200, {"y": sum(body)}


# What goes in, and what comes out


@pytest.mark.parametrize(
    ("options", "reply", "design"),
    [
        ({}, lambda p, b, n: (200, sum(b)), X),
        ({"method": "put", "outputs": ["y"]}, lambda p, b, n: (200, [sum(b)]), X),
        ({"answer": "r.scores[0]"}, lambda p, b, n: (200, {"r": {"scores": [sum(b)]}}), X),
        (
            {"answer": {"y": "r.a", "z": "r.b"}},
            lambda p, b, n: (200, {"r": {"a": sum(b), "b": 1}}),
            X,
        ),
        (
            {"body": {"instances": ["{x}"], "kind": "at {x[0]}"}},
            lambda p, b, n: (200, sum(b["instances"][0]) if b["kind"] == "at 1.0" else 0),
            X,
        ),
        ({}, lambda p, b, n: (200, b["a"] + len(b["b"])), {"a": 1.5, "b": "é/"}),
        (
            {"method": "GET"},
            lambda p, b, n: (200, 3.5 if p == "/predict?a=1.5&b=%C3%A9%2F" else 0),
            {"a": 1.5, "b": "é/"},
        ),
    ],
)
def test_designs_travel_as_json(options: dict[str, Any], reply: Any, design: Any) -> None:
    with serving(reply) as server:
        answer = ask(bi.Http(server.url, **options), design)
    assert (answer.y, answer.calls) == ([3.5], 1)


def test_placeholders_in_the_address_are_quoted() -> None:
    with serving(lambda p, b, n: (200, 1.0)) as server:
        oracle = bi.Http(server.url + "/{x}?t={x:>4}", method="GET")
        assert ask(oracle, "../a?b#c").y == [1.0]
        assert server.asked[0][1] == "/predict/..%2Fa%3Fb%23c?t=..%2Fa%3Fb%23c"
        assert "got 'pressure'" in reason(ask(bi.Http(server.url + "/{pressure}"), {"a": 1}))
        assert "in its url" in reason(ask(bi.Http(server.url, method="GET"), X))
        assert len(server.asked) == 1, "what cannot be put together is not sent"


def test_a_batch_is_one_request() -> None:
    designs = [np.array([float(i), 1.0]) for i in range(3)]
    for reply, options in (
        (lambda p, b, n: (200, [sum(r) for r in b]), {}),
        (lambda p, b, n: (200, {"y": [sum(r) for r in b], "z": [0, 0, 0]}), {}),
        (lambda p, b, n: (200, {"predictions": [{"s": sum(r)} for r in b["instances"]]}),
         {"body": {"instances": "{x}"}, "answer": {"y": "predictions[*].s"}}),
    ):  # fmt: skip
        with serving(reply) as server:
            answers = bi.Http(server.url, batched=True, **options).answers(designs, ("y",))
            assert [answer.y for answer in answers] == [[1.0], [2.0], [3.0]]
            assert [answer.calls for answer in answers] == [1, 1, 1]
            assert len(server.asked) == 1


def test_rows_without_outputs_are_errors() -> None:
    rows = [1.0, None, {"infeasible": "no ring"}, "NaN", {"failed": "later"}]
    with serving(lambda p, b, n: (200, rows)) as server:
        answers = bi.Http(server.url, batched=True).answers([X] * 5, ("y",))
        unsent = bi.Http(server.url, batched=True).answers([X, X * np.nan, X, X, X, X], ("y",))
    assert [type(answer.error).__name__ for answer in answers] == [
        "NoneType", "FailedError", "InfeasibleError", "FailedError", "FailedError"
    ]  # fmt: skip
    assert {answer.calls for answer in answers} == {1}
    assert "nan" in reason(unsent[1])
    assert unsent[0].y == [1.0]


# Bills


def test_retries_are_billed_and_refusals_are_not() -> None:
    def reply(path: str, body: Any, n: int) -> Reply:
        return [(503, "busy"), (429, "slow down"), (502, b"<html>"), (504, ""), (200, 1.0)][n - 1]

    with serving(reply) as server:
        answer = ask(bi.Http(server.url, retries=4, backoff=0.001))
    assert (answer.y, answer.calls, len(server.asked)) == ([1.0], 4, 5)


def test_a_server_that_never_recovers() -> None:
    with serving(lambda p, b, n: (503, "busy")) as server:
        answer = ask(bi.Http(server.url, retries=2, backoff=0.001))
        assert "503" in reason(answer)
        assert "3 attempts" in reason(answer)
        assert answer.calls == 3 == len(server.asked)
        batch = bi.Http(server.url, retries=1, backoff=0.001, batched=True).answers([X] * 3, ("y",))
        assert [answer.calls for answer in batch] == [2, 2, 2]
        assert len(server.asked) == 5, "a server in trouble is not asked for each design of a batch"


def test_an_unreachable_server_costs_one_call() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    listener.close()
    answer = ask(bi.Http(url, retries=2, backoff=0.001))
    assert "cannot be reached" in reason(answer)
    assert answer.calls == 1
    study = bi.Study.create(
        "s",
        bi.Problem(bi.Box([0.0], [1.0]), bi.Http(url, retries=0), bi.Minimize()),
        strategy="random",
    )
    with pytest.warns(UserWarning, match="cannot be reached"):
        study.run(12)
    assert study.spent.values == 12 == study.spent.failed


def test_only_429_is_a_call_that_was_refused() -> None:
    with serving(lambda p, b, n: (429, "slow down")) as server:
        answer = ask(bi.Http(server.url, retries=1, backoff=0.001))
    assert (answer.calls, len(server.asked)) == (1, 2)


def test_retry_after_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(
        "bo_invert.oracles.io.http_deadlines.HttpSession.sleep",
        lambda self, seconds, interruption: waits.append(seconds) or True,
    )
    headers = ["7", formatdate(time.time() + 20, usegmt=True), "nonsense", "-1"]
    replies = [(429, "", {"retry-after": value}) for value in headers]
    with serving(lambda p, b, n: (*replies, (200, 1.0))[n - 1]) as server:
        assert ask(bi.Http(server.url, retries=4)).y == [1.0]
    assert waits[0] == 7.0
    assert 15.0 < waits[1] <= 20.0
    assert 1.0 <= waits[2] <= 2.0, (
        "the third pause of its own: 0.5 s doubled twice, at least half of it"
    )
    assert 2.0 <= waits[3] <= 4.0
    with serving(lambda p, b, n: (503, "", {"retry-after": "3600"})) as server:
        answer = ask(bi.Http(server.url))
    assert "pause of 3600 s" in reason(answer)
    assert answer.calls == 1


def test_refusals_of_a_design() -> None:
    page = "<html>" + "no such model " * 100
    with serving(
        lambda p, b, n: (422, {"detail": "bad ring"}) if b[0] > 2 else (404, page.encode())
    ) as server:
        oracle = bi.Http(server.url, infeasible=[422])
        bad, missing = ask(oracle, X + 2), ask(oracle, X)
        assert isinstance(bad.error, bi.InfeasibleError)
        assert "bad ring" in bad.error.reason
        assert "404 Not Found: '<html>no such" in reason(missing)
        assert len(reason(missing)) < 400
        assert bad.calls == missing.calls == 1
        assert "422" in reason(ask(bi.Http(server.url), X + 2))


def test_one_bad_design_of_a_batch_is_found_and_all_pay_twice() -> None:
    def reply(path: str, body: Any, n: int) -> Reply:
        return (422, "ring") if any(row[0] > 2 for row in body) else (200, [row[0] for row in body])

    designs = [np.array([float(i)]) for i in range(4)]
    with serving(reply) as server:
        answers = bi.Http(server.url, batched=True, infeasible=422).answers(designs, ("y",))
        assert [answer.y for answer in answers[:3]] == [[0.0], [1.0], [2.0]]
        assert isinstance(answers[3].error, bi.InfeasibleError)
        assert [answer.calls for answer in answers] == [2, 2, 2, 2]
        assert len(server.asked) == 5
    with serving(lambda p, b, n: (401, "who are you?")) as server:
        answers = bi.Http(server.url, batched=True).answers(designs, ("y",))
        assert [answer.calls for answer in answers] == [1] * 4
        assert len(server.asked) == 1, "the status does not depend on the design"


# Servers that do not behave


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"<html><body>Welcome to the hotel WLAN</body></html>", "must be JSON"),
        (b"", "nothing"),
        (b'{"y": 1', "must be JSON"),
        (b"[" * 100_000, "must be JSON"),
        (b"NaN", "not finite"),
        (b'{"z": 1}', "missing"),
        (b"\xff\xfe\x00", "must be JSON"),
        (b"null", "null"),
    ],
)
def test_answers_that_are_none(answer: bytes, words: str) -> None:
    with serving(lambda p, b, n: (200, answer)) as server:
        result = ask(bi.Http(server.url))
    assert words in reason(result)
    assert result.calls == 1


def test_a_connection_that_breaks_after_the_request_was_read() -> None:
    with raw(lambda connection: None) as (url, taken):
        answer = ask(bi.Http(url, retries=2, backoff=0.001))
    assert "broke the connection" in reason(answer)
    assert answer.calls == 3 == len(taken), "each may have reached the oracle"

    def half(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[1.0")

    with raw(half) as (url, taken):
        answer = ask(bi.Http(url, retries=1, backoff=0.001))
    assert answer.calls == 2 == len(taken)
    with raw(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9\r\n")) as (url, taken):
        assert "broke the connection" in reason(ask(bi.Http(url, retries=0)))


def trickle(*start: bytes) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        for part in start:
            connection.sendall(part)
        for _ in range(3000):
            connection.sendall(b"x")
            time.sleep(0.02)

    return behave


@pytest.mark.parametrize(
    "behave",
    [
        trickle(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"),
        trickle(b"HTTP/1.1 200 OK\r\nx-"),
        trickle(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffff\r\n"),
        lambda connection: time.sleep(60),
    ],
    ids=["body", "headers", "chunk", "silence"],
)
def test_a_server_that_trickles_or_says_nothing_has_its_time(
    behave: Callable[[socket.socket], None],
) -> None:
    with raw(behave) as (url, taken):
        started = time.monotonic()
        answer = ask(bi.Http(url, timeout=0.5, retries=3, backoff=0.001))
        assert time.monotonic() - started < 30.0, "a minute of trickling was not waited for"
    assert "in 0.5 s" in reason(answer)
    assert answer.calls == 1 == len(taken), "asking again would be asking twice"


def test_a_handshake_without_an_end_sends_nothing() -> None:
    with raw(lambda connection: time.sleep(20)) as (url, _):
        answer = ask(bi.Http(url.replace("http", "https"), timeout=0.3, retries=1, backoff=0.001))
    assert "no connection in 0.3 s" in reason(answer)
    assert "2 attempts" in reason(answer)
    assert answer.calls == 1


def test_requests_work_within_an_event_loop_and_after_a_fork() -> None:
    async def within() -> OracleResult:
        return ask(oracle)

    with serving(total) as server:
        oracle = bi.Http(server.url)
        assert asyncio.run(within()).y == [3.5]
        if (child := os.fork()) == 0:
            os._exit(0 if ask(oracle).y == [3.5] else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert ask(oracle).y == [3.5]
    assert len(server.asked) == 3


def test_endless_replies_are_not_stored() -> None:
    block = b"1" * 65536

    def behave(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        for _ in range(1_000_000_000 // len(block)):
            connection.sendall(block)

    tracemalloc.start()
    try:
        with raw(behave) as (url, _):
            answer = ask(bi.Http(url, limit=1_000_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "longer than 1000000 bytes" in reason(answer)
    assert peak < 30e6
    with serving(lambda p, b, n: (200, b"\x1f\x8b", {"content-encoding": "gzip"})) as server:
        assert "compressed" in reason(ask(bi.Http(server.url)))
        assert server.asked[0][3]["accept-encoding"] == "identity"


def test_redirections_stay_on_their_host() -> None:
    with serving(total) as other:

        def reply(path: str, body: Any, n: int) -> Reply:
            targets = {
                "/predict": "/there",
                "/away": other.url,
                "/round": "/round",
                "/moved": "/there",
            }
            if path == "/there":
                return 200, sum(body)
            return 302 if path == "/moved" else 307, "", {"location": targets[path]}

        with serving(reply) as server:
            base = server.url.removesuffix("/predict")
            assert ask(bi.Http(server.url)).y == [3.5]
            assert "more than 3 redirections" in reason(ask(bi.Http(base + "/round")))
            assert "/there; if that is right" in reason(ask(bi.Http(base + "/moved"))), (
                "a POST would become a GET"
            )
            assert other.url in reason(ask(bi.Http(base + "/away")))
        assert other.asked == []


# Around it


TOKEN = "s3cret-token-value"


def test_secrets_stay_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = lambda p, b, n: (400, f"header was Bearer {TOKEN} and cookie {TOKEN[::-1]}")  # noqa: E731
    with serving(echo) as server:
        oracle = bi.Http(
            server.url + "?model=7",
            headers={"Authorization": f"Bearer {TOKEN}", "Cookie": TOKEN[::-1]},
        )
        answer = ask(oracle)
        assert server.asked[0][3]["Authorization"] == f"Bearer {TOKEN}"
        problem = bi.Problem(bi.Box([0.0], [1.0]), oracle, bi.Minimize())
    shown = [
        reason(answer),
        repr(oracle),
        json.dumps(oracle.to_json()),
        json.dumps(problem.to_json()),
        caplog.text,
    ]
    assert "***" in shown[0]
    for text in shown:
        assert TOKEN not in text
        assert TOKEN[::-1] not in text
    assert "model=..." in repr(oracle)
    with pytest.raises(bi.InvalidInputError) as refused:
        bi.Http("http://host/", headers={"Authorization": f"{TOKEN}\n"})
    assert TOKEN not in str(refused.value)


def test_threads_and_copies_share_an_oracle() -> None:
    with serving(total) as server:
        oracle = pickle.loads(pickle.dumps(bi.Http(server.url)))
        assert ask(oracle).y == [3.5]
        with ThreadPoolExecutor(4) as pool:
            values = list(pool.map(lambda i: ask(oracle, [i, 0.5]).y[0], range(20)))
        again = pickle.loads(pickle.dumps(oracle))
        assert ask(again).y == [3.5]
    assert values == [i + 0.5 for i in range(20)]


def test_a_study_over_threads_and_processes_pays_what_the_server_counted() -> None:
    def reply(path: str, body: Any, n: int) -> Reply:
        return (503, "") if n % 4 == 0 else (200, abs(body[0] - 0.3))

    for executor in ("threads", "processes"):
        with serving(reply) as server:
            oracle = bi.Http(server.url, backoff=0.001)
            study = bi.Study.create(
                "s", bi.Problem(bi.Box([0.0], [1.0]), oracle, bi.Minimize()), strategy="random"
            )
            study.run(15, executor=executor, batch=2)
            assert study.spent.values == len(server.asked) >= 15


def test_an_interrupt_ends_requests_and_pauses() -> None:
    for behave, options in (
        (lambda connection: time.sleep(60), {}),
        (lambda connection: None, {"backoff": 300.0}),
    ):
        with raw(behave) as (url, taken):
            oracle = bi.Http(url, **options)
            caller = threading.Thread(target=ask, args=(oracle,))
            caller.start()
            while not taken:
                time.sleep(0.01)
            time.sleep(0.1)
            oracle.interrupt()
            caller.join(20)
            assert not caller.is_alive()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "host/path"}, "http://"),
        ({"url": "file:///etc/passwd"}, "http://"),
        ({"url": "http://me:word@host/"}, "headers"),
        ({"url": "http://{x}/"}, "host"),
        ({"url": "http://[::1/"}, "url"),
        ({"method": "DELETE"}, "method"),
        ({"method": "GET", "batched": True}, "GET"),
        ({"method": "GET", "body": {}}, "GET"),
        ({"url": "http://host/{x}", "batched": True}, "batch"),
        ({"retries": -1}, "retries"),
        ({"timeout": 0}, "timeout"),
        ({"headers": {"a b": "c"}}, "header"),
        ({"headers": {"a": "ü"}}, "header a"),
        ({"answer": "a[b]"}, "path"),
    ],
)
def test_what_cannot_be_meant_is_refused_early(options: dict[str, Any], words: str) -> None:
    with pytest.raises(bi.InvalidInputError, match=words):
        bi.Http(**{"url": "http://host/", **options})
