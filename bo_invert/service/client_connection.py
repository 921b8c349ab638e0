"""HTTP requests to a server, with retries until a deadline."""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit

from bo_invert import errors
from bo_invert.errors import (
    AccessDeniedError,
    BoInvertError,
    InvalidInputError,
    ServerUnreachableError,
    StorageError,
    require_package,
    warn_user,
)
from bo_invert.service.access_tokens import TokenFile, default_file
from bo_invert.types import JSON

with require_package("studies on a server", "httpx", "service"):
    import httpx

_NEW_PATIENCE, _PATIENCE = 5.0, 60.0
"""Seconds of retries before and after the first response. Engineering choice: a server that never
responded probably has another address; one that did may restart."""
_RETRY = (408, 429, 502, 503, 504)
"""Status codes after which the same request may succeed later (RFC 9110, RFC 6585)."""


class ServerConnection:
    """Connection to a server.

    Each request is repeated until the server responds or the patience ends. Requests that change
    something are idempotent, so a repetition has no effect.

    Args:
        url: URL of the server, ``"https://host:port"``.
        token: bearer token; default: ``$BO_INVERT_TOKEN``, or for a server on this machine the
            first token of its file.
        patience: seconds of retries; default: 60, and 5 before the first response.

    Raises:
        InvalidInputError: ``url`` is invalid or holds a password.
    """

    def __init__(
        self, url: str, token: str | None = None, *, patience: float | None = None
    ) -> None:
        parts = urlsplit(url)
        extra = parts.path.strip("/") or parts.query
        if parts.scheme not in ("http", "https") or not parts.hostname or extra:
            raise InvalidInputError(f"server URL must be like https://host:8765, got {url!r}")
        if parts.username or parts.password:
            raise InvalidInputError(
                "server URL must not hold a password; use token=... or set BO_INVERT_TOKEN"
            )
        self.url = f"{parts.scheme}://{parts.netloc}"
        self.responded = False
        self._patience = patience
        self._token = token or os.environ.get("BO_INVERT_TOKEN") or _local_token(parts.hostname)
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        # No proxies and credentials of the environment: the token is for this server only.
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(30.0, connect=5.0),
            trust_env=False,
        )

    def __str__(self) -> str:
        return self.url

    def shorten_timeouts(self, patience: float = 1.0) -> None:
        """Reduce the patience, for example during a shutdown."""
        self._patience = patience

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, study: str, verb: str, **params: int) -> JSON:
        """Send a GET request about a study."""
        return self.request("GET", study_path(study, verb), params=params)

    def post(
        self, study: str, verb: str, body: JSON, key: str | None = None, timeout: float = 30.0
    ) -> JSON:
        """Send a POST request about a study; ``key`` makes it idempotent."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.request(
            "POST", study_path(study, verb), json=body, headers=headers, timeout=timeout
        )

    def request(self, method: str, path: str, *, again: JSON = None, **options: Any) -> JSON:
        """Send a request and repeat it until the server responds.

        Args:
            method: method of HTTP.
            path: path of the URL.
            again: body of repetitions; default: the same body.
            options: options of ``httpx.Client.request``.

        Raises:
            ServerUnreachableError: no response within the patience.
            AccessDeniedError: the token is missing, unknown or read-only.
            BoInvertError: error of the server.
        """
        patience = self._patience or (_PATIENCE if self.responded else _NEW_PATIENCE)
        start, pause, warned = time.monotonic(), 0.1, False
        while True:
            try:
                response = self._http.request(method, path, **options)
            except httpx.TransportError as error:
                cause = f"{type(error).__name__}: {error}"
            else:
                self.responded = True
                if response.status_code not in _RETRY:
                    return self._result(response)
                cause = str(_problem(response)["detail"])
                pause = max(pause, float(response.headers.get("retry-after", 0.0)))
            elapsed = time.monotonic() - start
            if elapsed + pause > patience:
                raise ServerUnreachableError(
                    f"server {self.url} did not answer {method} {path} for {patience:g} seconds "
                    f"({cause}). Recorded outcomes are safe; try again."
                )
            if elapsed > _NEW_PATIENCE and not warned:
                warned = True
                warn_user(
                    f"no answer from {self.url}; retrying for {patience:g} s in total ({cause})",
                )
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2.0 * pause, 5.0)
            options |= {} if again is None else {"json": again}

    def _result(self, response: httpx.Response) -> JSON:
        """Return the body of a response, or raise the exception that a local study raises."""
        status = response.status_code
        if status < 400:
            return response.json() if response.content else None
        problem = _problem(response)
        detail, name = str(problem["detail"]), str(problem.get("error", ""))
        if status in (401, 403):
            raise AccessDeniedError(
                f"server {self.url} denies access: {detail} "
                "(in Python: token=..., or set BO_INVERT_TOKEN)"
            )
        kind = getattr(errors, errors.RENAMED.get(name, name), None)
        if isinstance(kind, type) and issubclass(kind, BoInvertError):
            raise kind(detail)
        if status in (400, 413, 422):
            raise InvalidInputError(detail)
        raise StorageError(f"server {self.url} returned status {status}: {detail}")


def study_path(study: str, verb: str = "") -> str:
    """Return the path of a study, or of a verb of it."""
    return f"/v1/studies/{quote(study, safe='')}" + (f"/{verb}" if verb else "")


def _local_token(host: str) -> str | None:
    local = host in ("127.0.0.1", "localhost", "::1")
    known = TokenFile(default_file()).all() if local else []
    return known[0].secret if known else None


def _problem(response: httpx.Response) -> JSON:
    """Return the problem details of an error response, at least ``detail``."""
    details: dict[str, JSON] = {"detail": f"status {response.status_code}"}
    with suppress(ValueError, TypeError):  # another program may respond, and not with an object
        details |= response.json()
    return details
