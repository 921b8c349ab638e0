"""A chemist's week by Python, by the command line, and on the page: the same events."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import Served

import bo_invert as bi
from bo_invert.cli import main as cli
from bo_invert.storage.open import open_store

PARAMETERS = {
    "ethanol": {"type": "float", "low": 0.0, "high": 1.0, "log": False},
    "water": {"type": "float", "low": 0.0, "high": 1.0, "log": False},
    "acid": {"type": "float", "low": 0.0, "high": 1.0, "log": False},
    "temperature": {"type": "float", "low": 20.0, "high": 100.0, "log": False},
    "vessel": {"type": "choice", "values": ["glass", "steel"], "ordered": False},
}
PROBLEM = {
    "space": {
        "type": "box", "parameters": PARAMETERS, "constraints": ["ethanol + water + acid == 1"],
    },
    "outputs": ["yield"],
    "objective": {"type": "maximize", "output": "yield"},
}  # fmt: skip
MOVED, EXTRA = {"temperature": 71.5}, {"colour": "brown"}


def measured(design: dict[str, Any]) -> float:
    """Yield in percent, as the balance shows it."""
    distance = (design["ethanol"] - 0.5) ** 2 + (design["acid"] - 0.2) ** 2
    warm = ((design["temperature"] - 64.0) / 80.0) ** 2
    return round(90.0 - 100.0 * (distance + warm) - 5.0 * (design["vessel"] == "steel"), 2)


def experiments() -> str:
    """Thirty rows as a spreadsheet writes them; the vessel of row 6 and a yield are wrong."""
    rng = np.random.default_rng(4)
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";")
    writer.writerow([*PARAMETERS, "yield", "analyst"])
    for i in range(30):
        shares = np.round(rng.dirichlet([1.0, 1.0, 1.0])[:2], 2)
        design = dict(zip(PARAMETERS, [*shares, round(1.0 - shares.sum(), 2)], strict=False))
        design |= {"temperature": round(rng.uniform(20.0, 100.0), 1), "vessel": "glass"}
        design["vessel"] = "wood" if i == 4 else ["glass", "steel"][i % 2]
        result: object = "trace" if i == 17 else measured(design)
        writer.writerow([str(one).replace(".", ",") for one in (*design.values(), result, "EB")])
    return text.getvalue()


def problem() -> bi.Problem:
    space = {
        name: bi.Choice(*one["values"]) if "values" in one else bi.Float(one["low"], one["high"])
        for name, one in PARAMETERS.items()
    }
    box = bi.Box(space, constraints="ethanol + water + acid == 1")
    return bi.Problem(box, None, bi.Maximize("yield"), outputs=["yield"], name="reaction")


BY_HAND = {
    "ethanol": 0.4, "water": 0.3, "acid": 0.3, "temperature": 60.0, "vessel": "glass",
    "yield": 77.0,
}  # fmt: skip


def by_python(folder: Path) -> str:
    url = f"sqlite:///{folder}/python.db"
    study = bi.Study.create("week", problem(), "gp", 3, url)
    (folder / "lab.csv").write_text(experiments())
    with pytest.warns(UserWarning, match="2 of 30 rows"):
        added = study.add(folder / "lab.csv")
    assert [one.row for one in added.rejected] == ["row 6", "row 19"]
    first, *others = study.ask(4)
    moved = study.tell(first, measured(first.design | MOVED), at=MOVED, extra=EXTRA)
    assert moved.design["temperature"] == 71.5
    for trial in others:
        study.tell(trial, measured(trial.design))
    study = bi.Study.open("week", url, problem())  # the next day
    failed, *others = study.ask(4, fixed={"vessel": "steel"})
    assert {trial.design["vessel"] for trial in (failed, *others)} == {"steel"}
    study.tell(failed, bi.FailedError("spilled"))
    for trial in others:
        study.tell(trial, measured(trial.design))
    study.amend(2, 12.5, reason="typing error")
    study.add([BY_HAND])
    for trial in study.ask(4)[:3]:
        study.tell(trial, measured(trial.design))
    assert [trial.number for trial in study.pending] == [40]
    assert study.best is not None
    study.report(folder / "report.html")
    assert "typing error" in study.to_dataframe().amended.dropna().iloc[0]
    study.plot.optimization_history().save(folder / "history.png")
    return url


def by_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    def bo(*arguments: str, code: int = 0) -> str:
        with pytest.MonkeyPatch.context() as patched:
            patched.chdir(folder)
            patched.setattr(sys, "argv", ["bo-invert", *arguments, "--storage", "cli.db"])
            with pytest.raises(SystemExit) as ended:
                cli.main()
        shown = capsys.readouterr().err
        assert (ended.value.code or 0) == code, shown
        return shown

    def complete(changes: dict[int, dict[str, str]], leave: int | None = None) -> None:
        with (folder / "asks.csv").open() as file:
            rows = list(csv.DictReader(file))
        names = [*rows[0], *(name for one in changes.values() for name in one)]
        for i, row in enumerate(rows):
            row |= changes.get(i, {})
            if i != leave and not row["yield"]:
                design = {k: v if k == "vessel" else float(v) for k, v in row.items() if k in
                          PARAMETERS}  # fmt: skip
                row["yield"] = repr(measured(design))
        with (folder / "results.csv").open("w") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(names)), restval="")
            writer.writeheader()
            writer.writerows(rows)
        bo("tell", "week", "results.csv")

    (folder / "reaction.json").write_text(json.dumps(PROBLEM))
    (folder / "lab.csv").write_text(experiments())
    bo("create", "week", "reaction.json", "--strategy", "gp", "--seed", "3")
    assert "row 6" in bo("add", "week", "lab.csv", code=1)
    bo("ask", "week", "-n", "4", "--out", "asks.csv")
    complete({0: {"temperature": "71.5", **EXTRA}})
    bo("ask", "week", "-n", "4", "--out", "asks.csv", "--fix", "vessel=steel")
    complete({0: {"yield": "failed: spilled"}})
    bo("amend", "week", "2", "yield=12.5", "--reason", "typing error")
    one = csv.DictWriter((folder / "one.csv").open("w"), list(BY_HAND))
    one.writeheader()
    one.writerow(BY_HAND)
    del one
    bo("add", "week", "one.csv")
    bo("ask", "week", "-n", "4", "--out", "asks.csv")
    complete({}, leave=3)
    bo("pending", "week", "--out", "pending.csv")
    assert (folder / "pending.csv").read_text().splitlines()[1].startswith("40,")
    bo("plot", "week", "optimization_history", "--out", "history.png")
    assert (folder / "history.png").read_bytes().startswith(b"\x89PNG")
    bo("report", "week", "--out", "report")
    assert (folder / "report" / "report.html").stat().st_size > 10_000
    return f"sqlite:///{folder}/cli.db"


class Page:
    """The page of a study in a browser, used as a chemist does."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def reports(self, text: str) -> None:
        self.page.wait_for_selector(f"#work .note:has-text('{text}')")

    def suggest(self, count: int, first: int, vessel: str = "") -> None:
        self.page.fill("#ask-form [name=count]", str(count))
        if vessel:
            self.page.click("#ask-form summary")
            self.page.select_option("#ask-form [data-name=vessel]", vessel)
        self.page.click("#ask-form button")
        self.page.wait_for_selector(f"#work tr[data-trial='{first + count - 1}']", timeout=60_000)

    def record(self, trial: int, cells: dict[str, str], extra: str = "") -> None:
        row = self.page.locator(f"#work tr[data-trial='{trial}']")
        for name, text in cells.items():
            row.locator(f"[data-name='{name}']").fill(text)
        if extra:
            row.locator("[placeholder*='colour']").fill(extra)
        if "yield" not in cells:
            design: dict[str, Any] = {
                name: row.locator(f"[data-name='{name}']").input_value() for name in PARAMETERS
            }
            design = {
                k: v if k == "vessel" else float(v.replace(",", ".")) for k, v in design.items()
            }
            row.locator("[data-name='yield']").fill(repr(measured(design)))
        row.locator("button").click()
        row.wait_for(state="detached")

    def upload(self, path: Path) -> None:
        self.page.click("#work summary:has-text('Upload')")
        self.page.set_input_files("#upload-form [name=file]", str(path))
        self.page.click("#upload-form button")


def by_page(folder: Path, page: Any, served: Served) -> None:
    (folder / "reaction.json").write_text(json.dumps(PROBLEM))
    (folder / "lab.csv").write_bytes(experiments().encode("utf-16"))
    page.goto(f"{served.url}/#/&token={served.token}")
    page.click("#create summary")
    page.fill("#create [name=name]", "week")
    page.set_input_files("#create [name=file]", str(folder / "reaction.json"))
    page.fill("#create [name=strategy]", "gp")
    page.fill("#create [name=seed]", "3")
    page.click("#create button")
    page.wait_for_selector("h1:has-text('week')")
    lab = Page(page)
    lab.upload(folder / "lab.csv")
    lab.reports("28 observations recorded, 2 rows invalid")
    lab.reports("row 19: yield")
    lab.suggest(4, 28)
    lab.record(28, {"temperature": "71,5"}, "colour=brown")
    for trial in (29, 30, 31):
        lab.record(trial, {})
    page.reload()  # the next day
    page.wait_for_selector("#work:not([hidden])")
    lab.suggest(4, 32, "steel")
    lab.record(32, {"yield": "failed: spilled"})
    for trial in (33, 34, 35):
        lab.record(trial, {})
    page.select_option("#ask-form [data-name=vessel]", "")
    page.click("#work summary:has-text('Correct')")
    page.fill("#amend-form [name=trial]", "2")
    page.fill("#amend-form [data-name=yield]", "12,5")
    page.fill("#amend-form [name=reason]", "typing error")
    page.click("#amend-form button")
    lab.reports("Trial 2 is amended.")
    page.click("#work summary:has-text('Add an observation')")
    for name, value in BY_HAND.items():
        cell = page.locator(f"#add-form [data-name='{name}']")
        if name == "vessel":
            cell.select_option(str(value))
        else:
            cell.fill(str(value))
    page.click("#add-form button")
    lab.reports("1 observation recorded")
    lab.suggest(4, 37)
    for trial in (37, 38, 39):
        lab.record(trial, {})
    with page.expect_download() as waiting:
        page.click("#download")
    assert waiting.value.path().read_text().splitlines()[1].startswith("40,")
    page.click(".tabs [data-kind=optimization_history]")
    page.wait_for_selector("#plot[data-kind=optimization_history]:not([aria-busy]) svg")


def events(url: str) -> list[dict[str, Any]]:
    """The events of the week without times, workers and durations."""
    found = open_store(url).events("week")
    return [
        {k: v for k, v in one.items() if k not in ("at", "worker", "seconds", "lease")}
        for one in found
    ]


@pytest.fixture(scope="module")
def python_events(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return events(by_python(tmp_path_factory.mktemp("python")))


def test_the_week_holds_what_happened(python_events: list[dict[str, Any]]) -> None:
    kinds = [one["kind"] for one in python_events]
    assert (kinds.count("asked"), kinds.count("finished"), kinds.count("amended")) == (3, 11, 1)
    assert len(python_events[kinds.index("added")]["queries"]) == 28


def test_the_week_by_command_line(
    tmp_path: Path, python_events: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert events(by_command_line(tmp_path, capsys)) == python_events


@pytest.fixture
def page() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        shown = browser.new_context(viewport={"width": 1200, "height": 900}).new_page()
        complaints: list[str] = []
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.on("dialog", lambda dialog: complaints.append(dialog.message))
        yield shown
        browser.close()
        assert complaints == []


@pytest.mark.service
def test_the_week_on_the_page(
    tmp_path: Path, page: Any, python_events: list[dict[str, Any]]
) -> None:
    url = f"sqlite:///{tmp_path}/page.db"
    served = Served(tmp_path, url)
    try:
        by_page(tmp_path, page, served)
    finally:
        served.kill()
    assert events(url) == python_events
