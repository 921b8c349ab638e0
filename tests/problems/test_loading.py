"""Problems declared in JSON files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bo_invert as bi
from bo_invert.problems.loading import load_problem

PROBLEM: dict[str, Any] = {
    "space": {"type": "box", "parameters": {"x": {"type": "float", "low": 0, "high": 1}}},
    "outputs": ["y"],
    "objective": {"type": "minimize", "output": "y"},
}


@pytest.mark.parametrize("declared", [PROBLEM, {"name": "lab", "problem": PROBLEM}])
def test_a_problem_is_read_alone_and_beside_the_name_of_a_study(
    tmp_path: Path, declared: dict[str, Any]
) -> None:
    path = tmp_path / "lab.json"
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_text(json.dumps(declared), encoding=encoding)
        found = load_problem(str(path), {})
        assert (list(found.space.domain.parameters), found.outputs) == (["x"], ("y",))


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ([], r"must be a problem as JSON, an object with 'space' and 'objective', got \[\]"),
        ("x", "must be a problem as JSON, an object"),
        ({}, "has no 'space' and no 'objective'"),
        ({"name": "lab"}, "has no 'space' and no 'objective', but \\['name'\\]"),
        (
            {"problem": 3},
            "must be a problem as JSON, an object with 'space' and 'objective', got 3",
        ),
        ({"name": "lab", "problem": {**PROBLEM, "space": 3}}, "space must be an object, got 3"),
        ({"space": PROBLEM["space"]}, "has no 'objective'"),
    ],
)
def test_a_file_without_a_problem_is_refused_with_the_reason(
    tmp_path: Path, declared: object, message: str
) -> None:
    path = tmp_path / "lab.json"
    path.write_text(json.dumps(declared))
    with pytest.raises(bi.InvalidInputError, match=message):
        load_problem(str(path), {})
