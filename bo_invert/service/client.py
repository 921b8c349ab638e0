"""Client of a server: its studies as a store, and the journal of one study."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from bo_invert.errors import InvalidInputError, StorageError
from bo_invert.service.client_connection import ServerConnection, study_path
from bo_invert.storage.journal_base import JournalBase, Propose
from bo_invert.storage.reader import locked
from bo_invert.storage.trial_transitions import Assignment
from bo_invert.types import JSON, Cost, Outcome, Query, State, Trial

_PAGE = 1000
"""Events, studies or observations in one request, the largest number that the HTTP API allows."""
_REASON = 2000
"""Largest length of a reason in characters, that of the HTTP API."""
_PAGE_BYTES = 2 * 1024 * 1024
"""Bytes of observations in one request. Engineering choice: half the largest body."""


class RemoteStore(ServerConnection):
    """Store of the studies of a server; they change through ``journal`` only.

    ``ServerConnection`` describes the arguments.
    """

    #: Studies are created from a declaration of their problem.
    declares = True

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteStore, (self.url, self._token)

    def journal(self, name: str) -> RemoteJournal:
        """Return the journal of one study."""
        store = RemoteStore(self.url, self._token, patience=self._patience)
        journal = RemoteJournal(store, name)
        if "id" in journal.header:  # a new study of the same name is another one
            store._http.headers["Study-Id"] = journal.header["id"]
        return journal

    def create(self, name: str, header: JSON, events: Sequence[JSON] = ()) -> None:
        if events:
            raise InvalidInputError(
                "a server does not import events; on its machine, run: "
                "bo-invert import FILE --storage ..."
            )
        body = {
            "name": name,
            "problem": header["declared"],
            "problem_name": header["problem_name"],
            "strategy": header["strategy"],
            "seed": header["seed"],
            "provenance": header.get("provenance"),
        }
        # The first request may have succeeded although its response was lost.
        self.request("POST", "/v1/studies", json=body, again=body | {"exist_ok": True})

    def header(self, name: str) -> JSON:
        return self.get(name, "log", limit=1)["header"]

    def names(self) -> list[str]:
        names: list[str] = []
        after: int | None = 0
        while after is not None:
            page = self.request("GET", "/v1/studies", params={"after": after, "limit": _PAGE})
            names += [study["name"] for study in page["studies"] + page.get("damaged", [])]
            after = page["next"]
        return names

    def events(self, name: str, after: int = 0, limit: int | None = None) -> list[JSON]:
        events: list[JSON] = []
        while limit is None or len(events) < limit:
            size = _PAGE if limit is None else min(_PAGE, limit - len(events))
            page = self.get(name, "log", after=after + len(events), limit=size)
            events += page["events"]
            # Servers of older versions do not report the next page.
            if (page.get("next") is None and len(page["events"]) < size) or not page["events"]:
                break
        return events

    def append(self, name: str, events: Sequence[JSON], after: int) -> int:
        raise StorageError(f"study {name!r}: only the server {self.url} appends to its log")

    def beat(self, name: str, worker: str) -> None:
        self.post(name, "heartbeat", {"worker": worker})

    def beats(self, name: str) -> dict[str, int]:
        self.header(name)
        return {}

    def delete(self, name: str) -> None:
        self.request("DELETE", study_path(name))


class RemoteJournal(JournalBase):
    """Journal of a study on a server: reads events, and changes the study through the HTTP API.

    The server runs the strategy and watches the leases.
    """

    _store: RemoteStore

    def take(
        self,
        propose: Propose,
        count: int,
        budget: int | None,
        retries: int = 0,
        assignment: Assignment = Assignment(),  # noqa: B008  (frozen)
        known: Collection[int] | None = None,
    ) -> list[Trial]:
        body = {
            "count": count,
            "budget": budget,
            "retries": retries,
            "worker": assignment.worker,
            "lease": assignment.lease,
            "known": None if known is None else sorted(known),
            "round_size": assignment.round_size,
            "under_way": sorted(self.under_way),
            **({"fixed": dict(assignment.fixed)} if assignment.fixed else {}),
            **({"purpose": assignment.purpose} if assignment.purpose != "search" else {}),
            **({"hope_level": assignment.hope_level} if assignment.hope_level else {}),
        }
        # The server answers an ask within 300 s.
        asked = self._store.post(
            self.name, "ask", body, assignment.key or uuid.uuid4().hex, timeout=330.0
        )
        return self._read([trial["number"] for trial in asked["trials"]])

    def finish(self, number: int, outcome: Outcome, attempt: int | None = None) -> Trial:
        body = {"attempt": attempt, "cost": outcome.cost.to_json(), **_moved(outcome)}
        if outcome.state is not State.COMPLETED:
            return self._change(f"trials/{number}/fail", body | _failure(outcome))
        record = outcome.to_json()
        parts = {part: record[part] for part in ("gradient", "trace")}
        return self._change(f"trials/{number}/tell", body | parts | {"outputs": record["y"]})

    def amend(
        self, number: int, outcome: Outcome, reason: str, revision: int | None = None
    ) -> Trial:
        body = {"reason": reason[:_REASON], "revision": revision, **_moved(outcome)}
        if outcome.state is State.COMPLETED:
            body["outputs"] = outcome.to_json()["y"]
        else:
            kind = "infeasible" if outcome.state is State.INFEASIBLE else "failed"
            body[kind] = outcome.reason[:_REASON]
        return self._change(f"trials/{number}/amend", body)

    def add(
        self, queries: Sequence[Query], outcomes: Sequence[Outcome], key: str | None = None
    ) -> list[Trial]:
        numbers: list[int] = []
        key = key or uuid.uuid4().hex
        for i, batch in enumerate(_batches(map(_observation, queries, outcomes))):
            part = f"{key}-{i}" if i else key
            added = self._store.post(self.name, "observations", {"observations": batch}, part)
            numbers += [trial["number"] for trial in added["trials"]]
        return self._read(numbers)

    def enqueue(self, query: Query, key: str | None = None) -> Trial:
        return self._change("enqueue", _located(query), key or uuid.uuid4().hex)

    def cancel(self, number: int, reason: str) -> Trial:
        return self._change(f"trials/{number}/cancel", {"reason": reason})

    def release(self, number: int, attempt: int, cost: Cost) -> Trial:
        return self._change(
            f"trials/{number}/release", {"attempt": attempt, "cost": cost.to_json()}
        )

    def expire(self, gone: Callable[[str], bool]) -> None:
        """Do nothing, because the server expires leases."""

    def abandon(self, numbers: set[int]) -> None:
        for number in sorted(numbers):
            body = {"attempt": len(self.trial(number).attempts) - 1, "lost": True}
            self._store.post(self.name, f"trials/{number}/release", body)

    def retry(self, number: int) -> Trial:
        return self._change(f"trials/{number}/retry", {})

    def predict(self, request: JSON) -> JSON:
        return self._store.post(self.name, "predict", request, timeout=330.0)

    def end(self, reason: str) -> None:
        self._store.post(self.name, "end", {"reason": reason[:2000]})

    def shorten_timeouts(self) -> None:
        self._store.shorten_timeouts()

    @property
    def leases(self) -> dict[str, float]:
        """Empty, because the server watches the leases."""
        return {}

    def _change(self, verb: str, body: JSON, key: str | None = None) -> Trial:
        """Post a verb; the server may return another trial than its own, such as a late outcome."""
        changed = self._store.post(self.name, verb, body, key)
        return self._read([changed["number"]])[0]

    @locked
    def _read(self, numbers: Sequence[int]) -> list[Trial]:
        log = self.read()
        return [log[number] for number in numbers]


def _failure(outcome: Outcome) -> dict[str, JSON]:
    """Return reason and kind of a failure."""
    infeasible = outcome.state is State.INFEASIBLE
    return {"reason": outcome.reason[:_REASON], "infeasible": infeasible}


def _moved(outcome: Outcome) -> dict[str, JSON]:
    """Return the conditions of an outcome and its further values; servers of version 0.1 know none.

    They know the end of a descent.
    """
    moved: dict[str, JSON] = {} if outcome.point is None else {"point": outcome.point.tolist()}
    moved |= {} if outcome.design is None else {"design": outcome.design}
    moved |= {"extra": dict(outcome.extra)} if outcome.extra else {}
    return moved | ({"outside": True} if outcome.outside else {})


def _located(query: Query) -> dict[str, JSON]:
    """Return point and exact design of a query; servers of version 0.1 know points only."""
    point: dict[str, JSON] = {"point": query.point.tolist()}
    return point if query.design is None else {**point, "design": query.design}


def _batches(observations: Iterable[JSON]) -> Iterator[list[JSON]]:
    """Divide observations into requests that the server accepts."""
    batch, size = list[JSON](), 0
    for one in observations:
        length = len(json.dumps(one))
        if batch and (len(batch) == _PAGE or size + length > _PAGE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += length
    if batch:
        yield batch


def _observation(query: Query, outcome: Outcome) -> JSON:
    kinds = {State.COMPLETED: "outputs", State.INFEASIBLE: "infeasible"}
    return {
        **_located(query),
        kinds.get(outcome.state, "failed"): (
            outcome.reason[:_REASON] if outcome.y is None else outcome.y.tolist()
        ),
        "cost": outcome.cost.to_json() if outcome.cost.calls else None,
        **({"extra": dict(outcome.extra)} if outcome.extra else {}),
        **({"outside": True} if outcome.outside else {}),
    }
