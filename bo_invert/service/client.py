"""A study on a server, for those who use it from elsewhere: the same journal, with the same verbs."""

from __future__ import annotations

import os
import random
import time
import uuid
import warnings
from collections.abc import Callable, Collection, Sequence
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
from bo_invert.storage.journal_base import Propose, Verbs
from bo_invert.storage.transitions import Terms
from bo_invert.types import JSON, Cost, Outcome, Query, State, Trial

_PAGE = 1000
_FIRST, _PATIENCE = 5.0, 60.0
"""Seconds to wait for a server that has not answered yet, and for one that has."""
_HURRY = 1.0
"""And for whoever is leaving."""
_AGAIN = (429, 502, 503, 504)
"""Answers after which the same request may succeed a little later."""


class RemoteStore:
    """The studies of a server. Reading is a store's; whoever writes goes through ``journal``.

    Every request is repeated until it is answered or patience ends; what changes something carries a key, or means
    the same when it is said twice, so nothing happens twice.

    Args:
        url: of the server, ``"https://host:port"``.
        token: that the server's operator gave; default: ``$BO_INVERT_TOKEN``, or for a server on this machine the first
            token in its file.
        patience: seconds to go on trying while the server cannot be reached; default: 60, and 5 for one that has never
            answered, whose address is rather mistyped.

    Raises:
        InvalidInputError: this is no URL of a server, or a token would cross a network without encryption.
        MissingExtraError: httpx is not installed.
    """

    #: Studies are created from a declaration of their problem.
    declares = True

    def __init__(
        self, url: str, token: str | None = None, *, patience: float | None = None
    ) -> None:
        parts = urlsplit(url)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.path.strip("/")
            or parts.query
        ):
            raise InvalidInputError(f"the URL of a server is like https://host:8765, got {url!r}")
        if parts.username or parts.password:
            raise InvalidInputError(
                "a server's URL holds no password; pass token=..., or set BO_INVERT_TOKEN"
            )
        try:
            import httpx
        except ImportError:
            raise MissingExtraError(
                "studies on a server need the package httpx; run: pip install 'bo-invert[service]'"
            ) from None
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._patience = patience
        self._token = token or os.environ.get("BO_INVERT_TOKEN") or _local_token(parts.hostname)
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        timeout = httpx.Timeout(30.0, connect=5.0)
        # Neither proxies nor credentials of the environment: the token is for this server alone.
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=timeout, trust_env=False
        )
        self._met = False
        self._identity: str | None = None
        """Of the one study that this store is about; None for any."""
        self._problems = (httpx.TransportError,)

    def __str__(self) -> str:
        return self.url

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteStore, (self.url, self._token)

    def journal(self, name: str) -> RemoteJournal:
        """One study, to be asked and told."""
        made = RemoteStore(self.url, self._token, patience=self._patience)
        journal = RemoteJournal(made, name)
        made._identity = journal.header.get("id")
        made._met = True
        return journal

    def create(self, name: str, header: JSON, events: Sequence[JSON] = ()) -> None:
        if events:
            raise InvalidInputError(
                "a server takes no history; where it runs, import into its storage: bo-invert import FILE --storage ..."
            )
        body = {
            "name": name,
            "problem": header["declared"],
            "problem_name": header["problem_name"],
            "strategy": header["strategy"],
            "seed": header["seed"],
            "provenance": header.get("provenance"),
        }
        first = True

        def again() -> JSON:
            # The first try may have succeeded without our hearing of it.
            nonlocal first
            body["exist_ok"], first = not first, False
            return body

        self.request("POST", "/v1/studies", again)

    def header(self, name: str) -> JSON:
        return self.get(name, "log", limit=1)["header"]

    def names(self) -> list[str]:
        found: list[str] = []
        after: int | None = 0
        while after is not None:
            page = self.request("GET", "/v1/studies", params={"after": after, "limit": _PAGE})
            found += [study["name"] for study in page["studies"]]
            after = page["next"]
        return found

    def events(self, name: str, after: int = 0, limit: int | None = None) -> list[JSON]:
        found: list[JSON] = []
        while limit is None or len(found) < limit:
            wanted = _PAGE if limit is None else min(_PAGE, limit - len(found))
            page = self.get(name, "log", after=after + len(found), limit=wanted)["events"]
            found += page
            if len(page) < wanted:
                break
        return found

    def append(self, name: str, events: Sequence[JSON], after: int) -> int:
        raise StorageError(
            f"the log of {name!r} on {self.url} is written by the server; use the verbs of the study"
        )

    def beat(self, name: str, worker: str) -> None:
        self.post(name, "heartbeat", {"worker": worker})

    def beats(self, name: str) -> dict[str, int]:
        self.header(name)
        return {}

    def delete(self, name: str) -> None:
        self.request("DELETE", f"/v1/studies/{_segment(name)}")

    def hurry(self) -> None:
        """From now on, do not wait long for an answer."""
        self._patience = _HURRY

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def get(self, name: str, verb: str, **params: Any) -> JSON:
        """Read something of a study."""
        headers = {} if self._identity is None else {"Study-Id": self._identity}
        return self.request(
            "GET", f"/v1/studies/{_segment(name)}/{verb}", params=params, headers=headers
        )

    def post(
        self, name: str, verb: str, body: JSON, key: str | None = None, wait: float = 30.0
    ) -> JSON:
        """Change something of a study."""
        headers = {} if self._identity is None else {"Study-Id": self._identity}
        headers |= {} if key is None else {"Idempotency-Key": key}
        path = f"/v1/studies/{_segment(name)}/{verb}"
        return self.request("POST", path, lambda: body, headers=headers, timeout=wait)

    def request(
        self, method: str, path: str, body: Callable[[], JSON] | None = None, **options: Any
    ) -> JSON:
        """One request, repeated until it is answered.

        Raises:
            ServerUnreachableError: no answer within the patience.
            AccessDeniedError: the token is missing, wrong, or may only read.
            BoInvertError: what the server said.
        """
        patience = self._patience or (_PATIENCE if self._met else _FIRST)
        began, pause, warned = time.monotonic(), 0.1, False
        while True:
            try:
                json = {} if body is None else {"json": body()}
                response = self._http.request(method, path, **json, **options)
            except self._problems as error:
                said, status = f"{type(error).__name__}: {error}", 0
            else:
                status, self._met = response.status_code, True
                if status < 400:
                    return response.json() if response.content else None
                if status not in _AGAIN:
                    raise _error(status, _content(response), self.url)
                said = str(_content(response).get("detail", status))
                pause = max(pause, float(response.headers.get("retry-after", 0.0)))
            waited = time.monotonic() - began
            if waited + pause > patience:
                raise ServerUnreachableError(
                    f"the server {self.url} did not answer {method} {path} for {patience:g} seconds; nothing "
                    f"that was told is lost, try again ({said})"
                )
            if waited > _FIRST and not warned:
                warned = True
                warnings.warn(
                    f"no answer from {self.url} yet; trying for {patience:g} s in all ({said})",
                    stacklevel=2,
                )
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2.0 * pause, 5.0)


class RemoteJournal(Verbs):
    """A study on a server: read as events, changed by its verbs. Strategies are asked there."""

    _store: RemoteStore

    def take(
        self,
        propose: Propose,
        count: int,
        budget: int | None,
        retries: int = 0,
        terms: Terms = Terms(),  # noqa: B008  (frozen)
        known: Collection[int] | None = None,
    ) -> list[Trial]:
        body: dict[str, JSON] = {
            "count": count,
            "budget": budget,
            "retries": retries,
            "worker": terms.worker,
            "lease": terms.lease,
        }
        if known is not None:
            body["known"] = sorted(known)
        given = self._store.post(self.name, "ask", body, terms.key or uuid.uuid4().hex, wait=330.0)
        return self._read([trial["number"] for trial in given["trials"]])

    def finish(self, number: int, outcome: Outcome, attempt: int | None = None) -> Trial:
        body: dict[str, JSON] = {"attempt": attempt, "cost": outcome.cost.to_json()}
        if outcome.state is State.COMPLETED:
            told = outcome.to_json()
            body |= {
                "outputs": told["y"],
                **{what: told[what] for what in ("point", "gradient", "trace")},
            }
            given = self._store.post(self.name, f"trials/{number}/tell", body)
        else:
            body |= {
                "reason": outcome.reason[:2000],
                "infeasible": outcome.state is State.INFEASIBLE,
            }
            given = self._store.post(self.name, f"trials/{number}/fail", body)
        return self._read([given["number"]])[0]

    def add(
        self, queries: Sequence[Query], outcomes: Sequence[Outcome], key: str | None = None
    ) -> list[Trial]:
        observations = []
        for query, outcome in zip(queries, outcomes, strict=True):
            verdict = "infeasible" if outcome.state is State.INFEASIBLE else "failed"
            answer = (
                {"outputs": outcome.y.tolist()}
                if outcome.y is not None
                else {verdict: outcome.reason}
            )
            cost = {"cost": outcome.cost.to_json()} if outcome.cost.calls else {}
            observations.append({"point": query.point.tolist(), **answer, **cost})
        if not observations:
            return []
        given = self._store.post(
            self.name, "observations", {"observations": observations}, key or uuid.uuid4().hex
        )
        return self._read([trial["number"] for trial in given["trials"]])

    def enqueue(self, query: Query, key: str | None = None) -> Trial:
        given = self._store.post(
            self.name, "enqueue", {"point": query.point.tolist()}, key or uuid.uuid4().hex
        )
        return self._read([given["number"]])[0]

    def cancel(self, number: int, reason: str) -> Trial:
        given = self._store.post(self.name, f"trials/{number}/cancel", {"reason": reason})
        return self._read([given["number"]])[0]

    def release(self, number: int, attempt: int, cost: Cost) -> Trial:
        body = {"attempt": attempt, "cost": cost.to_json()}
        return self._read(
            [self._store.post(self.name, f"trials/{number}/release", body)["number"]]
        )[0]

    def lose(self, gone: Callable[[str], bool]) -> None:
        """Nothing: the server sees to it."""

    def abandon(self, numbers: set[int]) -> None:
        for number in sorted(numbers):
            attempt = len(self.trial(number).attempts) - 1
            self._store.post(
                self.name, f"trials/{number}/release", {"attempt": attempt, "lost": True}
            )

    def beat(self, worker: str) -> None:
        self._store.beat(self.name, worker)

    def beats(self) -> dict[str, int]:
        return {}

    @property
    def leases(self) -> dict[str, float]:
        """None: the server watches them."""
        return {}

    def _read(self, numbers: Sequence[int]) -> list[Trial]:
        with self._lock:
            log = self.read()
            return [log[number] for number in numbers]


def _segment(name: str) -> str:
    return quote(name, safe="")


def _local_token(host: str) -> str | None:
    from bo_invert.service.tokens import Tokens, default_file

    if host not in ("127.0.0.1", "localhost", "::1"):
        return None
    known = Tokens(default_file()).all()
    return known[0].secret if known else None


def _content(response: Any) -> dict[str, Any]:
    try:
        content = response.json()
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {"detail": f"status {response.status_code}"}


def _error(status: int, content: dict[str, Any], url: str) -> BoInvertError:
    """What the server said, as the error it would have been here."""
    said = str(content.get("detail", f"status {status}"))
    if status in (401, 403):
        return AccessDeniedError(
            f"the server {url} refuses: {said} (in Python: token=..., or set BO_INVERT_TOKEN)"
        )
    kind = getattr(errors, str(content.get("error", "")), None)
    if isinstance(kind, type) and issubclass(kind, BoInvertError):
        return kind(said)
    return (
        InvalidInputError(said)
        if status in (400, 413, 422)
        else StorageError(f"the server {url} answered {status}: {said}")
    )
