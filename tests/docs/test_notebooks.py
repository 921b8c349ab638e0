"""The notebooks run, and their committed copies have the sources' cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

jupytext = pytest.importorskip("jupytext")
pytest.importorskip("nbclient")
FOLDER = Path(__file__).parents[2] / "notebooks"
SCRIPTS = sorted(FOLDER.glob("[0-9]*.py"))

#: Packages of an extra that a notebook needs.
NEEDS = {"03_airfoil": ("neuralfoil", "aerosandbox")}


def cells(notebook: Any) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.filterwarnings("ignore:molecules")
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_runs_in_short_mode(
    script: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Run the cells in one interactive shell of this process, which has the imports behind it."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    from matplotlib import pyplot

    for package in NEEDS.get(script.stem, ()):
        pytest.importorskip(package, reason=f"{script.stem} needs an extra that is not installed")
    monkeypatch.setenv("BO_INVERT_SHORT", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
    monkeypatch.chdir(FOLDER)
    monkeypatch.setattr(pyplot, "show", lambda: pyplot.close("all"))
    shell = InteractiveShell()
    shown = 0
    try:
        for number, source in enumerate(cells(jupytext.read(script))):
            with capture_output() as captured:
                result = shell.run_cell(source)
            assert result.success, (
                f"code cell {number}: {result.error_in_exec!r}\n{captured.stdout}"
            )
            shown += bool(captured.stdout or captured.outputs)
    finally:
        shell.history_manager.end_session()
    assert shown >= 3


@pytest.mark.slow
def test_execute_stores_outputs_and_raises_what_a_cell_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``make notebooks`` runs a kernel: here one cell of output, then one that fails."""
    monkeypatch.syspath_prepend(str(FOLDER))
    from execute import executed
    from nbclient.exceptions import CellExecutionError

    script = tmp_path / "little.py"
    script.write_text("# %% [markdown]\n# # Title\n\n# %%\nprint(6 * 7)\n")
    notebook = executed(script)
    assert notebook.cells[1].outputs[0].text == "42\n"
    script.write_text("# %%\n1 / 0\n")
    with pytest.raises(CellExecutionError, match="division by zero"):
        executed(script)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_committed_copy_is_up_to_date_and_has_its_pictures(script: Path) -> None:
    source, copy = jupytext.read(script), jupytext.read(script.with_suffix(".ipynb"))
    assert [cell.source for cell in copy.cells] == [cell.source for cell in source.cells]
    outputs = [output for cell in copy.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)


def test_there_is_a_quickstart() -> None:
    assert "01_quickstart" in [script.stem for script in SCRIPTS]
