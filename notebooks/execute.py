"""Convert each percent script to a notebook, execute it, and save it with its outputs."""

from __future__ import annotations

import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def executed(script: Path) -> nbformat.NotebookNode:
    """Return the executed notebook of a script; a failing cell raises."""
    notebook = jupytext.read(script)
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # stable, so that a rerun changes only what changed
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(HERE)}}).execute()
    for cell in notebook.cells:
        cell.get("metadata", {}).pop("execution", None)
        for output in cell.get("outputs", []):
            # The picture of a plot suffices; its interactive version is several times larger.
            output.get("data", {}).pop("application/vnd.plotly.v1+json", None)
            if output.output_type == "stream":
                output.text = output.text.replace(f"{HERE.parent}/", "")  # paths of warnings
    return notebook


if __name__ == "__main__":
    names = sys.argv[1:] or [path.name for path in sorted(HERE.glob("[0-9]*.py"))]
    for name in names:
        source = HERE / name
        nbformat.write(executed(source), source.with_suffix(".ipynb"))
        print("executed", source.name)
