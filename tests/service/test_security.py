"""Access control and limits of requests."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from inside import Inside
from servers import Served

import bo_invert as bi
from bo_invert.service.access_tokens import Access, TokenFile, default_file
from bo_invert.service.quotas import Admission, Quota, RequestKind
from bo_invert.service.request_body import BODY
from bo_invert.service.server import ServerSettings, is_loopback, tokens_of


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    made = Inside(tmp_path)
    problem = bi.Problem(bi.Box([0.0], [1.0]), None, bi.Minimize())
    study = bi.Study.create("s", problem, "random", storage=made.store)
    study.tell(study.ask()[0], 1.0)
    return made


def operations(inside: Inside) -> Iterator[tuple[str, str]]:
    described = inside.request("GET", "/openapi.json")
    assert described.status_code == 200, described.text
    for path, methods in described.json()["paths"].items():
        for method in methods:
            yield method.upper(), path.replace("{study}", "s").replace("{number}", "0")


PUBLIC = {"/", "/healthz", "/static/page.js", "/static/page.css"}


def test_every_verb_wants_the_right_token(inside: Inside) -> None:
    verbs = [
        *operations(inside),
        ("GET", "/openapi.json"),
        ("GET", "/nothing"),
        ("POST", "/v1/nothing"),
    ]
    assert len(verbs) > 18
    for method, path in verbs:
        if path.endswith("/live"):
            continue  # it would go on; without a token it is refused like the others
        for token in (
            None,
            "",
            "wrong",
            inside.secrets["write"][:-1],
            inside.secrets["write"] + "x",
        ):
            answer = inside.request(method, path, token, json={})
            assert answer.status_code == 401, (method, path, token)
            assert answer.headers["content-type"] == "application/problem+json"
        reading = inside.request(method, path, "read", json={})
        changes = method != "GET" and not path.endswith(("/predict", "/reachable"))
        assert (reading.status_code == 403) == changes, (
            method,
            path,
            reading.status_code,
        )
        writing = inside.request(method, path, "write", json={} if method == "POST" else None)
        assert writing.status_code not in (401, 403, 405), (method, path)
        assert writing.status_code < 500, (method, path, writing.text)
    assert inside.request("GET", "/v1/studies/s/live", "wrong").status_code == 401


def test_only_the_empty_page_is_public(inside: Inside) -> None:
    for path in PUBLIC:
        answer = inside.request("GET", path, None)
        assert answer.status_code == 200, path
        assert b"studies/s" not in answer.content
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    assert inside.request("POST", "/healthz", None).status_code == 401
    page = (
        inside.request("GET", "/", None).text + inside.request("GET", "/static/page.js", None).text
    )
    assert "https://" not in page
    assert "http://" not in page
    assert "innerHTML" not in page


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_hosts_and_origins_of_others_are_refused(inside: Inside, method: str) -> None:
    def status(**headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return inside.request(method, "/v1/studies", "write", headers=named).status_code

    assert status() != 403
    for host in ("localhost:8765", "127.0.0.1", "[::1]:8765", "LOCALHOST"):
        assert status(host=host) != 403
    for host in ("evil.example", "127.0.0.1.evil.example", "evil.example:8765", "0.0.0.0"):
        assert status(host=host) == 403, host
    for host in (
        "localhost@evil.example",
        "",
        "[::",
        "*",
        "user@localhost",
        "localhost/path",
        "localhost?query",
        "localhost#part",
        "localhost:port",
        "localhost:99999",
        "localhost:80:80",
        "localhost, evil.example",
        "localhost evil.example",
        "[::1]evil",
        "::1",
    ):
        assert status(host=host) == 400, host
    assert status(origin="http://127.0.0.1:8765") != 403
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9999", "file://"):
        assert status(origin=origin) == 403, origin
    assert status(sec_fetch_site="cross-site") == 403
    assert status(sec_fetch_site="same-origin") != 403


NASTY = [
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "x'; DROP TABLE studies; --",
    '" OR 1=1 --',
    "<script>alert(1)</script>",
    "%00",
    "a/b/c?d=e#f",
    "naïve 東京 🙂",
    "%2e%2e",
    "con\\..\\..",
]


@pytest.mark.parametrize("name", NASTY)
def test_names_are_only_names(inside: Inside, name: str) -> None:
    from urllib.parse import quote

    declared = {
        "space": {"type": "box", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}},
        "objective": {"type": "minimize", "output": "y"},
    }
    made = inside.request("POST", "/v1/studies", json={"name": name, "problem": declared})
    assert made.status_code == 201, made.text
    found = inside.request("GET", f"/v1/studies/{quote(name, safe='')}")
    assert found.status_code == 200
    assert found.json()["name"] == name
    assert set(inside.store.names()) == {"s", name}
    assert inside.request("DELETE", f"/v1/studies/{quote(name, safe='')}").status_code == 204
    assert inside.store.names() == ["s"]


def test_files_of_the_server_cannot_be_named(inside: Inside) -> None:
    for path in (
        "../app.py",
        "..%2fapp.py",
        "%2e%2e/app.py",
        "/etc/passwd",
        "page.js/../../app.py",
        "index.html%00.js",
    ):
        answer = inside.request("GET", f"/static/{path}", None)
        assert answer.status_code in (401, 404), (path, answer.status_code)
        assert b"FastAPI" not in answer.content


BAD_BODIES: list[tuple[str, bytes]] = [
    ("not JSON", b"{"),
    ("nothing", b""),
    ("an array", b"[]"),
    ("deep", b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ("unknown field", b'{"name": "a", "code": "import os"}'),
    ("NaN", b'{"name": "a", "seed": NaN}'),
    ("infinite", b'{"outputs": Infinity}'),
    ("large number", b'{"outputs": 1e999}'),
    ("long name", b'{"name": "' + b"a" * 1000 + b'"}'),
    ("many trials", b'{"count": 100000}'),
    ("many numbers", b'{"outputs": [' + b"1," * 20_000 + b"1]}"),
    ("wrong types", b'{"count": "1; DROP TABLE", "worker": {"a": 1}}'),
    ("not UTF-8", b'{"name": "\xff\xfe"}'),
    ("control characters", b'{"name": "a\\u0000b"}'),
]


@pytest.mark.parametrize(("what", "body"), BAD_BODIES, ids=[what for what, _ in BAD_BODIES])
def test_bad_bodies_are_refused_with_a_reason(inside: Inside, what: str, body: bytes) -> None:
    before = inside.store.events("s")
    for path in (
        "/v1/studies",
        "/v1/studies/s/trials/0/tell",
        "/v1/studies/s/observations",
        "/v1/studies/s/ask",
    ):
        if what == "nothing" and path.endswith("ask"):
            continue
        answer = inside.request(
            "POST", path, content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in (400, 413, 422), (path, answer.status_code, answer.text[:200])
        assert answer.json()["detail"]
    assert inside.store.events("s") == before
    assert inside.store.names() == ["s"]


def test_a_body_that_is_too_large_is_not_read(inside: Inside) -> None:
    answer = inside.request("POST", "/v1/studies", content=b"x" * (BODY + 1))
    assert answer.status_code == 413

    async def endless() -> Any:
        while True:
            yield b"x" * 65536

    assert inside.request("POST", "/v1/studies", content=endless()).status_code == 413
    lying = inside.request(
        "POST", "/v1/studies", content=b"{}", headers={"Content-Length": "99999999999"}
    )
    assert lying.status_code == 413
    assert (
        inside.request(
            "POST", "/v1/studies", content=b"{}", headers={"Content-Length": "-1"}
        ).status_code
        == 413
    )


def test_asks_are_limited_for_each_token(tmp_path: Path) -> None:
    clock = [0.0]
    quota = Quota(2.0, 3.0, open=10, running=10)
    inside = Inside(tmp_path, Admission({RequestKind.ASK: quota}, lambda: clock[0]))
    answers = [inside.request("POST", "/v1/studies/none/ask", json={}) for _ in range(4)]
    assert [a.status_code for a in answers] == [404, 404, 404, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert inside.request("GET", "/v1/studies").status_code == 200
    clock[0] += 0.5
    assert inside.request("POST", "/v1/studies/none/ask", json={}).status_code == 404
    assert inside.request("POST", "/v1/studies/none/ask", json={}).status_code == 429


def test_other_users_cannot_read_the_tokens(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "tokens.json"
    tokens = TokenFile(file)
    assert tokens.all() == []
    first = tokens.make("first", Access.WRITE)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(first.secret) >= 40
    assert tokens.find(first.secret) == first
    assert tokens.find("") is None
    assert tokens.find(first.secret[:-1]) is None
    assert tokens.find("ü" * 50) is None
    with pytest.raises(bi.InvalidInputError, match="must be new"):
        tokens.make("first", Access.READ)
    second = tokens.make("second", Access.READ)
    tokens.revoke("first")
    assert tokens.find(first.secret) is None
    assert tokens.find(second.secret) == second
    assert os.listdir(file.parent) == ["tokens.json"]
    file.chmod(0o644)
    with pytest.raises(bi.InvalidInputError, match="chmod 600"):
        tokens.all()


def test_an_address_that_others_reach_must_be_meant_and_guarded(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    for host in ("0.0.0.0", "::", "192.168.0.1", "example.org"):
        assert not is_loopback(host)
        with pytest.raises(bi.InvalidInputError, match="--expose"):
            tokens_of(ServerSettings("runs.db", host, tokens=file))
        with pytest.raises(bi.InvalidInputError, match="needs a token"):
            tokens_of(ServerSettings("runs.db", host, expose=True, tokens=file))
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        assert is_loopback(host)
    _, made = tokens_of(ServerSettings("runs.db", tokens=file))
    assert made is not None
    _, again = tokens_of(ServerSettings("runs.db", tokens=file))
    assert again is None
    tokens_of(ServerSettings("runs.db", "0.0.0.0", expose=True, tokens=file))


@pytest.fixture
def served(server: Served) -> Served:
    return server


def listening(pid: int) -> set[str]:
    """Local addresses on which a process listens, as the kernel says."""
    own = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            own.add(os.readlink(link))
        except OSError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                found.add(fields[1].split(":")[0])
    return found


def test_nothing_but_loopback_is_listened_on(served: Served) -> None:
    assert listening(served.process.pid) == {"0100007F"}


def test_slow_clients_do_not_delay_others(served: Served) -> None:
    slow = []
    for _ in range(20):
        one = socket.create_connection(("127.0.0.1", served.port))
        one.sendall(b"POST /v1/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n")
        one.sendall(f"Authorization: Bearer {served.token}\r\n\r\n{{".encode())
        slow.append(one)
    began = time.monotonic()
    assert httpx.get(f"{served.url}/healthz").status_code == 200
    assert time.monotonic() - began < 5.0
    for one in slow:
        one.close()


def test_health_and_tells_are_answered_while_a_strategy_thinks(served: Served) -> None:
    headers = {"Authorization": f"Bearer {served.token}"}
    problem = bi.Problem(bi.Box([0.0] * 20, [1.0] * 20), None, bi.Minimize())
    study = bi.Study.create("heavy", problem, "gp", 0, served.url, token=served.token)
    import numpy as np

    points = np.random.default_rng(0).random((300, 20))
    study.add(points, [float((x**2).sum()) for x in points])
    waiting = study.enqueue(point=points[0])
    study.ask()
    done = threading.Event()

    def ask() -> None:
        body = {"count": 32}
        answer = httpx.post(
            f"{served.url}/v1/studies/heavy/ask", json=body, headers=headers, timeout=120.0
        )
        assert answer.status_code == 200
        assert len(answer.json()["trials"]) == 32
        done.set()

    thread = threading.Thread(target=ask)
    thread.start()
    answered = 0
    while not done.is_set():
        assert httpx.get(f"{served.url}/healthz", timeout=60.0).status_code == 200
        tell = f"{served.url}/v1/studies/heavy/trials/{waiting.number}/tell"
        assert (
            httpx.post(tell, json={"outputs": 1.0}, headers=headers, timeout=60.0).status_code
            == 200
        )
        answered += not done.is_set()
    thread.join()
    assert answered >= 3


def test_internal_errors_are_not_disclosed(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret path /etc/shadow")

    monkeypatch.setattr(inside.store, "summaries", broken)
    answer = inside.request("GET", "/v1/studies")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert json.loads(answer.text)["title"]


def test_two_hosts_in_one_request_are_refused(inside: Inside) -> None:
    headers = [("host", "localhost"), ("host", "evil.example")]
    for pair in headers, headers[::-1], [headers[0]] * 2:
        answer = inside.request("GET", "/healthz", None, headers=httpx.Headers(pair))
        assert answer.status_code == 400, pair
    assert inside.request("GET", "/healthz", None).status_code == 200


@pytest.mark.parametrize(
    "name", ["", " ", "   ", "\t", "\u00a0", "\u2003 \u3000", "\u200b", "\ufeff", "\u2800"]
)
def test_blank_names_of_studies_are_refused(name: str, inside: Inside) -> None:
    problem = {
        "space": {"type": "box", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}},
        "objective": {"type": "minimize"},
    }
    body = {"name": name, "problem": problem}
    assert inside.request("POST", "/v1/studies", json=body).status_code == 422
    assert inside.store.names() == ["s"]
    assert inside.request("POST", "/v1/studies", json=body | {"name": " a "}).status_code == 201


def test_tokens_lie_where_the_system_wants_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("BO_INVERT_TOKENS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    usual = tmp_path / ".config" / "bo_invert" / "tokens.json"
    assert default_file() == usual
    for relative in "", "config", "./config":
        monkeypatch.setenv("XDG_CONFIG_HOME", relative)
        assert default_file() == usual
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "other"))
    assert default_file() == tmp_path / "other" / "bo_invert" / "tokens.json"
    monkeypatch.setenv("BO_INVERT_TOKENS", str(tmp_path / "own.json"))
    assert default_file() == tmp_path / "own.json"
