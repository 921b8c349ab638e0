"""HTTP requests to a server, with retries until a deadline."""

from __future__ import annotations

import os
import random
import time
import warnings
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

from bo_invert import errors
from bo_invert.errors import (
    AccessDeniedError,
    BoInvertError,
    InvalidInputError,
    MissingExtraError,
    ServerUnreachableError,
    StorageError,
)
from bo_invert.service.access_tokens import TokenFile, default_file
from bo_invert.types import JSON

try:
    import httpx
except ModuleNotFoundError as error:
    raise MissingExtraError(
        "studies on a server need the package httpx; run: pip install 'bo-invert[service]'"
    ) from error

_NEW_PATIENCE, _PATIENCE = 5.0, 60.0
"""Seconds of retries before and after the first response. Engineering choice: a server that never
responded probably has another address; one that did may restart."""
_RETRY = (429, 502, 503, 504)
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
        self.study_id: str | None = None
        """Id of the only study that requests may concern; None for all studies."""
        self.responded = False
        self._patience = patience
        self._token = token or os.environ.get("BO_INVERT_TOKEN") or _local_token(parts.hostname)
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        timeout = httpx.Timeout(30.0, connect=5.0)
        # No proxies and credentials of the environment: the token is for this server only.
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=timeout, trust_env=False
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
        return self.request("GET", study_path(study, verb), params=params, headers=self._headers())

    def post(
        self, study: str, verb: str, body: JSON, key: str | None = None, timeout: float = 30.0
    ) -> JSON:
        """Send a POST request about a study; ``key`` makes it idempotent."""
        headers = self._headers() | ({} if key is None else {"Idempotency-Key": key})
        path = study_path(study, verb)
        return self.request("POST", path, lambda: body, headers=headers, timeout=timeout)

    def request(
        self, method: str, path: str, body: Callable[[], JSON] | None = None, **options: Any
    ) -> JSON:
        """Send a request and repeat it until the server responds.

        Raises:
            ServerUnreachableError: no response within the patience.
            AccessDeniedError: the token is missing, unknown or read-only.
            BoInvertError: error of the server.
        """
        patience = self._patience or (_PATIENCE if self.responded else _NEW_PATIENCE)
        start, pause, warned = time.monotonic(), 0.1, False
        while True:
            try:
                json = {} if body is None else {"json": body()}
                response = self._http.request(method, path, **json, **options)
            except httpx.TransportError as error:
                cause = f"{type(error).__name__}: {error}"
            else:
                status, self.responded = response.status_code, True
                if status < 400:
                    return response.json() if response.content else None
                if status not in _RETRY:
                    raise _error(status, _content(response), self.url)
                cause = str(_content(response).get("detail", status))
                pause = max(pause, float(response.headers.get("retry-after", 0.0)))
            elapsed = time.monotonic() - start
            if elapsed + pause > patience:
                raise ServerUnreachableError(
                    f"server {self.url} did not answer {method} {path} for {patience:g} seconds "
                    f"({cause}). Recorded outcomes are safe; try again."
                )
            if elapsed > _NEW_PATIENCE and not warned:
                warned = True
                warnings.warn(
                    f"no answer from {self.url}; retrying for {patience:g} s in total ({cause})",
                    stacklevel=2,
                )
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2.0 * pause, 5.0)

    def _headers(self) -> dict[str, str]:
        return {} if self.study_id is None else {"Study-Id": self.study_id}


def study_path(study: str, verb: str = "") -> str:
    """Return the path of a study, or of a verb of it."""
    return f"/v1/studies/{quote(study, safe='')}" + (f"/{verb}" if verb else "")


def _local_token(host: str) -> str | None:
    if host not in ("127.0.0.1", "localhost", "::1"):
        return None
    known = TokenFile(default_file()).all()
    return known[0].secret if known else None


def _content(response: httpx.Response) -> dict[str, Any]:
    try:
        content = response.json()
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {"detail": f"status {response.status_code}"}


def _error(status: int, content: dict[str, Any], url: str) -> BoInvertError:
    """Convert an error response to the exception that a local study raises."""
    detail = str(content.get("detail", f"status {status}"))
    if status in (401, 403):
        return AccessDeniedError(
            f"server {url} denies access: {detail} (in Python: token=..., or set BO_INVERT_TOKEN)"
        )
    name = str(content.get("error", ""))
    kind = getattr(errors, errors.RENAMED.get(name, name), None)
    if isinstance(kind, type) and issubclass(kind, BoInvertError):
        return kind(detail)
    if status in (400, 413, 422):
        return InvalidInputError(detail)
    return StorageError(f"server {url} returned status {status}: {detail}")
