"""A JSON endpoint as an oracle. Needs the extra ``http``."""

from __future__ import annotations

import hashlib
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
    MissingExtraError,
    whole_number,
)
from bo_invert.oracles.base import MISFIT, Answer, Oracle, answer_of
from bo_invert.oracles.io.http_requests import (
    BrokenConnectionError,
    HttpReply,
    HttpSession,
    NoReplyError,
    UnreachableError,
)
from bo_invert.oracles.io.json_codec import (
    Where,
    as_json,
    beginning,
    checked_where,
    found,
    plain,
    read_json,
    row_of,
    rows_of,
)
from bo_invert.oracles.io.templates import fill, fill_json, names_in, values_of
from bo_invert.types import JSON

_BUSY = (502, 503, 504)
_EVERYBODY = (401, 403, 404, 405, 407, 410, 501)
"""Statuses that are not about a design: asking for each alone would change nothing."""
_PATIENCE = 60.0
"""Seconds a server may ask to be left alone for; beyond that its designs fail."""


class Http(Oracle):
    """Sends designs to a JSON endpoint and reads outputs from its answers.

    **Billing.** Every request that may have reached the oracle is a call: those that were answered, whose connection
    broke, or that were not answered in time. A connection that did not come about, and a request refused with 429, are
    none; but a design that got no answer at all is billed once, so that a budget ends a run against a dead server.
    In a batch each design pays for every request it was in.

    **Retries.** Connections that fail or break, 429 (after ``Retry-After``), 502, 503 and 504 are tried again, after
    pauses that double. What was not answered in time is not: it would be asked twice. When the server refuses a whole
    batch, answers 500 or nonsense, or takes too long, each design is asked for alone.

    Values of ``headers`` are kept out of ``repr``, ``to_json``, reasons and logs, but travel to worker processes.

    Args:
        url: where to. Placeholders behind the host (``/predict/{name}?t={temperature}``) are filled from the design and
            quoted. Credentials belong into ``headers``.
        method: ``"POST"``, ``"PUT"`` or ``"GET"``. A GET without placeholders sends a dict design as a query.
        body: JSON with placeholders, such as ``{"instances": "{x}"}``, where a string that is nothing but a
            placeholder becomes the value itself; default: ``"{x}"``, the design (of a batch, the list of designs).
        headers: sent with every request.
        timeout: seconds from the beginning of a request to the last byte of its answer.
        retries: how often a request is tried again.
        backoff: seconds before the first retry.
        batched: one request takes many designs; the answer is a list of rows, or an object of columns.
        outputs: names of the outputs; needed when there are several and they have no names in the answer.
        answer: where in the JSON the outputs are: a path such as ``"result.scores[0]"`` (``[*]`` for every item), or
            one per output.
        infeasible: statuses, such as 422, that say that a design cannot be evaluated at all.
        limit: bytes that are read of an answer; longer ones fail.

    Raises:
        InvalidInputError: an argument cannot be what was meant.
        MissingExtraError: httpx is not installed.
    """

    waits = True

    def __init__(
        self,
        url: str,
        method: str = "POST",
        body: JSON = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        retries: int = 3,
        backoff: float = 0.5,
        batched: bool = False,
        outputs: Sequence[str] | None = None,
        answer: Where = None,
        infeasible: int | Collection[int] = (),
        limit: int = 16_000_000,
    ) -> None:
        try:
            import httpx  # noqa: F401
        except ImportError:
            raise MissingExtraError(
                "Http needs the package httpx; install it with: pip install 'bo-invert[http]'"
            ) from None
        self.url, self.method, self.body = _checked_url(url), str(method).upper(), body
        if self.method not in ("GET", "POST", "PUT"):
            raise InvalidInputError(f"Http: method is 'POST', 'PUT' or 'GET', got {method!r}")
        if self.method == "GET" and (batched or body is not None):
            raise InvalidInputError(
                "Http: a GET has no body, and takes one design at a time; use method='POST'"
            )
        if batched and names_in(self.url):
            raise InvalidInputError(
                f"Http: placeholders {names_in(self.url)} in the url hold one design, not a batch"
            )
        whole_number("Http", "retries", retries, least=0)
        if not (
            isinstance(timeout, (int, float))
            and 0 < timeout < 1e9
            and isinstance(backoff, (int, float))
        ):
            raise InvalidInputError(
                f"Http: timeout and backoff are seconds, got {timeout!r} and {backoff!r}"
            )
        self.headers = _checked_headers(headers or {})
        self.timeout, self.retries, self.backoff = float(timeout), retries, float(backoff)
        self.batched = bool(batched)
        self.outputs = None if outputs is None else tuple(outputs)
        self.answer = checked_where(answer, "Http")
        self.infeasible = frozenset([infeasible] if isinstance(infeasible, int) else infeasible)
        self._session = HttpSession(self.headers, self.timeout, int(limit))

    def __call__(self, designs: Sequence[Any]) -> list[Any]:
        """A row of outputs for each design, or a verdict instead."""
        if not self.batched:
            return [row for design in designs for row in self._asked([design]).rows]
        return self._asked(list(designs)).rows

    def answers(self, designs: Sequence[Any], outputs: Sequence[str]) -> list[Answer]:
        if not self.batched:
            return [self._answers([design], outputs)[0] for design in designs]
        sendable, rows = as_json(designs)
        answered = iter(self._answers([designs[i] for i in sendable], outputs) if sendable else [])
        return [
            next(answered) if i in sendable else answer_of(row, outputs)
            for i, row in enumerate(rows)
        ]

    def interrupt(self) -> None:
        self._session.interrupt()

    def _answers(self, designs: list[Any], outputs: Sequence[str]) -> list[Answer]:
        asked = self._asked(designs)
        if not asked.split or len(designs) == 1:
            return [answer_of(row, outputs, asked.calls) for row in asked.rows]
        alone = [self._asked([design]) for design in designs]
        return [answer_of(one.rows[0], outputs, asked.calls + one.calls) for one in alone]

    def _asked(self, designs: list[Any]) -> _Asked:
        """Send designs in one request, with its retries."""
        try:
            url, body = self._request(designs, [plain(design) for design in designs])
        except FailedError as verdict:
            return _Asked([verdict] * len(designs))
        except InvalidInputError as error:
            return _Asked([FailedError(f"{MISFIT}{error}")] * len(designs))
        asked = self._persist(url, body, len(designs))
        return _Asked(
            [self._without_secrets(row) for row in asked.rows], max(1, asked.calls), asked.split
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
                "a GET carries a design in its url: name it there, as in '/predict?t={x[0]}'"
            )
        pairs = [
            (name, value if isinstance(value, str) else json.dumps(value))
            for name, value in sent[0].items()
        ]
        return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(pairs)}", None

    def _persist(self, url: str, body: bytes | None, count: int) -> _Asked:
        """Ask until there is an answer, or no patience any more."""
        calls, why, wait, interruption = 0, "", self.backoff, self._session.interruption
        for attempt in range(self.retries + 1):
            try:
                reply = self._session.send(self.method, url, body)
            except UnreachableError as error:
                why, pause = f"cannot be reached: {error}", None
            except NoReplyError as error:
                return _Asked(
                    [FailedError(f"{self._place}: {error}")] * count, calls + 1, split=True
                )
            except BrokenConnectionError as error:
                calls, why, pause = calls + 1, f"broke the connection: {error}", None
            else:
                calls += reply.status != 429
                if reply.status not in (429, *_BUSY):
                    return self._read(reply, count, calls)
                why, pause = f"answers {_status(reply)}", reply.pause
            if pause is not None and pause > _PATIENCE:
                why += f", and wants to be left alone for {pause:.0f} s"
                break
            pause = max(
                pause or 0.0, wait * random.uniform(0.5, 1.0)
            )  # many workers should not come back together
            if attempt == self.retries or not self._session.sleep(pause, interruption):
                break
            wait *= 2.0
        tries = f" (asked {attempt + 1} times)" if attempt else ""
        return _Asked([FailedError(f"{self._place} {why}{tries}")] * count, calls)

    def _read(self, reply: HttpReply, count: int, calls: int) -> _Asked:
        if reply.status in self.infeasible:
            return _Asked(
                [InfeasibleError(f"{_status(reply)}: {beginning(reply.text)}")] * count,
                calls,
                split=True,
            )
        if not 200 <= reply.status < 300 or reply.trouble:
            said = reply.trouble or beginning(reply.text)
            why = FailedError(f"{self._place} answers {_status(reply)}: {said}")
            return _Asked(
                [why] * count,
                calls,
                split=reply.status not in _EVERYBODY and not 300 <= reply.status < 400,
            )
        try:
            value = found(read_json(reply.text), self.answer)
            return _Asked(rows_of(value, count) if self.batched else [row_of(value)], calls)
        except FailedError as verdict:
            return _Asked(
                [FailedError(f"{self._place}: {verdict.reason}")] * count, calls, split=True
            )

    def _without_secrets(self, row: Any) -> Any:
        """Servers repeat what they were sent."""
        if not isinstance(row, EvaluationError):
            return row
        return type(row)(_hidden(row.reason, self.headers))

    @property
    def _place(self) -> str:
        """The address without what a query may hold."""
        parts = urlsplit(self.url)
        names = "&".join(f"{pair.partition('=')[0]}=..." for pair in parts.query.split("&") if pair)
        return urlunsplit((parts.scheme, parts.netloc, parts.path, names, ""))

    def __repr__(self) -> str:
        return f"Http({self._place!r})"

    def to_json(self) -> JSON:
        body = (
            None
            if self.body is None
            else hashlib.sha256(json.dumps(self.body).encode()).hexdigest()
        )
        return {
            "type": "http", "url": self._place, "method": self.method, "body": body,
            "answer": dict(self.answer) if isinstance(self.answer, Mapping) else self.answer,
        }  # fmt: skip


@dataclass
class _Asked:
    """Rows or verdicts of some designs, the calls each is billed, and whether each should be asked for alone."""

    rows: list[Any]
    calls: int = 1
    split: bool = False


def _status(reply: HttpReply) -> str:
    return f"{reply.status} {reply.phrase}".strip()


def _checked_url(url: Any) -> str:
    import httpx

    try:
        parts = urlsplit(str(url))
        httpx.URL(str(url))
    except (ValueError, httpx.InvalidURL) as error:
        raise InvalidInputError(f"Http: the url {url!r:.80} cannot be read: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InvalidInputError(
            f"Http: url begins with http:// or https:// and a host, got {url!r:.80}"
        )
    if names_in(f"{parts.scheme}://{parts.netloc}"):
        raise InvalidInputError("Http: the host cannot depend on the design")
    if "@" in parts.netloc:
        raise InvalidInputError(
            "Http: credentials belong into headers={'Authorization': ...}, not into the url"
        )
    return str(url)


def _checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not isinstance(name, str) or not re.fullmatch(r"[!#$%&'*+.^_`|~\w-]+", name, re.ASCII):
            raise InvalidInputError(f"Http: {name!r} is no name of a header")
        if (
            not isinstance(value, str)
            or not re.fullmatch(r"[\x20-\x7e]+", value)
            or value != value.strip()
        ):
            raise InvalidInputError(
                f"Http: the value of header {name} is not a line of ASCII text (is there a line break?)"
            )
    return dict(headers)


def _hidden(text: str, headers: Mapping[str, str]) -> str:
    """The text without the values of headers, nor their words: of "Bearer abc" the second is the secret."""
    words = {
        word for value in headers.values() for word in (value, *value.split()) if len(word) > 5
    }
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, "***")
    return text
