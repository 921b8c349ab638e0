"""The code of the landing page, the tutorials and the README runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


def execute(page: Path, replacements: dict[str, str] | None = None) -> dict[str, Any]:
    """Run the Python blocks of a page in one scope; write blocks that begin with a file name."""
    scope: dict[str, Any] = {"__name__": "docs"}
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.S)):
        file = re.match(r"# (\S+\.py)\n", block)
        if file:
            Path(file[1]).write_text(block)
            continue
        for old, new in (replacements or {}).items():
            block = re.sub(old, new, block)
        exec(compile(block, f"{page.name}, block {number}", "exec"), scope)
    return scope


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_tutorial_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    fewer = {r"budget=60": "budget=40", r"budget=30": "budget=12"}
    study = execute(page, fewer)["study"]
    assert study.best is not None
    assert study.best.feasible
    if page.stem == "regressor":
        assert study.best.loss <= 1.0, "the search reaches the target"
    if page.stem == "experiments":
        states = {trial.number: str(trial.state) for trial in study.trials}
        assert (states[3], states[4]) == ("failed", "infeasible")
        assert study.spent.values == 20


def test_data_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope = execute(ROOT / "docs" / "data.md")
    page = (ROOT / "docs" / "data.md").read_text()
    for line in scope["added"].summary.splitlines()[:2]:
        assert f"# {line}" in page
    trials = scope["study"].trials
    assert [str(trial.state) for trial in trials[3:]] == ["completed", "failed", "running"]
    assert trials[2].amendments[0].before.y.tolist() == [0.5, 0.9]


def test_landing_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = execute(ROOT / "docs" / "index.md")["study"]
    assert abs(study.best.y[0] - 0.5) <= 0.01


@pytest.mark.slow
def test_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    fewer = {
        r"budget=\d+": "budget=6",
        r"range\(5\)": "range(1)",
        r"random_state=0\)": "random_state=0, n_estimators=5)",
    }
    scope = execute(ROOT / "README.md", fewer)
    assert scope["study"].spent.values == 6
    assert len(scope["comparison"].runs) == 4
    assert (tmp_path / "comparison" / "report.html").exists()


def test_tutorials_are_on_the_landing_page() -> None:
    text = (ROOT / "docs" / "index.md").read_text()
    assert len(TUTORIALS) == 3
    for page in TUTORIALS:
        assert f"(tutorials/{page.name})" in text
