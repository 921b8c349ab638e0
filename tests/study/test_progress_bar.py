"""Progress bars: pause between updates in terminals, notebooks and logs, and their contents."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert import errors
from bo_invert.study.progress_bar import RunProgressBar


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


def made() -> tuple[bi.Study, bi.Problem]:
    problem = bi.Problem(bi.Box([0.0], [1.0]), lambda x: float(x[0]), bi.Minimize("y"))
    return bi.Study.create("s", problem, "sobol"), problem


def test_pauses(notebook: None) -> None:
    assert errors.refresh_seconds() == 0.2
    assert [errors.bar_options(one)["delay"] for one in (None, True)] == [1.0, 0.0]
    assert not errors.bar_options(None)["disable"]
    study, problem = made()
    bar = RunProgressBar(study.journal, problem, 10, "s")
    assert (bar._bar.mininterval, bar._bar.miniters) == (0.2, 1)
    bar.close()


def test_pauses_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert errors.refresh_seconds() == 10.0
    assert errors.bar_options(None)["disable"]
    assert not errors.bar_options(True)["disable"]


def test_a_bar_without_a_budget_counts_calls(capsys: pytest.CaptureFixture[str]) -> None:
    study, problem = made()
    bar = RunProgressBar(study.journal, problem, None, "s")
    study.run(5)
    bar.close()
    assert "5call" in capsys.readouterr().err.replace(" ", "")


def test_the_fit_of_a_latent_shows_a_bar(
    notebook: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a terminal or notebook after one second, or at once if wanted; never if not."""
    seen: list[Any] = []
    from bo_invert.generators import latent_plausibility

    def recorded(items: Any, **options: Any) -> Any:
        seen.append(options)
        return items

    monkeypatch.setattr(latent_plausibility, "tqdm", recorded)
    data = np.random.default_rng(0).standard_normal((60, 2))
    for progress in None, True, False:
        bi.Latent(lambda z: z, 2, encoder=lambda x: x, data=data, progress=progress)
    assert [(one["disable"], one["delay"]) for one in seen] == [(False, 1.0), (False, 0.0)]
