"""Large bodies: their validation is bounded, and processes parse them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inside import Inside
from pydantic import BaseModel, ValidationError
from servers import Served

import bo_invert as bi
from bo_invert.execution.threads import ThreadExecutor
from bo_invert.service import request_process
from bo_invert.service.app import create_app
from bo_invert.service.middleware import LOOPBACK
from bo_invert.service.process_pool import ProcessPool
from bo_invert.service.registered_problems import RegisteredProblems
from bo_invert.service.remote_requests import RemoteReply, RemoteRequest
from bo_invert.service.request_body import BODY, OUTCOME_BODY, SMALL_BODY
from bo_invert.service.requests import CreateStudyRequest, ObservationsRequest
from bo_invert.service.schema_types import FIELDS, RequestBody, _bound_errors

BOX = {"type": "box", "parameters": {"x": {"type": "float", "low": 0.0, "high": 1.0}}}
CREATE = {"name": "new", "problem": {"space": BOX, "objective": {"type": "minimize"}}}
CHANGES: dict[str, tuple[dict[str, Any], int]] = {
    "": (CREATE, BODY),
    "/s/observations": ({"observations": [{"point": [0.5], "outputs": 1.0}]}, BODY),
    "/s/trials/0/tell": ({"outputs": 1.0}, OUTCOME_BODY),
    "/s/enqueue": ({"point": [0.5]}, OUTCOME_BODY),
    "/s/ask": ({}, SMALL_BODY),
    "/s/trials/0/fail": ({}, SMALL_BODY),
    "/s/trials/0/heartbeat": ({"attempt": 0}, SMALL_BODY),
    "/s/heartbeat": ({"worker": "w"}, SMALL_BODY),
    "/s/trials/0/release": ({"attempt": 0}, SMALL_BODY),
    "/s/trials/0/cancel": ({}, SMALL_BODY),
    "/s/trials/0/retry": ({}, SMALL_BODY),
}
"""Valid body, and largest size, of each POST route after ``/v1/studies``."""


class Divided(Inside):
    """Application whose reads and large changes are answered elsewhere; ``remote`` lists them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.remote: list[RemoteRequest] = []
        respond = partial(request_process.respond, self.url, RegisteredProblems({}))

        def recorded(request: RemoteRequest | None) -> RemoteReply | None:
            self.remote += [] if request is None else [request]
            return respond(request)

        self.studies.reads = ProcessPool(recorded, 1, 0, lambda: ThreadExecutor(1))
        self.app = create_app(self.studies, self.tokens, LOOPBACK)
        problem = bi.Problem(bi.Box([0.0], [1.0]), None, bi.Minimize())
        bi.Study.create("s", problem, "random", storage=self.store).ask()

    def post(self, path: str, body: bytes) -> Any:
        headers = {"Content-Type": "application/json"}
        return self.request("POST", f"/v1/studies{path}", content=body, headers=headers)


@pytest.mark.parametrize("path", CHANGES)
def test_processes_parse_large_bodies_and_others_stay_here(tmp_path: Path, path: str) -> None:
    body, limit = CHANGES[path]
    text = json.dumps(body).encode()
    answers = []
    for i, size in enumerate((len(text), SMALL_BODY, SMALL_BODY + 1, limit, limit + 1)):
        (tmp_path / str(i)).mkdir()
        inside = Divided(tmp_path / str(i))
        answer = inside.post(path, text + b" " * (size - len(text)))
        there = [one.path for one in inside.remote]
        if size > limit:
            assert answer.status_code == 413
            assert str(limit) in answer.json()["detail"]
        else:
            answers.append(answer)
        assert bool(there) == (SMALL_BODY < size <= limit), size
        seen = Inside.request(inside, "GET", "/v1/studies/s/log").json()["events"]
        assert seen == inside.store.events("s")
    assert len({answer.status_code for answer in answers}) == 1
    assert len({frozenset(answer.json()) for answer in answers}) == 1


def test_a_description_and_all_reads_are_answered_elsewhere(tmp_path: Path) -> None:
    inside = Divided(tmp_path)
    for path in ("/openapi.json", "/v1/studies", "/v1/studies/s", "/v1/studies/s/log"):
        inside.remote.clear()
        assert inside.request("GET", path).status_code == 200
        assert [one.path.decode() for one in inside.remote] == [path]


def test_a_large_change_is_repeated_with_its_key(tmp_path: Path) -> None:
    inside = Divided(tmp_path)
    rows = [{"point": [i / 1000], "outputs": float(i)} for i in range(900)]
    text = json.dumps({"observations": rows}).encode() + b" " * SMALL_BODY
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k"}
    first, again = (
        inside.request("POST", "/v1/studies/s/observations", content=text, headers=headers)
        for _ in range(2)
    )
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert [one["number"] for one in first.json()["trials"]] == list(range(1, 901))
    answer = inside.post("/s/trials/0/tell", b'{"outputs": 3.0}')
    assert answer.json()["loss"] == 3.0, "this process knows of the change"
    assert inside.request("GET", "/v1/studies/s").json()["trials"] == 901


@pytest.mark.parametrize(("count", "dim"), [(1500, 1), (900, 400)])
def test_the_client_divides_large_additions(server: Served, count: int, dim: int) -> None:
    problem = bi.Problem(bi.Box([0.0] * dim, [1.0] * dim), None, bi.Minimize())
    name = f"divided {dim}"
    study = bi.Study.create(name, problem, "random", 0, server.url, token=server.token)
    points = np.random.default_rng(0).random((count, dim))
    added = study.add(points, points[:, 0])
    assert [trial.number for trial in added] == list(range(count))
    assert [trial.loss for trial in study.trials] == points[:, 0].tolist()


def bodies(base: type[BaseModel] = RequestBody) -> Iterator[type[BaseModel]]:
    for model in base.__subclasses__():
        yield model
        yield from bodies(model)


def unbounded(schema: object, checked: bool = False) -> Iterator[object]:
    """Yield the lists and dicts in a schema of pydantic whose errors are not bounded."""
    if isinstance(schema, list | tuple):
        for part in schema:
            yield from unbounded(part)
    elif isinstance(schema, dict):
        kind = schema.get("type")
        if (kind == "list" and not schema.get("fail_fast")) or (kind == "dict" and not checked):
            yield schema
        for part in schema.values():
            yield from unbounded(part, kind == "function-before")


@pytest.mark.parametrize("model", [*bodies()], ids=lambda model: model.__name__)
def test_each_list_and_dict_has_few_errors(model: type[BaseModel]) -> None:
    assert not list(unbounded(model.__pydantic_core_schema__))


@pytest.mark.parametrize("path", CHANGES)
def test_objects_with_many_fields_are_refused(tmp_path: Path, path: str) -> None:
    if path.endswith("retry"):
        pytest.skip("it has no body")
    inside = Divided(tmp_path)
    body = CHANGES[path][0] | dict.fromkeys((f"field{i}" for i in range(FIELDS)), 0)
    answer = inside.post(path, json.dumps(body).encode())
    assert answer.status_code == 422
    if CHANGES[path][0]:
        assert f"at most {FIELDS} members" in answer.json()["detail"]
        assert len(answer.json()["errors"]) == 1


MANY = 100_000


def created(**changes: Any) -> dict[str, Any]:
    """Return a body that creates a study, with another space, identity or another field."""
    problem = CREATE["problem"] | changes  # type: ignore[operator]
    return CREATE | {"problem": problem}


def box(parameters: Any) -> dict[str, Any]:
    return created(space={"type": "box", "parameters": parameters})


REFERENCE = {"weights": [], "means": [], "factors": [[["a"] * 1000] * 100], "quantiles": []}
NAMES = [f"n{i}" for i in range(MANY)]
INVALID = {
    "points": {"observations": [{"point": ["a"] * 1000, "outputs": 1.0}] * 100},
    "outputs": {"observations": [{"point": [0], "outputs": dict.fromkeys(NAMES, "a")}]},
    "choices": box({name: {"type": "choice", "values": [[]] * 1000} for name in NAMES[:100]}),
    "factors": created(space={"type": "latent", "dim": 2, "reference": REFERENCE}),
    "parameters": box(dict.fromkeys(NAMES, 0)),
    "options": CREATE | {"strategy": {"name": "gp", "options": dict.fromkeys(NAMES, "\ud800")}},
    "identity": created(identity=dict.fromkeys(NAMES, "\ud800")),
    "packages": CREATE | {"provenance": {"packages": dict.fromkeys(NAMES, 0)}},
}
"""Bodies with 100,000 invalid values."""


@pytest.mark.parametrize("what", INVALID)
def test_few_of_many_errors_are_found(what: str) -> None:
    model = ObservationsRequest if "observations" in INVALID[what] else CreateStudyRequest
    with pytest.raises(ValidationError) as found:
        model.model_validate(INVALID[what])
    assert found.value.error_count() <= 1000


def test_bounds_are_set_once() -> None:
    """Each application builds on the schemas of the models; repeated bounds would nest."""
    schema = {"type": "dict", "values_schema": {"type": "list"}}
    _bound_errors(schema)
    before = repr(schema)
    _bound_errors({"type": "model", "schema": schema})
    assert repr(schema) == before
    assert "fail_fast" in before
