"""Requests that no client of ours would send."""

from __future__ import annotations

import gzip
import hmac
import json
import socket
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest
from inside import Inside
from servers import Served

import bo_invert as bi
from bo_invert.service.access_tokens import Access, TokenFile
from bo_invert.service.request_body import BODY

JSON = {"Content-Type": "application/json"}
BOX = {"type": "box", "parameters": {"x": {"type": "float", "low": 0.0, "high": 1.0}}}


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    made = Inside(tmp_path)
    space = bi.Box({"x": bi.Float(0.0, 1.0), "n": bi.Int(1, 5), "c": bi.Choice("a", "b", "c")})
    study = bi.Study.create(
        "s", bi.Problem(space, None, bi.Minimize()), "random", storage=made.store
    )
    study.tell(study.ask()[0], 1.0)
    return made


def post(inside: Inside, path: str, content: bytes, **headers: str) -> httpx.Response:
    return inside.request(
        "POST", f"/v1/studies{path}", content=content, headers={**JSON, **headers}
    )


HALF = b'"\\ud800"'
"""Half of a character: JSON can say it, and no file can hold it."""
NO_BODIES = [
    ("/s/trials/0/tell", b'{"outputs": ' + b"9" * 5000 + b"}"),
    ("/s/trials/0/tell", b'{"outputs": 1' + b"0" * 400 + b"}"),
    ("/s/trials/0/tell", b'{"outputs": 1e400}'),
    ("/s/trials/0/tell", b'{"outputs": {' + HALF + b": 1.0}}"),
    ("/s/trials/0/fail", b'{"reason": ' + HALF + b"}"),
    ("/s/trials/0/tell", b'{"outputs": true}'),
    ("/s/trials/0/tell", b'{"outputs": "1.0"}'),
    ("/s/trials/0/tell", b'{"outputs": 1.0, "attempt": false}'),
    ("/s/ask", b'{"count": 1.5}'),
    ("/s/ask", b'{"count": ' + b"9" * 5000 + b"}"),
    ("/s/ask", b'{"worker": ' + HALF + b"}"),
    ("/s/ask", b'{"worker": "a\xc2\x9bm"}'),
    ("/s/enqueue", b"[" * 100_000),
    ("/s/trials/0/tell", b'{"a":' * 100_000),
    ("/s/ask", b"[" * 60_000),
    ("/s/enqueue", b'{"parameters": {"x": 0.5, "n": 1, "c": ' + HALF + b"}}"),
    ("/s/enqueue", b'{"parameters": {"x": 0.5, "n": ' + b"9" * 400 + b', "c": "a"}}'),
    ("/s/enqueue", b'{"parameters": {"x": [0.5], "n": {"a": 1}, "c": null}}'),
    ("/s/enqueue", b'{"parameters": {"x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}}"),
    ("/s/observations", b'{"observations": [{"point": [0, 0, 0, 0, 0], "failed": ' + HALF + b"}]}"),
    ("/s/heartbeat", b'{"worker": "\xff"}'),
    ("/s/heartbeat", b'{"worker": "\xed\xa0\x80"}'),
]


@pytest.mark.parametrize(("path", "body"), NO_BODIES, ids=range(len(NO_BODIES)))
def test_bodies_that_python_would_choke_on_are_refused(
    inside: Inside, path: str, body: bytes
) -> None:
    before = inside.store.events("s")
    answer = post(inside, path, body)
    assert answer.status_code in (400, 422), answer.text[:200]
    assert answer.headers["content-type"] == "application/problem+json"
    assert inside.store.events("s") == before


def declaration(**changes: Any) -> dict[str, Any]:
    return {
        "space": BOX,
        "outputs": ["y", "z"],
        "objective": {"type": "minimize", "output": "y"},
        **changes,
    }


def latent(**changes: Any) -> dict[str, Any]:
    measure = {
        "weights": [1.0],
        "means": [[0.0, 0.0]],
        "factors": [[[1.0, 0.0], [0.0, 1.0]]],
        "quantiles": [0.0],
    }
    return declaration(space={"type": "latent", "dim": 2, "reference": {**measure, **changes}})


NO_PROBLEMS: dict[str, dict[str, Any]] = {
    "an identity whose domain is a number": declaration(identity={"domain": 3}),
    "an identity of half a parameter": declaration(
        identity={"domain": {"parameters": {"x": {"type": "float"}}}}
    ),
    "an identity with other parameters": declaration(identity={"domain": {"parameters": {}}}),
    "an identity no file can hold": declaration(identity={"a": [{"b": "\ud800"}]}),
    "an identity that is endless": declaration(identity={"a": float("inf")}),
    "a choice beyond all bounds": declaration(
        space={"type": "box", "parameters": {"x": {"type": "choice", "values": [1, 10**400]}}}
    ),
    "a target of another length": declaration(
        objective={"type": "target", "value": [1, 2], "outputs": ["y"]}
    ),
    "a ragged measure": latent(factors=[[[1.0, 0.0], [1.0]]]),
    "a measure of another dimension": latent(means=[[0.0]]),
    "negative weights": latent(weights=[-1.0]),
    "weights of more than all": latent(weights=[2.0]),
    "a measure without width": latent(factors=[[[0.0, 0.0], [0.0, 0.0]]]),
    "an option no file can hold": {"name": "random", "options": {"a": "\ud800"}},
}


@pytest.mark.parametrize("what", NO_PROBLEMS)
def test_a_study_that_cannot_be_read_is_not_created(inside: Inside, what: str) -> None:
    """One study that cannot be shown would keep all others from being listed."""
    given = NO_PROBLEMS[what]
    body = (
        {"name": "new", "problem": declaration(), "strategy": given}
        if "name" in given
        else {"problem": given}
    )
    answer = post(inside, "", json.dumps({"name": "new", **body}).encode())
    assert answer.status_code == 422, answer.text[:200]
    listed = inside.request("GET", "/v1/studies")
    assert [study["name"] for study in listed.json()["studies"]] == ["s"]


def test_the_declarations_above_are_refused_for_what_is_wrong_with_them(inside: Inside) -> None:
    for name, given in ("box", declaration()), ("latent", latent()):
        made = post(
            inside,
            "",
            json.dumps({"name": name, "problem": given, "strategy": {"name": "prior"}}).encode(),
        )
        assert made.status_code == 201, made.text[:300]


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_numbers_near_the_largest_leave_a_study_that_works(inside: Inside) -> None:
    given = declaration(constraints=["z <= -1e308"])
    assert (
        post(inside, "", json.dumps({"name": "far", "problem": given}).encode()).status_code == 201
    )
    number = post(inside, "/far/enqueue", b'{"point": [0.5]}').json()["number"]
    trial = post(
        inside,
        f"/far/trials/{number}/tell",
        b'{"outputs": [1e308, 1e308], "cost": {"seconds": 1e12}}',
    ).json()
    assert trial["state"] == "failed"
    assert "constraint violation" in trial["reason"]
    assert "is inf" in trial["reason"]
    for path, body in (
        ("observations", b'{"observations": [{"point": [1e308], "outputs": [1, 1]}]}'),
        ("enqueue", b'{"point": [-1e308]}'),
        (f"trials/{number}/tell", b'{"outputs": [1, 1], "point": [1e7]}'),
        (f"trials/{number}/tell", b'{"outputs": [1, 1], "cost": {"seconds": 1e308}}'),
    ):
        assert post(inside, f"/far/{path}", body).status_code == 422
    for path in "", "/far", "/far/trials", "/far/curve", "/far/log":
        assert inside.request("GET", f"/v1/studies{path}").status_code == 200


@pytest.mark.parametrize("number", [2**53 + 1, 10**19, 10**30, "9" * 5000])
@pytest.mark.parametrize(
    "path", ["?after={}", "/s/log?after={}", "/s/trials?after={}", "/s/columns?after={}"]
)
def test_positions_beyond_any_log_are_refused(inside: Inside, path: str, number: object) -> None:
    assert inside.request("GET", f"/v1/studies{path.format(number)}").status_code == 422


@pytest.mark.parametrize(
    "query",
    ["log?after={}", "trials?after={}", "columns?after={}", "columns?since={}"],
)
def test_positions_beyond_the_end_change_nothing(inside: Inside, query: str) -> None:
    known, before = bi.Study.open("s", inside.store), inside.store.events("s")
    paths = [f"/v1/studies/s/{query.format(number)}" for number in (2**53, 2**53 - 1, 10, 4, 3)]
    for path in paths:
        answer = inside.request("GET", path)
        assert answer.status_code == 200
        assert answer.json()["next"] is None
        assert not answer.json().get("events") or "columns" in query
    assert inside.request("GET", "/v1/studies/s/log").json()["events"] == before
    asked = post(inside, "/s/ask", b"{}").json()["trials"]
    assert [trial["number"] for trial in asked] == [1]
    assert post(inside, "/s/trials/1/tell", b'{"outputs": 0.5}').status_code == 200
    assert len(known.trials) == 2
    end = f"/v1/studies/s/log?after={len(before)}"
    assert inside.request("GET", end).json()["events"] == inside.store.events("s")[len(before) :]


def test_a_damaged_study_is_listed_as_such_once_it_was_read(inside: Inside) -> None:
    problem = bi.Problem(bi.Box([0.0], [1.0]), None, bi.Minimize())
    study = bi.Study.create("intact", problem, "random", storage=inside.store)
    study.tell(study.ask()[0], 1.0)
    with sqlite3.connect(inside.store.file.path) as connection:  # type: ignore[union-attr]
        connection.execute("UPDATE events SET data = replace(data, 'ask', 'ASK') WHERE study = 1")
    connection.close()
    for i in range(3):
        listed = inside.request("GET", "/v1/studies").json()
        names = [one["name"] for one in listed["studies"]]
        assert names == (["s", "intact"] if i == 0 else ["intact"])
        assert [one["name"] for one in listed["damaged"]] == ([] if i == 0 else ["s"])
        answer = inside.request("GET", "/v1/studies/s")
        assert answer.status_code == 500
        assert "damaged" in answer.json()["detail"]
        assert inside.request("GET", "/v1/studies/intact").status_code == 200


@pytest.mark.parametrize("number", ["-1", str(10**30), "9" * 5000, "0x0", "%00", "1e0"])
def test_numbers_of_no_trial_are_refused(inside: Inside, number: str) -> None:
    assert inside.request("GET", f"/v1/studies/s/trials/{number}").status_code in (404, 422)
    assert post(inside, f"/s/trials/{number}/tell", b'{"outputs": 2.0}').status_code in (404, 422)


def test_the_last_of_duplicate_keys_counts(inside: Inside) -> None:
    number = post(inside, "/s/ask", b'{"count": 99999, "count": 1}').json()["trials"][0]["number"]
    trial = post(inside, f"/s/trials/{number}/tell", b'{"outputs": 7.0, "outputs": 3.0}').json()
    assert trial["outputs"] == [3.0]
    assert inside.request("GET", f"/v1/studies/s/trials/{number}").json()["outputs"] == [3.0]


def test_a_whole_number_may_have_a_point(inside: Inside) -> None:
    (trial,) = post(inside, "/s/ask", b'{"count": 1.0}').json()["trials"]
    assert (
        post(
            inside, f"/s/trials/{trial['number']}/tell", b'{"attempt": 0.0, "outputs": 1}'
        ).status_code
        == 200
    )


def test_what_is_packed_is_not_unpacked(inside: Inside) -> None:
    for packed in gzip.compress(b'{"outputs": 1.0}'), gzip.compress(b" " * 4 * BODY):
        answer = post(inside, "/s/trials/0/tell", packed, **{"Content-Encoding": "gzip"})
        assert answer.status_code == 400
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ):
        answer = post(inside, "/s/trials/0/tell", b'{"outputs": 1.0}', **{"Content-Type": kind})
        assert answer.status_code == 422, (
            kind
        )  # nor is anything but JSON read: forms are what other pages can send


@pytest.mark.parametrize("length", ["²", "9" * 5000, "+1", "-1", "0x1", "1, 2", "", " 1"])
def test_lengths_that_are_no_lengths_are_refused(inside: Inside, length: str) -> None:
    sent = inside.asgi(
        "POST", "/v1/studies", [(b"content-length", length.encode("latin-1"))], b"{}"
    )
    assert sent[0]["status"] == 413


def test_a_body_longer_than_its_content_length_is_bounded(inside: Inside) -> None:
    sent = inside.asgi("POST", "/v1/studies", [(b"content-length", b"2")], b" " * (BODY + 1))
    assert sent[0]["status"] == 413


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PATCH", "PUT", "CONNECT", "FOO"])
def test_other_methods_do_nothing(inside: Inside, method: str) -> None:
    assert inside.request(method, "/v1/studies/s", None).status_code == 401
    answer = inside.request(method, "/v1/studies/s", headers={"X-Secret": "echo"})
    assert answer.status_code == 405
    assert answer.headers["allow"]
    assert "echo" not in answer.text
    assert inside.secrets["write"] not in answer.text
    assert not any(name.startswith("access-control") for name in answer.headers)
    assert inside.store.names() == ["s"]


def test_tokens_are_taken_from_one_header_alone(inside: Inside) -> None:
    secret = inside.secrets["write"]
    for query in f"token={secret}", f"access_token={secret}", f"Authorization=Bearer%20{secret}":
        assert inside.request("GET", f"/v1/studies?{query}", None).status_code == 401
    for headers in (
        {"Cookie": f"token={secret}"},
        {"X-Token": secret},
        {"Authorization": f"Basic {secret}"},
    ):
        assert inside.request("GET", "/v1/studies", None, headers=headers).status_code == 401
    refused = inside.request("GET", "/v1/studies", "a-mere-guess")
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.headers["x-content-type-options"] == "nosniff"
    assert "a-mere-guess" not in refused.text


def test_every_token_is_compared_in_constant_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = TokenFile(tmp_path / "tokens.json")
    known = [tokens.make(name, Access.READ) for name in "abc"]
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest
    monkeypatch.setattr(
        hmac, "compare_digest", lambda a, b: compared.append((a, b)) or compare(a, b)
    )
    for given, found in ("wrong", None), (known[0].secret, known[0]):
        compared.clear()
        assert tokens.find(given) == found
        assert [b.decode() for _, b in compared] == [token.secret for token in known]


def test_nothing_but_plain_requests_comes_in(inside: Inside) -> None:
    for path in "/", "/v1/studies", "/v1/studies/s/live":
        sent = inside.asgi("GET", path, [], kind="websocket")
        assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.fixture
def served(server: Served) -> Served:
    return server


def talk(served: Served, *parts: bytes) -> bytes:
    """Send bytes and return the head of the response."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=10.0) as line:
        try:
            for part in parts:
                line.sendall(part)
        except OSError:  # the server has closed the connection
            pass
        received = b""
        try:
            while b"\r\n\r\n" not in received and (part := line.recv(65536)):
                received += part
        except OSError:
            pass
    return received


def test_a_flood_of_headers_ends_the_connection(served: Served) -> None:
    flood = b"".join(b"X-%d: %s\r\n" % (i, b"a" * 100) for i in range(2000))
    assert talk(served, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n", flood).startswith(
        b"HTTP/1.1 4"
    )
    assert talk(served, b"GET /", b"a" * 1_000_000).startswith(b"HTTP/1.1 4")
    assert httpx.get(f"{served.url}/healthz").status_code == 200


def test_requests_that_could_be_read_two_ways_are_refused(served: Served) -> None:
    head = f"POST /v1/studies HTTP/1.1\r\nAuthorization: Bearer {served.token}\r\n".encode()
    one = b"Host: 127.0.0.1\r\n"
    for lines in (
        one + b"Content-Length: 2\r\nContent-Length: 3\r\n",
        one + b"Content-Length: two\r\n",
        one + one,
        one + b"Transfer-Encoding: gzip\r\n",
        b"",
    ):
        assert talk(served, head + lines + b"\r\n{}").split(b" ")[1] in (b"400", b"501"), lines


def test_chunks_are_counted(served: Served) -> None:
    head = (
        f"POST /v1/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {served.token}\r\n"
    ).encode()
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    reply = talk(served, head + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 6)
    assert reply.split(b" ")[1] == b"413"
    assert b"connection: close" in reply.lower()


def test_an_upgrade_is_a_plain_request(served: Served) -> None:
    upgrade = (
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
    )
    reply = talk(served, b"GET /v1/studies HTTP/1.1\r\nHost: 127.0.0.1\r\n" + upgrade + b"\r\n")
    assert reply.split(b" ")[1] == b"401"
