"""Log records of the server: failed requests, asks and expired leases, without secrets."""

from __future__ import annotations

import asyncio
import itertools
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from inside import Inside

import bo_invert as bi
from bo_invert.service.app import _lifespan


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    made = Inside(tmp_path)
    problem = bi.Problem(bi.Box([0.0], [1.0]), None, bi.Minimize())
    bi.Study.create("s", problem, "random", storage=made.store)
    return made


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "bo_invert.service")
    return caplog


def test_failed_requests_are_logged_without_secrets(
    inside: Inside, log: pytest.LogCaptureFixture
) -> None:
    secrets = ["a-guessed-token", *inside.secrets.values()]
    inside.request("GET", f"/v1/studies?token={secrets[1]}", secrets[0])
    inside.request("GET", "/v1/studies/none", headers={"Cookie": secrets[1]})
    inside.request("POST", "/v1/studies/s/ask", "read", json={"worker": secrets[1]})
    inside.request("GET", "/v1/studies")
    records = [record.getMessage() for record in log.records]
    assert records == [
        "GET '/v1/studies': 401 (no token)",
        "GET '/v1/studies/none': 404 (token 'w')",
        "POST '/v1/studies/s/ask': 403 (token 'r')",
    ]
    assert not any(secret in log.text for secret in secrets)


def test_asks_are_logged_with_their_seconds(inside: Inside, log: pytest.LogCaptureFixture) -> None:
    assert inside.request("POST", "/v1/studies/s/ask", json={"count": 2}).status_code == 200
    (record,) = [r.getMessage() for r in log.records if r.name.endswith("ask_queue")]
    assert record.startswith("study 's': ask took ")
    assert record.endswith(" s for 2 queries")


def test_expired_leases_are_logged(inside: Inside, log: pytest.LogCaptureFixture) -> None:
    body = {"count": 2, "worker": "lab", "lease": 1}
    inside.request("POST", "/v1/studies/s/ask", json=body)
    study = asyncio.run(inside.studies.open("s"))
    clock = itertools.count()
    study.watch._clock = lambda: float(next(clock))  # one second between two looks

    async def expire() -> None:
        expiry = asyncio.create_task(inside.studies.expire_leases(interval=0.0))
        while not study.journal.idle:
            await asyncio.sleep(0.01)
        expiry.cancel()

    asyncio.run(asyncio.wait_for(expire(), 60.0))
    assert log.text.count("study 's': the lease of worker lab ended") == 1
    assert log.text.count("lost its worker") == 2


def test_start_and_stop_are_logged(inside: Inside, log: pytest.LogCaptureFixture) -> None:
    class Application:
        state = type("State", (), {"studies": inside.studies})

    async def run() -> None:
        async with _lifespan(Application()):  # type: ignore[arg-type]
            pass

    asyncio.run(run())
    assert "server started; storage" in log.text
    assert "server stopped" in log.text


def test_the_server_logs_nothing_by_default(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from pathlib import Path; from inside import Inside\n"
        f"inside = Inside(Path({str(tmp_path)!r}))\n"
        "assert inside.request('GET', '/v1/studies/none').status_code == 404\n"
    )
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert ran.stderr == ""
