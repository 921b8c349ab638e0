"""The notebooks run, and their committed copies show what their sources say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext")
pytest.importorskip("nbclient")
FOLDER = Path(__file__).parents[2] / "notebooks"
SCRIPTS = sorted(FOLDER.glob("[0-9]*.py"))

#: Packages of an extra that a notebook needs.
NEEDS = {"03_airfoil": ("neuralfoil", "aerosandbox")}

sys.path.insert(0, str(FOLDER))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_runs_in_short_mode(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from execute import executed

    for package in NEEDS.get(script.stem, ()):
        pytest.importorskip(package, reason=f"{script.stem} needs an extra that is not installed")
    monkeypatch.setenv("BO_INVERT_SHORT", "1")
    notebook = executed(script)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum(bool(cell.outputs) for cell in cells) >= 3


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_committed_copy_is_up_to_date_and_has_its_pictures(script: Path) -> None:
    source, copy = jupytext.read(script), jupytext.read(script.with_suffix(".ipynb"))
    assert [cell.source for cell in copy.cells] == [cell.source for cell in source.cells]
    outputs = [output for cell in copy.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)


def test_there_is_a_quickstart() -> None:
    assert "01_quickstart" in [script.stem for script in SCRIPTS]
