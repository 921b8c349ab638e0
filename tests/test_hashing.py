"""Equal designs have equal names, and others do not."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from bo_invert.hashing import design_name

MIXED = {"kind": "a", "n": 3, "x": 0.5, "image": np.arange(6.0).reshape(2, 3)}

EQUAL: list[tuple[Any, Any]] = [
    (np.arange(6.0), np.arange(12.0)[::2] / 2),  # strides are not content
    (np.array([0.0, 1.0]), np.array([-0.0, 1.0])),
    (0.0, -0.0),
    ({"x": -0.0, "y": [1.0]}, {"y": (1.0,), "x": 0.0}),
    (np.float64(0.1), 0.1),
    (np.int64(3), 3),
    ("CCO", np.str_("CCO")),
    (torch.arange(3.0), np.arange(3.0, dtype=np.float32)),
    (MIXED, dict(reversed(MIXED.items()))),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_designs_have_equal_names(one: Any, other: Any) -> None:
    assert design_name(one) == design_name(other) is not None


def test_different_designs_have_different_names() -> None:
    designs: list[Any] = [
        0,
        0.0,
        False,
        None,
        "",
        b"",
        "0",
        [],
        {},
        [[]],
        [0],
        [0.0],
        ["0"],
        ["a", "b"],
        ["ab"],
        [["a"], "b"],
        [["a", "b"]],
        {"a": 1},
        {"a": 1.0},
        {"a": True},
        {"b": 1},
        {1: 1},
        {"1": 1},
        ["a", 1],
        1e-300,
        1 + 2**-52,
        1.0,
        np.zeros(1),
        np.zeros(1, np.float32),
        np.zeros((1, 1)),
        np.zeros(1, int),
        np.zeros(0),
        np.zeros((0, 1)),
        np.array("ab"),
        np.array(["a", "b"]),
        MIXED,
        {**MIXED, "image": np.arange(6.0).reshape(3, 2)},
        "\ud800",
        "?",
    ]
    names = [design_name(design) for design in designs]
    assert None not in names
    for (i, one), (j, other) in itertools.combinations(enumerate(names), 2):
        assert one != other, (designs[i], designs[j])


def test_what_cannot_be_compared_has_no_name() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for design in (object(), [object()], {"a": object()}, np.array([object()]), endless, {1, 2}):
        assert design_name(design) is None


def test_names_are_the_same_in_another_process() -> None:
    code = (
        "from bo_invert.hashing import design_name as n; print(n({'b': 'x', 'a': [1, 2.5, None]}))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert printed == design_name({"a": [1, 2.5, None], "b": "x"})
