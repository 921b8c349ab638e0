"""JSON endpoint as an oracle (extra ``http``)."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from bo_invert.errors import (
    EvaluationError,
    FailedError,
    InfeasibleError,
    InvalidInputError,
    one_of,
    require,
    require_package,
)
from bo_invert.hashing import text_digest
from bo_invert.oracles.base import (
    Oracle,
    OracleResult,
    answer_each,
    as_failure,
    pause,
    result_of,
    time_limit,
)
from bo_invert.oracles.io.http_deadlines import (
    BrokenConnectionError,
    HttpReply,
    HttpSession,
    NoReplyError,
    UnreachableError,
)
from bo_invert.oracles.io.json_codec import (
    JsonPath,
    checked_path,
    extract,
    plain,
    quoted,
    read_json,
    row_of,
    rows_of,
    with_json,
)
from bo_invert.oracles.io.templates import fill, fill_json, names_in, values_of
from bo_invert.types import JSON, Design
from bo_invert.user_data import whole_number, whole_numbers

_BUSY = (502, 503, 504)
"""Status codes of a server that may recover (RFC 9110)."""
_NOT_DESIGN = (401, 403, 404, 405, 407, 410, 501)
"""Status codes that do not depend on the design (RFC 9110); a batch is not split after them."""
_LONGEST_PAUSE = 60.0
"""Largest accepted ``Retry-After`` in seconds. Engineering choice: longer pauses block a worker."""


class Http(Oracle):
    """Oracle that sends designs to a JSON endpoint.

    **Billing.** Each request that may have reached the oracle is a call. Replies, broken
    connections and timeouts are calls. Failed connections and status 429 are not. A design without
    any reply is billed one call, so that the budget ends a run against a dead server. Each design
    of a batch pays for all requests that contained it.

    **Retries.** Failed and broken connections and the statuses 429, 502, 503 and 504 are retried
    after ``Retry-After`` or after pauses that double. Timeouts are not retried, because the server
    may still compute the first request. If a batch fails because of its designs, or times out, each
    design is sent alone.

    Values of ``headers`` appear in no ``repr``, log or reason, but worker processes receive them.

    Args:
        url: URL of the endpoint. Placeholders after the host (``/predict/{name}?t={temperature}``)
            are filled from the design and percent-encoded. Use ``headers`` for credentials.
        method: ``"POST"``, ``"PUT"`` or ``"GET"``. A GET without placeholders sends a dict design
            as a query.
        body: JSON with placeholders, for example ``{"instances": "{x}"}``. A string that consists
            of one placeholder becomes its value. Default: ``"{x}"``, the design or the list of
            designs of a batch.
        headers: headers of each request.
        timeout: seconds from the start of a request to the last byte of the reply; None for no
            limit.
        retries: largest number of retries of a request.
        backoff: seconds before the first retry.
        batched: one request contains several designs; the reply is a list of rows or an object of
            columns.
        outputs: names of the outputs; required for several that the reply does not name.
        answer: path of the outputs in the JSON, for example ``"result.scores[0]"``, with ``[*]``
            for every item; or a dict with one path per output.
        infeasible: status codes, for example 422, of designs that can never be evaluated.
        limit: largest reply in bytes; longer ones fail.

    Raises:
        InvalidInputError: invalid argument.
        MissingExtraError: httpx is not installed.
    """

    waits = True

    def __init__(
        self,
        url: str,
        method: str = "POST",
        body: JSON = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = 60.0,
        retries: int = 3,
        backoff: float = 0.5,
        batched: bool = False,
        outputs: Sequence[str] | None = None,
        answer: JsonPath = None,
        infeasible: int | Collection[int] = (),
        limit: int = 16_000_000,
    ) -> None:
        with require_package("Http", "httpx", "http"):
            import httpx  # noqa: F401
        self.url, self.method, self.body = _checked_url(url), str(method).upper(), body
        one_of("Http", "method", self.method, ("POST", "PUT", "GET"))
        require(
            self.method != "GET" or not (batched or body is not None),
            "Http: method must be 'POST' or 'PUT' with a body or batches, got 'GET'",
        )
        require(
            not batched or not names_in(self.url),
            f"Http: url must not have placeholders with batches, got {names_in(self.url)}; "
            "they hold one design",
        )
        self.headers = _checked_headers(headers or {})
        self.timeout = time_limit("Http", "timeout", timeout)
        self.retries = whole_number("Http", "retries", retries, least=0)
        self.backoff = pause("Http", "backoff", backoff)
        self.batched = bool(batched)
        self.outputs = None if outputs is None else tuple(outputs)
        self.answer = checked_path(answer, "Http")
        self.infeasible = frozenset(whole_numbers("Http", "infeasible", infeasible, least=-(2**31)))
        self._session = HttpSession(
            self.headers, self.timeout, whole_number("Http", "limit", limit)
        )

    def __call__(self, designs: Sequence[Design]) -> list[Any]:
        """Return a row of outputs, or an ``EvaluationError``, for each design."""
        batches = [list(designs)] if self.batched else [[design] for design in designs]
        return [row for batch in batches for row in self._send(batch).rows]

    def answers(self, designs: Sequence[Design], outputs: Sequence[str]) -> list[OracleResult]:
        if not self.batched:
            return [self._results([design], outputs)[0] for design in designs]
        rows = answer_each(
            designs,
            with_json,
            lambda pairs: self._results([design for design, _ in pairs], outputs),
        )
        return [
            row if isinstance(row, OracleResult) else result_of(row, outputs, own=self.outputs)
            for row in rows
        ]

    def interrupt(self) -> None:
        self._session.interrupt()

    def _results(self, designs: list[Any], outputs: Sequence[str]) -> list[OracleResult]:
        reply = self._send(designs)
        if not reply.split or len(designs) == 1:
            return [result_of(row, outputs, reply.calls, self.outputs) for row in reply.rows]
        return [
            result_of(one.rows[0], outputs, reply.calls + one.calls, self.outputs)
            for one in (self._send([design]) for design in designs)
        ]

    def _send(self, designs: list[Any]) -> _BatchReply:
        """Send designs in one request, with its retries."""
        try:
            url, body = self._request(designs, [plain(design) for design in designs])
        except (FailedError, InvalidInputError) as error:
            return _BatchReply([as_failure(error)] * len(designs))
        reply = self._retry(url, body, len(designs))
        return _BatchReply(
            [self._without_secrets(row) for row in reply.rows], max(1, reply.calls), reply.split
        )

    def _request(self, designs: list[Any], sent: list[JSON]) -> tuple[str, bytes | None]:
        values = {"x": sent} if self.batched else values_of(designs[0])
        url = fill(self.url, values, lambda shown: quote(shown, safe=""))
        if self.method != "GET":
            whole = sent if self.batched else sent[0]
            filled = whole if self.body is None else fill_json(self.body, values)
            return url, json.dumps(filled, allow_nan=False).encode()
        if names_in(self.url):
            return url, None
        if not isinstance(sent[0], dict):
            raise InvalidInputError(
                "a GET sends the design in its url; use placeholders, as in '/predict?t={x[0]}'"
            )
        pairs = [
            (name, value if isinstance(value, str) else json.dumps(value))
            for name, value in sent[0].items()
        ]
        return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(pairs)}", None

    def _retry(self, url: str, body: bytes | None, count: int) -> _BatchReply:
        """Send a request with its retries."""
        calls, why, wait, interruption = 0, "", self.backoff, self._session.interruption
        for attempt in range(self.retries + 1):
            try:
                reply = self._session.send(self.method, url, body)
            except UnreachableError as error:
                why, pause = f"cannot be reached: {error}", None
            except NoReplyError as error:
                return _BatchReply(
                    [FailedError(f"{self._shown_url}: {error}")] * count, calls + 1, split=True
                )
            except BrokenConnectionError as error:
                calls, why, pause = calls + 1, f"broke the connection: {error}", None
            else:
                calls += reply.status != 429
                if reply.status not in (429, *_BUSY):
                    return self._read(reply, count, calls)
                why, pause = f"returned {_status(reply)}", reply.pause
            if pause is not None and pause > _LONGEST_PAUSE:
                why += f" and requires a pause of {pause:.0f} s"
                break
            # The random factor spreads the retries of many workers.
            pause = max(pause or 0.0, wait * random.uniform(0.5, 1.0))
            if attempt == self.retries or not self._session.sleep(pause, interruption):
                break
            wait *= 2.0
        why += f" ({attempt + 1} attempts)" if attempt else ""
        return _BatchReply([FailedError(f"{self._shown_url} {why}")] * count, calls)

    def _read(self, reply: HttpReply, count: int, calls: int) -> _BatchReply:
        if reply.status in self.infeasible:
            return _BatchReply(
                [InfeasibleError(f"{_status(reply)}: {quoted(reply.text)}")] * count,
                calls,
                split=True,
            )
        if not 200 <= reply.status < 300 or reply.trouble:
            why = f"returned {_status(reply)}: {reply.trouble or quoted(reply.text)}"
            return _BatchReply(
                [FailedError(f"{self._shown_url} {why}")] * count,
                calls,
                split=reply.status not in _NOT_DESIGN and not 300 <= reply.status < 400,
            )
        try:
            value = extract(read_json(reply.text), self.answer)
            return _BatchReply(rows_of(value, count) if self.batched else [row_of(value)], calls)
        except FailedError as error:
            return _BatchReply(
                [FailedError(f"{self._shown_url}: {error.reason}")] * count, calls, split=True
            )

    def _without_secrets(self, row: object) -> object:
        """Mask the values of headers, and their words such as a token, in an error."""
        if not isinstance(row, EvaluationError):
            return row
        values = [word for value in self.headers.values() for word in (value, *value.split())]
        text = row.reason
        for word in sorted({word for word in values if len(word) > 5}, key=len, reverse=True):
            text = text.replace(word, "***")
        return type(row)(text)

    @property
    def _shown_url(self) -> str:
        """URL without the values of its query."""
        parts = urlsplit(self.url)
        names = "&".join(f"{pair.partition('=')[0]}=..." for pair in parts.query.split("&") if pair)
        return urlunsplit((parts.scheme, parts.netloc, parts.path, names, ""))

    def __repr__(self) -> str:
        return f"Http({self._shown_url!r})"

    def to_json(self) -> JSON:
        body = None if self.body is None else text_digest(json.dumps(self.body), "body").sha256
        return {
            "type": "http",
            "url": self._shown_url,
            "method": self.method,
            "body": body,
            "answer": dict(self.answer) if isinstance(self.answer, Mapping) else self.answer,
        }


@dataclass
class _BatchReply:
    """Reply to a request.

    Attributes:
        rows: rows of outputs or errors, one per design.
        calls: calls billed to each design.
        split: each design should be sent alone.
    """

    rows: list[Any]
    calls: int = 1
    split: bool = False


def _status(reply: HttpReply) -> str:
    return f"{reply.status} {reply.phrase}".strip()


def _checked_url(url: object) -> str:
    import httpx

    try:
        parts = urlsplit(str(url))
        httpx.URL(str(url))
    except (ValueError, httpx.InvalidURL) as error:
        raise InvalidInputError(f"Http: url must be valid, got {url!r:.80}: {error}") from None
    require(
        parts.scheme in ("http", "https") and parts.netloc,
        f"Http: url must start with http:// or https:// and a host, got {url!r:.80}",
    )
    require(
        not names_in(f"{parts.scheme}://{parts.netloc}"),
        "Http: url must not have placeholders in the host",
    )
    require(
        "@" not in parts.netloc,
        "Http: url must not hold credentials; use headers={'Authorization': ...}",
    )
    return str(url)


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        require(
            isinstance(name, str) and re.fullmatch(r"[!#$%&'*+.^_`|~\w-]+", name, re.ASCII),
            f"Http: headers must have valid names, got {name!r}",
        )
        require(
            isinstance(value, str)
            and re.fullmatch(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?", value),
            f"Http: value of header {name} must be one line of ASCII text",
        )
    return dict(headers)
