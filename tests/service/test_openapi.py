"""The server is what its OpenAPI says: requests made up from it, right ones and wrong ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis
import pytest
import schemathesis
from inside import Inside

import bo_invert as bi
from bo_invert.service.quotas import Admission, Quota, RequestKind
from bo_invert.storage.memory import MemoryStore

pytestmark = pytest.mark.slow
FOLDER = TemporaryDirectory()
QUOTA = Quota(1e9, 1e9, open=1000, running=16)
INSIDE = Inside(Path(FOLDER.name), Admission(dict.fromkeys(RequestKind, QUOTA)), ("testserver",))
SECRET = INSIDE.secrets["write"]
CONFIG = schemathesis.Config.from_dict(
    {
        "auth": {"openapi": {"token": {"bearer": SECRET}}},
        # Generated names match no study; other tests cover unknown names.
        "parameters": {"path.study": "s", "header.study-id": "the one", "path.number": 1},
        "checks": {
            # The schema cannot express some rules, e.g. ordered bounds; violations return 422.
            "positive_data_acceptance": {"enabled": False},
            "negative_data_rejection": {
                "expected-statuses": [400, 401, 403, 404, 405, 409, 413, 422]
            },
        },
        "generation": {"deterministic": True, "max-examples": 4},
        # 700 of 1,800 boundary values belong to the bodies that create a study: random ones do.
        "operations": [
            {
                "include-path": "/v1/studies",
                "include-method": "POST",
                "phases": {"coverage": {"enabled": False}},
            },
            # Only several criteria have a front.
            {
                "include-path-regex": "/(front|hypervolume)$",
                "parameters": {"path.study": "front"},
            },
            # Only a target has a verdict and solutions.
            {
                "include-path-regex": "/(verdict|reachable|posterior|predicted|tolerances)$",
                "parameters": {"path.study": "target", "path.number": 0},
            },
            {"include-path-regex": "/retarget$", "parameters": {"path.study": "target"}},
            # Only a completed trial can be amended, and only a lost one be retried.
            {
                "include-path": "/v1/studies/{study}/trials/{number}/amend",
                "parameters": {"path.study": "s", "path.number": 0},
            },
            {
                "include-path": "/v1/studies/{study}/trials/{number}/retry",
                "parameters": {"path.study": "s", "path.number": 2},
            },
        ],
    }
)
described = schemathesis.openapi.from_asgi(
    "/openapi.json", INSIDE.app, headers={"Authorization": f"Bearer {SECRET}"}, config=CONFIG
)
CALM = hypothesis.settings(
    max_examples=4,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)


def begun() -> tuple[dict[str, Any], list[Any]]:
    """The study of the examples in the schema, with trials in several states."""
    store = MemoryStore()
    space = bi.Box({"span": bi.Float(1.0, 3.0), "ribs": bi.Int(2, 12)})
    wanted = {"outputs": ["drag", "lift"], "constraints": ["lift >= 2.5"]}
    study = bi.Study.create(
        "s", bi.Problem(space, None, bi.Minimize("drag"), **wanted), "random", storage=store
    )
    study.tell(study.ask()[0], [1.0, 3.0])
    study.ask(2)
    study.journal.abandon({2})
    study.add({"span": 2.0, "ribs": 5}, [0.8, 2.9])  # predictions need two observations
    return {**store.header("s"), "id": "the one"}, store.events("s")


def begun_front() -> tuple[dict[str, Any], list[Any]]:
    """A study of two criteria with two results."""
    store = MemoryStore()
    criteria = bi.Pareto(bi.Minimize("drag"), bi.Maximize("lift"))
    problem = bi.Problem(bi.Box({"span": bi.Float(1.0, 3.0)}), None, criteria)
    study = bi.Study.create("front", problem, "random", storage=store)
    study.add([{"span": 2.0}, {"span": 3.0}], [[0.8, 2.9], [0.9, 3.1]])
    return {**store.header("front"), "id": "the one"}, store.events("front")


def begun_target() -> tuple[dict[str, Any], list[Any]]:
    """A study of a target with results, the first of which meets it."""
    store = MemoryStore()
    space = bi.Box({"span": bi.Float(1.0, 3.0)})
    target = bi.Target({"lift": 2.5}, tolerance=0.2)
    study = bi.Study.create(
        "target", bi.Problem(space, None, target, outputs=["drag", "lift"]), "random", storage=store
    )
    spans = [2.0, 1.0, 1.5, 2.5, 3.0]
    study.add([{"span": span} for span in spans], [[span**2, span + 0.5] for span in spans])
    return {**store.header("target"), "id": "the one"}, store.events("target")


HEADER, EVENTS = begun()
FRONT = begun_front()
TARGET = begun_target()
answered: defaultdict[str, set[int]] = defaultdict(set)


@pytest.fixture(scope="module", autouse=True)
def reached() -> Iterator[None]:
    yield
    for verb, statuses in answered.items():
        assert min(statuses) < 300, f"{verb} was only ever refused: nothing is known of its answers"


def restore() -> None:
    """The studies, as they were begun."""
    known = INSIDE.store.names()
    if sorted(known) == ["front", "s", "target"] and not INSIDE.store.events(
        "s", after=len(EVENTS), limit=1
    ):
        return
    for name in known:
        INSIDE.store.delete(name)
        INSIDE.studies.forget(name)
    INSIDE.studies.forget("s")
    INSIDE.store.create("s", HEADER, EVENTS)
    INSIDE.store.create("front", *FRONT)
    INSIDE.store.create("target", *TARGET)


@described.exclude(path_regex="/live$").parametrize()
@CALM
def test_answers_are_as_described(case: Any) -> None:
    restore()
    answered[case.operation.label].add(case.call_and_validate().status_code)
