"""A server without a socket, for tests that send many requests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx

from bo_invert.execution.threads import ThreadExecutor
from bo_invert.service.access_tokens import Access, TokenFile
from bo_invert.service.app import create_app
from bo_invert.service.middleware import LOOPBACK
from bo_invert.service.open_studies import OpenStudies
from bo_invert.service.quotas import Admission
from bo_invert.service.registered_problems import RegisteredProblems
from bo_invert.storage.sql import SqlStore


class Inside:
    """The application without a socket: fast enough for thousands of requests."""

    def __init__(
        self, folder: Path, admission: Admission | None = None, hosts: tuple[str, ...] = LOOPBACK
    ) -> None:
        self.url = f"sqlite:///{folder}/runs.db"
        self.store = SqlStore(self.url)
        self.tokens = TokenFile(folder / "tokens.json")
        self.secrets = {
            "write": self.tokens.make("w", Access.WRITE).secret,
            "read": self.tokens.make("r", Access.READ).secret,
        }
        self.studies = OpenStudies(self.store, self.url, RegisteredProblems({}))
        # Strategies run here: no process has to start.
        self.studies.processes.pool.executor = lambda: ThreadExecutor(1)
        self.studies.processes.pool.nice = 0
        self.studies.processes.pool.start = lambda count: None  # type: ignore[method-assign]
        self.app = create_app(self.studies, self.tokens, hosts, admission)

    def request(
        self, method: str, path: str, token: str | None = "write", **options: Any
    ) -> httpx.Response:
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers.setdefault("Authorization", f"Bearer {self.secrets.get(token, token)}")

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1:8765"
            ) as client:
                return await client.request(method, path, headers=headers, **options)

        return asyncio.run(send())

    def asgi(
        self,
        method: str,
        path: str,
        headers: list[tuple[bytes, bytes]],
        body: bytes = b"",
        kind: str = "http",
    ) -> list[dict[str, Any]]:
        """Return the messages of a malformed request with the write token."""
        token = (b"authorization", f"Bearer {self.secrets['write']}".encode())
        scope = {
            "type": kind,
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1"), token, *headers],
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        return sent
