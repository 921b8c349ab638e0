"""Last part of the demo: all solutions, tolerances, a second target, a target out of reach."""

from __future__ import annotations

import re

import pytest

from bo_invert.cli import demo_inversion


def test_the_last_part_of_the_demo_answers_all_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_inversion, "TOLERANCE", 0.1)
    monkeypatch.setattr(demo_inversion, "DRAWS", 4)
    monkeypatch.setattr(demo_inversion, "CALLS", 20)
    monkeypatch.setattr(demo_inversion, "CHECKS", 1)
    text = demo_inversion.inversion_text(0)
    assert re.search(r"one solution after \d+ calls?; [1-9]\d* branch", text)
    assert "Tolerances of trial" in text
    second = re.search(r"second target -1.2: y = (\S+) after \d+ call", text)
    assert second is not None
    assert abs(float(second[1]) + 1.2) <= 0.1
    assert re.search(r"target 2.5: .*(unreachable|undecided)", text)
    assert "limited by: y too low" in text
