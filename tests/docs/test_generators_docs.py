"""Tests of the code in docs/generators.md with fewer images, epochs and calls."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bo_invert as bi

PAGE = (Path(__file__).parents[2] / "docs" / "generators.md").read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*not reproduced well")
def test_python_there_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("sklearn", "safetensors"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BO_INVERT_CACHE", str(tmp_path / "cache"))
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    scope: dict[str, object] = {}
    for number, block in enumerate(blocks):
        short = re.sub(r"Config\(\(8, 8\), dim=8", "Config((8, 8), dim=8, epochs=2", block)
        short = re.sub(r"\.run\(\d+\)", ".run(4)", short).replace(
            "images, _ = load()", "images = load()[0][:300]"
        )
        exec(compile(short, f"docs/generators.md, block {number}", "exec"), scope)
        if number < 2:
            assert short.count("epochs=2") == 1
            study = scope["study"]
            assert isinstance(study, bi.Study)
            assert study.problem is scope["problem"]
            assert study.spent.values >= 1
    assert (tmp_path / "digits.safetensors").exists()
    assert len(list((tmp_path / "cache").iterdir())) == 2
