"""The forms of a study on the page, in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import Served

import bo_invert as bi

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
SCRIPT = "<img src=x onerror=alert(2)>"


def problem() -> bi.Problem:
    space = bi.Box({
        f"p{SCRIPT}": bi.Float(0.0, 1.0), "closed": bi.Choice(True, False),
        "grade": bi.Choice(1, 2, 5), "solver": bi.Choice("sgd", "adam"),
        "options": bi.When("solver", "sgd", {"momentum": bi.Float(0.0, 1.0)}),
    })  # fmt: skip
    return bi.Problem(space, None, bi.Maximize("y"), outputs=["y", f"z{SCRIPT}"], name="forms")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("forms")
    url = f"sqlite:///{folder}/runs.db"
    bi.Study.create("lab", problem(), "random", 0, url).ask(3)
    made = Served(folder, url)
    yield made
    made.kill()


@pytest.fixture
def page(served: Served) -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        shown = browser.new_context(viewport={"width": 400, "height": 900}).new_page()
        complaints: list[str] = []
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.on("dialog", lambda dialog: complaints.append(dialog.message))
        yield shown
        browser.close()
        assert complaints == []


def study(served: Served) -> bi.Study:
    return bi.Study.open("lab", served.storage, problem())


def test_readers_have_no_forms(page: Any, served: Served) -> None:
    page.goto(f"{served.url}/#/study/lab&token={served.reader}")
    page.wait_for_selector("#trials tbody tr")
    expect(page.locator("#work")).to_be_hidden()
    page.goto(f"{served.url}/#/")
    page.wait_for_selector("tbody tr")
    expect(page.locator("#create")).to_be_hidden()


def test_a_row_stays_while_the_study_changes_and_mistakes_are_explained(
    page: Any, served: Served
) -> None:
    page.goto(f"{served.url}/#/study/lab&token={served.token}")
    row = page.locator("#work tr[data-trial='0']")
    fields = row.locator("input")
    y, z, extra = fields.nth(-3), fields.nth(-2), fields.nth(-1)
    y.fill("lots")
    z.fill("2,5")
    study(served).tell(2, [1.0, 1.0])  # another person
    page.wait_for_selector("#work tr[data-trial='2']", state="detached")
    assert (y.input_value(), z.input_value()) == ("lots", "2,5")
    note = page.locator("#work .note")
    row.locator("button").click()
    expect(note).to_contain_text("y: 'lots' is not a number")
    y.fill("1,5")
    extra.fill("colour")
    row.locator("button").click()
    expect(note).to_contain_text("name=value")
    extra.fill("colour=red; ph=7")
    row.locator("button").click()
    row.wait_for(state="detached")
    done = study(served).trials[0]
    assert (done.y.tolist(), dict(done.extra)) == ([1.5, 2.5], {"colour": "red", "ph": 7.0})
    assert not done.moved


def test_conditions_outside_and_corrections(page: Any, served: Served) -> None:
    page.goto(f"{served.url}/#/study/lab&token={served.token}")
    row = page.locator("#work tr[data-trial='1']")
    fields, note = row.locator("input"), page.locator("#work .note")
    fields.nth(0).fill("1,5")
    for field in (fields.nth(-3), fields.nth(-2)):
        field.fill("3")
    row.locator("button").click()
    expect(note).to_contain_text("outside='model'")
    page.check("#outside-results")
    row.locator("button").click()
    row.wait_for(state="detached")
    trial = study(served).trials[1]
    assert (trial.outside, trial.design[f"p{SCRIPT}"]) == (True, 1.5)
    page.click("#work summary:has-text('Correct')")
    page.fill("#amend-form [name=trial]", "1")
    page.fill("#amend-form [name=failed]", "contaminated")
    page.click("#amend-form button")
    expect(note).to_contain_text("Trial 1 is amended.")
    assert study(served).trials[1].reason == "contaminated"
    page.fill("#amend-form [name=trial]", "99")
    page.fill("#amend-form [name=failed]", "x")
    page.click("#amend-form button")
    expect(note).to_contain_text("no trial 99")


def test_observations_by_hand_and_in_files(page: Any, served: Served, tmp_path: Path) -> None:
    page.goto(f"{served.url}/#/study/lab&token={served.token}")
    page.click("#work summary:has-text('Add an observation')")
    fields = page.locator("#add-form [data-name]")
    fields.nth(0).fill("0,25")
    page.select_option("#add-form [data-name=closed]", "false")
    page.select_option("#add-form [data-name=grade]", "5")
    page.select_option("#add-form [data-name=solver]", "adam")
    for number in (-2, -1):
        fields.nth(number).fill("4")
    page.click("#add-form button")
    expect(page.locator("#work .note")).to_contain_text("1 observation recorded")
    added = study(served).trials[3]
    assert added.design == {f"p{SCRIPT}": 0.25, "closed": False, "grade": 5, "solver": "adam"}
    (tmp_path / "lab.csv").write_bytes(
        f"p{SCRIPT};closed;grade;solver;momentum;y;z{SCRIPT};Prüfer\n"
        "0,5;WAHR;2;sgd;0,5;1;2;Jörg\n0,5;WAHR;3;sgd;0,5;1;2;\n".encode("cp1252")
    )
    page.click("#work summary:has-text('Upload')")
    page.set_input_files("#upload-form [name=file]", str(tmp_path / "lab.csv"))
    page.click("#upload-form button")
    expect(page.locator("#work .note")).to_contain_text("row 3: grade")
    assert dict(study(served).trials[4].extra) == {"Prüfer": "Jörg"}
    page.click("#ask-form summary")
    page.select_option("#ask-form [data-name=grade]", "2")
    page.click("#ask-form button")
    page.wait_for_selector("#work tr[data-trial='5']")
    assert study(served).trials[5].design["grade"] == 2


def test_constraints_fixed_values_steps_and_several_criteria(
    page: Any, served: Served, tmp_path: Path
) -> None:
    space = bi.Box(
        {
            "a": bi.Float(0, 1), "b": bi.Float(0, 1), "heat": bi.Float(20, 100, step=10),
            "kind": bi.Choice("x", "y"), "base": bi.Fixed("NaOH"),
        },
        constraints="a + b == 1",
    )  # fmt: skip
    objective = bi.Pareto(bi.Maximize("gain"), bi.Minimize("cost"))
    made = bi.Problem(space, None, objective, outputs=["gain", "cost"], units={"heat": "°C"})
    bi.Study.create("mix", made, "random", 0, served.storage)

    def mix() -> bi.Study:
        return bi.Study.open("mix", served.storage, made)

    page.goto(f"{served.url}/#/study/mix&token={served.token}")
    note = page.locator("#work .note")
    page.click("#ask-form summary")
    expect(page.locator("#ask-form")).to_contain_text("a + b = 1")
    page.select_option("#ask-form [data-name=kind]", "y")
    page.fill("#ask-form [data-name=a]", "0,25")
    page.fill("#ask-form [name=count]", "2")
    page.click("#ask-form button")
    page.wait_for_selector("#work tr[data-trial='1']")
    for trial in mix().trials:
        design = dict(trial.design)
        heat = design.pop("heat")
        assert heat % 10 == 0
        assert design == {"a": 0.25, "b": 0.75, "kind": "y", "base": "NaOH"}
    table = tmp_path / "mix.txt"
    table.write_text("a\tb\theat\tkind\tgain\tcost\n0.5\t0.5\t33.3\tx\t1,234\t7\n")
    page.click("#work summary:has-text('Upload')")
    page.set_input_files("#upload-form [name=file]", str(table))
    page.click("#upload-form button")
    expect(note).to_contain_text("can be read as 1.234 or as 1234")
    page.set_input_files("#upload-form [name=file]", str(table))
    page.select_option("#upload-form [name=decimal]", ".")
    page.click("#upload-form button")
    expect(note).to_contain_text("1 observation recorded")
    added = mix().trials[2]
    assert (added.y.tolist(), added.design["heat"]) == ([1234.0, 7.0], 33.3)
    assert [trial.number for trial in mix().front] == [2]
