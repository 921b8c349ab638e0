"""Studies whose strategy was removed or is not installed: readable, and ask raises an error."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from inside import Inside

import bo_invert as bi
from bo_invert import registry
from bo_invert.benchmark.single_run import summarize
from bo_invert.cli import main as cli
from bo_invert.storage.export_import import export_study, import_study
from bo_invert.storage.memory import MemoryStore
from bo_invert.storage.open import open_store
from bo_invert.strategies.sampling import Random

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
try:
    import studies
finally:
    sys.path.remove(str(GOLDEN))

NAME = "mixtures"
BEST = 0.002340
"""Lowest loss of the golden study."""


class Uninstalled(Random):
    """Strategy of another package."""

    name = "uninstalled"


def removed(url: str) -> None:
    """Import the golden study of ``o3``."""
    import_study(open_store(url), GOLDEN / "o3.jsonl")


def removed_inside(url: str) -> None:
    """Import the golden study with ``o3`` as a part of its strategy."""
    head, *events = (GOLDEN / "o3.jsonl").read_text(encoding="utf-8").splitlines()
    changed = json.loads(head)
    changed["header"]["strategy"] = {"name": "then", "options": {"first": "o3", "second": "prior"}}
    file = Path(url.removeprefix("sqlite:///")).with_suffix(".jsonl")
    file.write_text("\n".join([json.dumps(changed), *events, ""]), encoding="utf-8")
    import_study(open_store(url), file)


def uninstalled(url: str) -> None:
    """Copy the golden observations into a study of a strategy that no registry has."""
    store = MemoryStore()
    import_study(store, GOLDEN / "o3.jsonl")
    history = bi.Study.open(NAME, store).history
    study = bi.Study.create(NAME, studies.latent(), Uninstalled(), storage=url)
    study.add(points=history.points, Y=history.y)


CASES: dict[str, tuple[Callable[[str], None], str]] = {
    "removed": (removed, "strategy 'o3' was removed in version 0.1.0: .* Use 'auto'"),
    "removed inside": (removed_inside, "strategy 'o3' was removed in version 0.1.0"),
    "uninstalled": (uninstalled, "no strategies named 'uninstalled'.* Known: amortized, "),
}


@pytest.fixture(params=CASES)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """URL of a storage with the study, and a pattern of the error of an ask."""
    write, message = CASES[request.param]
    url = f"sqlite:///{tmp_path}/runs.db"
    write(url)
    return url, f"study '{NAME}': {message}"


def test_results_are_readable(stored: tuple[str, str], tmp_path: Path) -> None:
    url, _ = stored
    header = open_store(url).header(NAME)
    for problem in (None, studies.latent()):
        study = bi.Study.open(NAME, url, problem=problem)
        assert header["strategy"]["name"] in repr(study)
        assert header["strategy"]["name"] in study._repr_html_()
        assert study.best is not None
        assert study.best.loss == pytest.approx(BEST, abs=1e-6)
        assert len(study.to_dataframe()) == 9
    assert study.recommend().trial.number == study.best.number
    assert study.solutions(2)[0].trial.number == study.best.number
    run = summarize(study)
    assert (run.label, run.strategy) == (header["strategy"]["name"], header["strategy"])
    assert export_study(open_store(url), NAME, tmp_path / "copy.jsonl") == len(
        open_store(url).events(NAME)
    )


def test_asks_raise_and_record_nothing(stored: tuple[str, str]) -> None:
    url, message = stored
    study = bi.Study.open(NAME, url, problem=studies.latent())
    for call in (study.ask, lambda: study.run(20), lambda: study.strategy):
        with pytest.raises(bi.InvalidInputError, match=message) as caught:
            call()
        assert "new.add(points=old.history.points, Y=old.history.y)" in str(caught.value)
    assert len(bi.Study.open(NAME, url).trials) == 9


def test_the_advised_copy_continues_with_another_strategy(stored: tuple[str, str]) -> None:
    url, _ = stored
    old = bi.Study.open(NAME, url)
    new = bi.Study.create("next", studies.latent(), "auto", storage=url)
    new.add(points=old.history.points, Y=old.history.y)
    new.run(2)
    np.testing.assert_array_equal(new.history.losses[:9], old.history.losses)
    assert (len(new.trials), new.spent.calls) == (11, 2)


def test_a_strategy_of_the_user_continues(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    uninstalled(url)
    study = bi.Study.open(NAME, url, problem=studies.latent(), strategy=Uninstalled())
    assert len(study.run(2).trials) == 11


def test_an_installed_strategy_has_precedence_over_a_removed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True)
    class Installed(Random):
        name = "o3"
        seeds: int = 0
        draws: int = 0
        renew: int | None = None
        noisy: bool = False

    class Point:
        def load(self) -> type[Installed]:
            return Installed

    monkeypatch.setattr(registry, "_entry_points", lambda kind: {"o3": Point()})
    url = f"sqlite:///{tmp_path}/runs.db"
    removed(url)
    study = bi.Study.open(NAME, url, problem=studies.latent())
    assert study.strategy == Installed(seeds=3, draws=6)
    assert len(study.run(11).trials) == 11


def test_the_command_line_reads(
    stored: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, message = stored

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bo-invert", *arguments, "--storage", url])
        code: object = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        output = capsys.readouterr()
        return int(str(code or 0)), output.out, output.err

    problem, out = f"{GOLDEN}/studies.py:latent", str(tmp_path / "report")
    for line in (["show", NAME], ["trials", NAME], ["list"], ["best", NAME]):
        code, text, error = call(*line)
        assert (code, error) == (0, "")
        assert NAME in text or "0.2366" in text
    assert call("export", NAME, str(tmp_path / "copy.jsonl"))[0] == 0
    assert call("report", NAME, "--problem", problem, "--out", out)[0] == 0
    assert NAME in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    code, _, error = call("run", problem, "--name", NAME, "--budget", "20", "--quiet")
    assert code == 2
    assert re.search(message, error.replace("\n", " "))


@pytest.mark.parametrize("case", ["removed", "uninstalled"])
def test_a_server_shows_the_study_and_refuses_asks(case: str, tmp_path: Path) -> None:
    write, message = CASES[case]
    server = Inside(tmp_path)
    write(server.url)
    about = server.request("GET", f"/v1/studies/{NAME}").json()
    assert (about["trials"], about["asks_here"]) == (9, False)
    assert re.match(f"study '{NAME}': {message}", about["why_not"])
    for part in ("trials", "solutions", "curve", "log"):
        assert server.request("GET", f"/v1/studies/{NAME}/{part}").status_code == 200
    refused = server.request("POST", f"/v1/studies/{NAME}/ask", json={})
    assert (refused.status_code, refused.json()["detail"]) == (422, about["why_not"])


def test_a_new_study_of_a_removed_strategy_is_refused() -> None:
    with pytest.raises(bi.InvalidInputError, match=r"^strategy 'o3' was removed .* Use 'auto'"):
        bi.Study.create("new", studies.bowl(), "o3")


def test_removed_names_are_not_in_use() -> None:
    for kind, reasons in registry.REMOVED.items():
        assert not reasons.keys() & registry.BUILTIN[kind].keys()
        for name, reason in reasons.items():
            pattern = rf"\w+ '{name}' was removed in version \d\S+: .*\. Use .*\."
            assert re.fullmatch(pattern, reason)
