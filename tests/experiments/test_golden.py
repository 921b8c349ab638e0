"""Scripts that compare two versions of the code, and carry benchmark rows over."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def scripts() -> Any:
    import carry_over
    import golden

    return argparse.Namespace(golden=golden, carry_over=carry_over)


def test_a_recording_is_repeatable_and_without_prose(scripts: Any) -> None:
    golden = scripts.golden
    case = golden.Case("auto", {"name": "auto"}, "bowl", (0, 4))
    one, two = (golden.record(case)["record"] for _ in range(2))
    assert list(golden.differences(one, two)) == []
    assert len(one["run"]) == 4
    queries = [query for moment in one["moments"] for query in moment["proposed"]]
    assert len(queries) == 6
    assert all("why" not in query["meta"] for query in [*queries, *one["run"]])


def test_every_contract_problem_and_strategy_is_recorded(scripts: Any) -> None:
    from bo_invert import registry

    cases = list(scripts.golden.cases(quick=False, patterns=[]))
    assert {case.strategy["name"] for case in cases} == set(registry.names("strategies"))
    assert {case.problem for case in cases} == set(scripts.golden.PROBLEMS)
    keys = [case.key for case in cases]
    assert len(set(keys)) == len(keys)
    chosen = scripts.golden.cases(quick=True, patterns=["random", "gp-*"])
    assert {case.label for case in chosen} == {"random", "gp"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda r: r["a"].__setitem__(0, 0.1 + 0.2), "a[0]: 0.3 against 0.30000000000000004"),
        (lambda r: r["a"].append(1), "a: 2 entries against 3"),
        (lambda r: r.__setitem__("b", 1.0), "b: 1 against 1.0"),
        (lambda r: r.pop("b"), ".b: only in the first file"),
    ],
)
def test_a_comparison_is_exact(scripts: Any, tmp_path: Path, change: Any, line: str) -> None:
    golden = scripts.golden
    record = {"a": [0.3, float("nan")], "b": 1}
    other = json.loads(json.dumps(record))
    assert list(golden.differences(record, other)) == []
    change(other)
    assert list(golden.differences(record, other)) == [line]


def row(method: str | None, commit: str | None, problem: str = "sine") -> dict[str, Any]:
    code = {} if method is None else {"method": method, "problem": "p", "commit": commit}
    return {"problem": problem, "spec": {"name": "random"}, "code": code}


def test_rows_are_carried_over_where_proposals_are_identical(
    scripts: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    carry_over, golden = scripts.carry_over, scripts.golden
    results, recordings = tmp_path / "results", tmp_path / "recordings"
    results.mkdir()
    recordings.mkdir()
    rows = [
        row("old", "c1"),
        row("old", "c1", "arm"),  # proposes another point
        row("old", "c2"),  # its recording lacks the case
        row("old", "c1+"),  # of uncommitted changes
        row(None, None),
        row("new", "c3"),
    ]
    text = "".join(json.dumps(one, separators=(",", ":")) + "\n" for one in rows)
    (results / "random.jsonl").write_text(text)

    def recorded(name: str, values: dict[str, float]) -> None:
        records = {golden.suite_key({"name": "random"}, key): x for key, x in values.items()}
        (recordings / name).write_text(json.dumps({"records": records}))

    recorded("present.json", {"sine": 0.5, "arm": 0.5})
    recorded("c1.json", {"sine": 0.5, "arm": 0.25})
    recorded("c2.json", {})
    monkeypatch.setattr(carry_over, "checkout", lambda commit, folder: folder)
    monkeypatch.setattr(
        carry_over, "present_code", lambda name, problem: {"method": "new", "problem": "p"}
    )
    command = ["carry_over.py", str(results), "--recordings", str(recordings)]
    command += ["--now", str(recordings / "present.json")]
    monkeypatch.setattr(sys, "argv", command)
    assert carry_over.main() == 0
    assert (results / "random.jsonl").read_text() == text, "nothing is written without --write"
    monkeypatch.setattr(sys, "argv", [*command, "--write"])
    assert carry_over.main() == 0
    printed = capsys.readouterr().out
    assert "arm: : 0.25 against 0.5" in printed
    kinds = (
        "carried over",
        "of other code",
        "of uncommitted code",
        "of unknown code",
        "up to date",
    )
    numbers = zip((1, 2, 1, 1, 1), kinds, strict=True)
    assert ", ".join(f"{number} rows {kind}" for number, kind in numbers) in printed
    found = [json.loads(line) for line in (results / "random.jsonl").read_text().splitlines()]
    assert found[1:] == rows[1:]
    assert found[0]["code"] == {
        "method": "new",
        "problem": "p",
        "commit": "c1",
        "recorded": {"method": "old", "problem": "p"},
    }
    monkeypatch.setattr(
        carry_over, "present_code", lambda name, problem: {"method": "newest", "problem": "q"}
    )
    recorded("c3.json", {})
    assert carry_over.main() == 0
    again = json.loads((results / "random.jsonl").read_text().splitlines()[0])["code"]
    assert (again["method"], again["problem"]) == ("newest", "q")
    assert again["recorded"] == {"method": "old", "problem": "p"}
