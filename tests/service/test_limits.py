"""Limits that hold on every route: bodies, responses, requests at once and a second, revocation."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inside import Inside

import bo_invert as bi
from bo_invert.service import live_events, pages
from bo_invert.service.quotas import Admission, Memory, Quota, RequestKind
from bo_invert.service.request_body import BODY, OUTCOME_BODY, SMALL_BODY

NAME = "s"
READS = (
    "", "/trials", "/trials?limit=1000", "/trials/0", "/columns", "/best", "/solutions?count=100",
    "/curve", "/log", "/gallery", "/pending", "/outlook", "/plots/timeline", "/recommended",
)  # fmt: skip
"""GET routes of a study, after its path."""
FRONTS = ("/front", "/hypervolume")
"""GET routes of a study of several criteria, after its path."""
TARGETS = ("/verdict", "/posterior", "/predicted", "/trials/0/tolerances")
"""GET routes of a study of a target, after its path."""
CHANGES = (
    "ask", "trials/0/tell", "trials/0/fail", "trials/0/heartbeat", "heartbeat", "trials/0/release",
    "trials/0/cancel", "trials/0/retry", "trials/0/amend", "observations", "enqueue", "table",
    "results", "end", "predict", "reachable", "retarget",
)  # fmt: skip
"""POST routes of a study, after its path."""


def created(inside: Inside, dim: int = 1, trials: int = 1) -> bi.Study:
    """Create a study with observations in a box of unit length."""
    problem = bi.Problem(bi.Box([0.0] * dim, [1.0] * dim), None, bi.Minimize())
    study = bi.Study.create(NAME, problem, "random", storage=inside.store)
    points = np.random.default_rng(0).random((trials, dim))
    study.add(points, points.sum(axis=1))
    return study


def test_the_lists_above_are_complete(tmp_path: Path) -> None:
    paths = Inside(tmp_path).request("GET", "/openapi.json").json()["paths"]
    study, one = "/v1/studies/{study}", "{number}"
    known = {(study + "/" + verb.replace("trials/0", f"trials/{one}"), "post") for verb in CHANGES}
    known |= {
        (
            study
            + verb.partition("?")[0]
            .replace("trials/0", f"trials/{one}")
            .replace("timeline", "{plot}"),
            "get",
        )
        for verb in (*READS, *FRONTS, *TARGETS)
    }
    known |= {("/v1/studies", "get"), ("/v1/studies", "post"), (study, "delete")}
    known |= {(study + "/live", "get")}
    assert {(path, method) for path, methods in paths.items() for method in methods} == known


async def called(
    inside: Inside, method: str, path: str, chunks: list[bytes], headers: list[tuple[bytes, bytes]]
) -> tuple[list[Any], int]:
    """Send a request in chunks; return its messages and the number of chunks that were read."""
    pathname, _, query = path.partition("?")
    scope = {
        "type": "http", "method": method, "path": pathname, "raw_path": pathname.encode(),
        "query_string": query.encode(), "headers": [(b"host", b"127.0.0.1"), *headers],
    }  # fmt: skip
    sent: list[Any] = []
    read = 0

    async def receive() -> dict[str, Any]:
        nonlocal read
        if read == len(chunks):
            await asyncio.sleep(3600.0)
        read += 1
        more = read < len(chunks)
        return {"type": "http.request", "body": chunks[read - 1], "more_body": more}

    async def send(message: Any) -> None:
        sent.append(message)

    await asyncio.wait_for(inside.app(scope, receive, send), 20.0)
    return sent, read


ROUTES = [
    *(("GET", f"/v1/studies/{NAME}{verb}") for verb in (*READS, *FRONTS, *TARGETS)),
    *(("POST", f"/v1/studies/{NAME}/{verb}") for verb in CHANGES),
    ("GET", "/v1/studies"), ("POST", "/v1/studies"), ("DELETE", f"/v1/studies/{NAME}"),
    ("GET", f"/v1/studies/{NAME}/live"), ("GET", "/"), ("GET", "/healthz"),
    ("GET", "/static/page.js"), ("GET", "/openapi.json"), ("POST", "/nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_body_is_read_without_a_token(tmp_path: Path, method: str, path: str) -> None:
    inside = Inside(tmp_path)
    created(inside)
    for headers in ([], [(b"authorization", b"Bearer wrong")]):
        sent, read = asyncio.run(called(inside, method, path, [b"x" * 1000] * 3, headers))
        assert read == 0
        assert sent[0]["status"] in (200, 401)


LIMITS = {
    "observations": BODY, "table": BODY, "results": BODY, "trials/0/tell": OUTCOME_BODY,
    "trials/0/amend": OUTCOME_BODY, "enqueue": OUTCOME_BODY, "predict": OUTCOME_BODY,
    "reachable": OUTCOME_BODY, "retarget": OUTCOME_BODY,
}  # fmt: skip


@pytest.mark.parametrize("verb", CHANGES)
def test_bodies_are_bounded(tmp_path: Path, verb: str) -> None:
    inside = Inside(tmp_path)
    created(inside)
    limit = LIMITS.get(verb, SMALL_BODY)
    token = (b"authorization", f"Bearer {inside.secrets['write']}".encode())
    chunks = [b" " * 65536] * (2 * limit // 65536)
    sent, read = asyncio.run(called(inside, "POST", f"/v1/studies/{NAME}/{verb}", chunks, [token]))
    assert sent[0]["status"] == 413
    assert read <= limit // 65536 + 1


@pytest.mark.parametrize("verb", READS)
def test_responses_are_bounded(tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE_BYTES", 20_000)
    monkeypatch.setattr("bo_invert.service.routes_read.PAGE_BYTES", 20_000)
    inside = Inside(tmp_path)
    study = created(inside, dim=50, trials=100)
    one = len(inside.request("GET", f"/v1/studies/{NAME}/trials/0").content)
    added = len(json.dumps(inside.store.events(NAME)[0]))
    answer = inside.request("GET", f"/v1/studies/{NAME}{verb}")
    assert answer.status_code == 200
    header = len(json.dumps(study.journal.header))
    largest = added if verb == "/log" else one
    assert len(answer.content) <= 20_000 + largest + 2 * header


def test_large_samples_are_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bo_invert.service.routes_inverse.PAGE_BYTES", 20_000)
    inside = Inside(tmp_path)
    target = bi.Target({"y": 5.0}, tolerance=1.0)
    problem = bi.Problem(bi.Box([0.0] * 10, [1.0] * 10), None, target)
    points = np.random.default_rng(0).random((10, 10))
    bi.Study.create(NAME, problem, "random", storage=inside.store).add(points, points.sum(axis=1))
    answer = inside.request("GET", f"/v1/studies/{NAME}/posterior?count=1000")
    assert answer.status_code == 200, answer.text
    assert 1 <= len(answer.json()["points"]) < 100
    assert len(answer.content) < 30_000


def test_pages_hold_all_items_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE_BYTES", 20_000)
    monkeypatch.setattr("bo_invert.service.routes_read.PAGE_BYTES", 20_000)
    inside = Inside(tmp_path)
    study = created(inside, dim=20, trials=100)
    study.ask(30)
    for verb, items in (("trials", "trials"), ("columns", "number"), ("log", "events")):
        found: list[Any] = []
        after: int | None = 0
        requests = 0
        while after is not None:
            path = f"/v1/studies/{NAME}/{verb}?after={after}"
            page = inside.request("GET", path).json()
            found += page[items]
            after, requests = page["next"], requests + 1
        assert requests > 1, verb
        expected = {
            "trials": [trial.number for trial in study.trials],
            "number": [trial.number for trial in study.trials],
            "events": inside.store.events(NAME),
        }[items]
        assert (
            [one["number"] for one in found] == expected
            if items == "trials"
            else (found == expected)
        )
    for i in range(30):
        bi.Study.create(f"more{i}", study.problem, "random", storage=inside.store)
    names, after, requests = [], 0, 0
    while after is not None:
        page = inside.request("GET", f"/v1/studies?after={after}").json()
        names += [one["name"] for one in page["studies"]]
        after, requests = page["next"], requests + 1
    assert names == inside.store.names()
    assert requests > 1


def test_an_ask_returns_as_many_trials_as_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bo_invert.service.routes_write.PAGE_BYTES", 20_000)
    inside = Inside(tmp_path)
    created(inside, dim=50)
    answer = inside.request("POST", f"/v1/studies/{NAME}/ask", json={"count": 500})
    assert 1 <= len(answer.json()["trials"]) < 20
    assert len(answer.content) <= 20_000


def test_declarations_with_too_many_coordinates_are_refused(tmp_path: Path) -> None:
    values = [f"v{i}" for i in range(1000)]
    parameters = {f"p{i}": {"type": "choice", "values": values} for i in range(11)}
    body = {
        "name": "large",
        "problem": {
            "space": {"type": "box", "parameters": parameters},
            "objective": {"type": "minimize", "output": "y"},
        },
    }
    inside = Inside(tmp_path)
    answer = inside.request("POST", "/v1/studies", json=body)
    assert answer.status_code == 422
    assert "11000" in answer.json()["detail"]
    for one in parameters.values():
        one["ordered"] = True
    assert inside.request("POST", "/v1/studies", json=body).status_code == 201


KINDS = {
    RequestKind.READ: ("GET", f"/v1/studies/{NAME}"),
    RequestKind.ASK: ("POST", f"/v1/studies/{NAME}/ask"),
    RequestKind.WRITE: ("POST", f"/v1/studies/{NAME}/heartbeat"),
    RequestKind.STREAM: ("GET", "/v1/studies/none/live"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_request_has_a_rate_of_each_token(tmp_path: Path, kind: RequestKind) -> None:
    clock = [0.0]
    quotas = {kind: Quota(rate=20.0, burst=2.0, open=9, running=9)}
    inside = Inside(tmp_path, Admission(quotas, lambda: clock[0]))
    created(inside)
    method, path = KINDS[kind]
    token = "write"

    def status(token: str) -> int:
        body = {"json": {"worker": "w"}} if method == "POST" else {}
        return inside.request(method, path, token, **body).status_code

    assert [status(token) == 429 for _ in range(3)] == [False, False, True]
    assert status("read") != 429, "another token has a rate of its own"
    clock[0] += 0.05
    assert status(token) != 429


@pytest.mark.parametrize("kind", KINDS)
def test_requests_at_once_are_bounded(kind: RequestKind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bo_invert.service.quotas.PENALTY", 0.0)
    admission = Admission({kind: Quota(rate=1e9, burst=1e9, open=2, running=2)})

    async def run() -> None:
        async with admission.admit("a", kind), admission.admit("a", kind):
            with pytest.raises(Exception, match=r"2 .* at once"):
                await admission.admit("a", kind).__aenter__()
            async with admission.admit("b", kind):
                pass
        async with admission.admit("a", kind):
            pass

    asyncio.run(run())


def test_small_bodies_do_not_wait_for_large_ones(tmp_path: Path) -> None:
    inside = Inside(tmp_path)
    created(inside)
    token = (b"authorization", f"Bearer {inside.secrets['write']}".encode())
    kind = (b"content-type", b"application/json")
    length = (b"content-length", str(BODY).encode())
    path = f"/v1/studies/{NAME}/"

    async def run() -> list[Any]:
        slow = [
            asyncio.create_task(called(inside, "POST", path + "observations", [], [token, length]))
            for _ in range(3)
        ]
        await asyncio.sleep(0.0)
        sent, _ = await called(inside, "POST", path + "ask", [b"{}"], [token, kind])
        for task in slow:
            assert not task.done()
            task.cancel()
        ended = await asyncio.gather(*slow, return_exceptions=True)
        assert {type(one) for one in ended} == {asyncio.CancelledError}
        assert not inside.app.memory._waiting  # type: ignore[attr-defined]
        return sent

    inside.app.memory._limit = BODY  # type: ignore[attr-defined]
    assert asyncio.run(run())[0]["status"] == 200


@pytest.mark.parametrize(("seconds", "pause"), [(0.001, live_events.INTERVAL), (3.0, 3.0)])
def test_large_summaries_are_streamed_less_often(
    seconds: float, pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(live_events.asyncio, "sleep", lambda seconds: paused(pauses, seconds))
    text = "x" * int(seconds * live_events.STREAM_RATE)

    async def read(client: str, study: str) -> live_events.Summary:
        return live_events.Summary(1, text)

    async def run() -> None:
        events = live_events.LiveEvents(read, lambda: len(pauses) == 3)
        async for _ in events.follow("client", NAME, 0):
            pass

    asyncio.run(run())
    assert pauses == pytest.approx([pause] * 3)


async def paused(pauses: list[float], seconds: float) -> None:
    pauses.append(seconds)


def test_memory_is_bounded_for_each_token() -> None:
    memory, order = Memory(100), list[str]()

    async def use(client: str, size: int, name: str, ended: asyncio.Event) -> None:
        async with memory.hold(client, size):
            order.append(name)
            await ended.wait()

    async def run() -> None:
        first, rest = asyncio.Event(), asyncio.Event()
        rest.set()
        tasks = [asyncio.create_task(use("a", 60, "first", first))]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(use("a", 50, "second", rest))]
        tasks += [asyncio.create_task(use("a", 10, "third", rest))]
        cancelled = asyncio.create_task(use("a", 90, "cancelled", rest))
        tasks += [asyncio.create_task(use("b", 500, "other", rest))]
        await asyncio.sleep(0.01)
        assert order == ["first", "other"]
        cancelled.cancel()
        first.set()
        await asyncio.gather(*tasks)
        assert order == ["first", "other", "second", "third"]
        assert not memory._used
        assert not memory._waiting

    asyncio.run(run())


@pytest.mark.parametrize("verb", ["live", "ask"])
def test_requests_end_when_their_token_is_revoked(
    tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bo_invert.service.middleware._REVOKED", 0.05)
    inside = Inside(tmp_path)
    created(inside)
    asked = asyncio.Event()

    async def waits(*_: object) -> list[Any]:
        asked.set()
        await asyncio.sleep(3600.0)
        return []

    monkeypatch.setattr("bo_invert.service.ask_queue.AskQueue.ask", waits)

    async def run() -> list[Any]:
        token = (b"authorization", f"Bearer {inside.secrets['write']}".encode())
        kind = (b"content-type", b"application/json")
        method = "GET" if verb == "live" else "POST"
        task = asyncio.create_task(
            called(inside, method, f"/v1/studies/{NAME}/{verb}", [b"{}"], [token, kind])
        )
        if verb == "ask":
            await asked.wait()
        else:
            await asyncio.sleep(0.5)
        assert not task.done()
        inside.tokens.revoke("w")
        return (await task)[0]

    sent = asyncio.run(run())
    assert sent[0]["status"] == (200 if verb == "live" else 401)
    assert not sent[-1].get("more_body", False)


def test_a_list_reads_no_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = Inside(tmp_path)
    created(inside, trials=5)
    expected = inside.request("GET", f"/v1/studies/{NAME}").json()
    monkeypatch.setattr(inside.store, "events", None)
    (listed,) = inside.request("GET", "/v1/studies").json()["studies"]
    assert listed == expected


def test_file_limits_are_those_of_the_system() -> None:
    resource = pytest.importorskip("resource")
    from bo_invert.service.server import _raise_file_limit

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        _raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
