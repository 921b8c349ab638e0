"""The page in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from servers import Served

import bo_invert as bi
from bo_invert.storage.trial_transitions import Assignment

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "drawn.py").write_text(
        "import numpy as np\nimport bo_invert as bi\n"
        "problem = bi.Problem(bi.Latent(lambda z: z, 4), None, bi.Minimize(), outputs=['y'],\n"
        "    draw=lambda z: np.clip(np.outer(z, z), 0, 1))\n"
    )
    (folder / "serve.toml").write_text('[problems.drawn]\nsource = "drawn.py"\n')
    url = f"sqlite:///{folder}/runs.db"
    yield_many(url)
    made = Served(folder, url, "--config", str(folder / "serve.toml"))
    yield made
    made.kill()


def scripted() -> bi.Problem:
    """Everything that can be named is called so."""
    box = bi.Box({f"p{SCRIPT}": bi.Float(0.0, 1.0)})
    return bi.Problem(
        box, None, bi.Maximize(f"y{SCRIPT}"), outputs=[f"y{SCRIPT}"], name=f"about {SCRIPT}"
    )


def kettle() -> bi.Problem:
    """Two outputs, one of which is kept below a bound."""
    box = bi.Box({"heat": bi.Float(0.0, 200.0), "stir": bi.Choice(["slow", "fast"])})
    return bi.Problem(
        box, None, bi.Maximize("yield"), outputs=["yield", "load"], constraints=["load <= 125"]
    )


def yield_many(url: str) -> None:
    rng = np.random.default_rng(0)
    box = bi.Problem(bi.Box([0.0] * 4, [1.0] * 4), None, bi.Minimize(), name="bowl")
    big = bi.Study.create("ten thousand", box, "random", 0, url)
    points = rng.random((10_000, 4))
    big.add(points, [float(((x - 0.3) ** 2).sum()) for x in points])
    small = bi.Study.create(SCRIPT, scripted(), "sobol", 0, url)
    for i in range(6):
        small.tell(small.ask()[0], bi.FailedError(SCRIPT) if i == 3 else float(i))
    bowl = bi.Problem(bi.Box([0.0], [1.0]), None, bi.Minimize("y"), name="noise")
    noise = bi.Study.create("noise", bowl, "gp", 0, url, noisy=True)
    x = rng.random((12, 1))
    noise.add(x, (x[:, 0] - 0.3) ** 2 + 0.1 * rng.standard_normal(12))
    far = bi.Problem(bi.Box([0.0], [1.0]), None, bi.Target({"y": 9.0}, tolerance=0.1), name="far")
    bi.Study.create("far", far, "random", 0, url).add(x, x[:, 0] ** 2)
    x = rng.random((12, 1))
    bi.Study.open("far", url, far).add(x, x[:, 0] ** 2)
    for name, lowest in (("kettle", 1.0), ("kettle again", -1.0)):
        study = bi.Study.create(name, kettle(), "sobol", 0, url)
        study.tell(study.ask()[0], [1000.0, 126.0])
        for i in range(4):
            study.tell(study.ask()[0], [lowest * 10.0**i, 50.0])
    small.take(2, 40, assignment=Assignment(f"lab-7 {SCRIPT}", 600.0))


class Browser:
    """A page that must not complain, ask, or reach for anything elsewhere."""

    def __init__(self, browser: Any, served: Served, width: int = 1200) -> None:
        self.served = served
        self.page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda message: (
                self.complaints.append(message.text) if message.type == "error" else None
            ),
        )
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.page.on("request", self._seen)

    def _seen(self, request: Any) -> None:
        if not request.url.startswith((self.served.url, "data:", "blob:")):
            self.complaints.append(f"request to {request.url}")

    def open(self, fragment: str, token: str | None = None) -> Any:
        self.page.goto(f"{self.served.url}/#{fragment}&token={token or self.served.reader}")
        return self.page


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def painted(page: Any, canvas: str) -> int:
    """Count the coloured pixels of a canvas."""
    return int(
        page.evaluate(
            "s => { const c = document.querySelector(s), d = c.getContext('2d')"
            ".getImageData(0, 0, c.width, c.height).data; let n = 0;"
            "for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; }",
            canvas,
        )
    )


def test_without_a_token_there_is_nothing_to_see(chromium: Any, served: Served) -> None:
    browser = Browser(chromium, served)
    browser.page.goto(served.url)
    browser.page.wait_for_selector("input[name=token]")
    assert "thousand" not in browser.page.content()
    browser.page.fill("input[name=token]", "wrong")
    browser.page.keyboard.press("Enter")
    browser.page.wait_for_selector("text=Unknown token")
    browser.page.fill("input[name=token]", served.reader)
    browser.page.keyboard.press("Enter")
    browser.page.wait_for_selector("text=ten thousand")
    assert served.reader not in browser.page.url
    assert [c for c in browser.complaints if "401" not in c] == []


def test_studies_are_listed_and_their_names_are_text(chromium: Any, served: Served) -> None:
    browser = Browser(chromium, served)
    page = browser.open("/")
    page.wait_for_selector("tbody tr")
    assert SCRIPT in page.locator("tbody").inner_text()
    page.fill("#filter", "thousand")
    assert page.locator("tbody tr").count() == 1
    page.click("text=ten thousand")
    page.wait_for_selector("h1:has-text('ten thousand')")
    assert served.reader not in page.url
    assert browser.complaints == []


def test_a_study_of_ten_thousand_trials(chromium: Any, served: Served) -> None:
    browser = Browser(chromium, served)
    page = browser.open("/study/ten%20thousand")
    page.wait_for_selector("#trials tbody tr")
    expect(page.locator("#live")).to_have_text("live", timeout=20_000)
    assert page.locator("#trials tbody tr").count() == 25
    assert page.locator("#trials tbody tr td").first.inner_text() == "9999"
    page.click("button.more:visible")
    expect(page.locator("#trials tbody tr")).to_have_count(50)
    page.wait_for_selector("#plot[data-kind=parallel_coordinate]:not([aria-busy])")
    assert page.locator("#plot svg path").count() > 400
    assert "The best 400 of 10,000 trials" in page.locator("#plot").inner_text()
    assert browser.complaints == []


def test_a_study_shows_what_happened_and_goes_on_live(chromium: Any, served: Served) -> None:
    browser = Browser(chromium, served)
    name = "".join(f"%{byte:02X}" for byte in SCRIPT.encode())
    page = browser.open(f"/study/{name}")
    expect(page.locator("#live")).to_have_text("live", timeout=20_000)
    assert page.locator("h1").inner_text() == SCRIPT
    assert page.locator(".tile b").first.inner_text() == "5", (
        "of what is maximised the output is shown, not the loss"
    )
    assert page.locator(".tile b").nth(1).inner_text() == "6 of 40"
    assert painted(page, "#curve") > 500
    assert f"lab-7 {SCRIPT}" in page.locator("#running").inner_text()
    assert f"about {SCRIPT}" in page.locator(".about").inner_text()
    assert SCRIPT in page.locator(".tiles").inner_text()
    best = page.locator("#best dt, #best dd")
    assert best.all_inner_texts()[:4] == ["trial", "5", f"y{SCRIPT}", "5"]
    assert best.nth(4).inner_text() == f"p{SCRIPT}"
    assert best.count() == 6, "the loss is minus the output"
    assert "red: no value" in page.locator(".tip").inner_text()
    page.focus("#curve")
    page.keyboard.press("ArrowRight")
    assert page.locator(".tip").inner_text().startswith("trial 0 (sobol): completed")
    page.select_option("#state", "failed")
    expect(page.locator("#trials tbody tr")).to_have_count(1)
    assert SCRIPT in page.locator("#trials tbody").inner_text()
    study = bi.Study.open(SCRIPT, served.url, token=served.token)
    number = next(t.number for t in study.trials if t.state is bi.State.RUNNING)
    bi.Study.open(SCRIPT, served.url, scripted(), token=served.token).tell(number, 77.0)
    expect(page.locator(".tile b").first).to_have_text("77", timeout=20_000)
    expect(page.locator("#best dd").first).to_have_text(str(number))
    assert browser.complaints == []


def test_constraints_and_their_violations_are_shown(chromium: Any, served: Served) -> None:
    browser = Browser(chromium, served)
    page = browser.open("/study/kettle")
    page.wait_for_selector("#trials tbody tr")
    assert page.locator(".about").inner_text().endswith(" · load <= 125")
    assert page.locator("#trials .s-infeasible").all_inner_texts() == [
        "completed, violates a constraint"
    ]
    assert page.locator("#trials .s-completed").count() == 4
    assert page.locator("#best dd").all_inner_texts()[:3] == ["4", "1000", "50"]
    assert browser.complaints == []


LABELS = """() => {
  const pen = CanvasRenderingContext2D.prototype, write = pen.fillText;
  window.labels = [];
  pen.fillText = function (text, x, y) {
    if (this.textAlign === "right") window.labels.push([Number(text), y]);
    write.apply(this, arguments);
  };
}"""


def test_a_log_scale_is_of_the_users_own_quantity(chromium: Any, served: Served) -> None:
    browser = Browser(chromium, served)
    page = browser.open("/study/kettle")
    expect(page.locator("#live")).to_have_text("live", timeout=20_000)
    expect(page.locator("#compare option")).to_have_text(["none", "kettle again"])
    page.evaluate(LABELS)
    page.check("#logscale")
    labels = sorted(page.evaluate("labels"))
    assert labels[0][0] >= 0.5
    assert 500 <= labels[-1][0] <= 2000
    assert [y for _, y in labels] == sorted((y for _, y in labels), reverse=True), "more is up"
    assert painted(page, "#curve") > 500
    page.select_option("#compare", "kettle again")
    expect(page.locator("#logscale")).to_be_disabled()
    assert not page.is_checked("#logscale")
    assert "above 0" in str(page.get_attribute("#logscale", "title"))
    page.select_option("#compare", "")
    expect(page.locator("#logscale")).to_be_enabled()
    assert browser.complaints == []


def test_designs_that_can_be_drawn_are(chromium: Any, served: Served) -> None:
    import httpx

    headers = {"Authorization": f"Bearer {served.token}"}
    body = {"name": "drawn", "registered": "drawn", "strategy": {"name": "prior"}}
    assert httpx.post(f"{served.url}/v1/studies", json=body, headers=headers).status_code == 201
    asked = httpx.post(
        f"{served.url}/v1/studies/drawn/ask", json={"count": 5}, headers=headers, timeout=60.0
    ).json()
    for trial in asked["trials"]:
        tell = f"{served.url}/v1/studies/drawn/trials/{trial['number']}/tell"
        assert (
            httpx.post(tell, json={"outputs": trial["number"]}, headers=headers).status_code == 200
        )
    browser = Browser(chromium, served)
    page = browser.open("/study/drawn")
    page.wait_for_selector(".pictures img")
    assert page.locator(".pictures img").count() == 5
    page.wait_for_selector("#plot[data-kind=latent_map]:not([aria-busy])")
    assert page.locator("#plot svg circle").count() > 5
    assert page.locator("#plot img").count() == 1  # decoded designs over the same plane
    assert browser.complaints == []


def test_every_plot_is_drawn_with_names_as_text(chromium: Any, served: Served) -> None:
    browser = Browser(chromium, served, width=400)
    name = "".join(f"%{byte:02X}" for byte in SCRIPT.encode())
    page = browser.open(f"/study/{name}")
    page.wait_for_selector("#plot[data-kind=parallel_coordinate]")
    kinds = [tab.get_attribute("data-kind") for tab in page.query_selector_all(".tabs button")]
    assert "pareto_front" not in kinds
    for kind in kinds:
        if kind == "contour":  # the study has one parameter
            continue
        page.click(f".tabs button[data-kind={kind}]")
        page.wait_for_selector(f"#plot[data-kind={kind}]:not([aria-busy])", timeout=30_000)
        assert page.locator("#plot svg").count() > 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.click(".tabs button[data-kind=contour]")
    page.wait_for_selector("#plot[data-kind=none]")
    assert "at least two parameters" in page.locator("#plot").inner_text()
    assert [one for one in browser.complaints if "422" not in one] == []


def test_the_best_trial_of_a_noisy_study_is_the_recommended_one(
    chromium: Any, served: Served
) -> None:
    browser = Browser(chromium, served)
    page = browser.open("/study/noise")
    page.wait_for_selector("#best-title:has-text('Recommended trial')")
    text = page.locator("#best").inner_text()
    assert "expected y" in text
    assert "partly luck" in text
    assert browser.complaints == []


def test_the_verdict_on_a_target_is_shown_on_request(chromium: Any, served: Served) -> None:
    browser = Browser(chromium, served)
    page = browser.open("/study/far")
    page.click("text=Can the target be reached?")
    line = page.locator("#verdict span")
    expect(line).to_contain_text("probability of a hit 0%", timeout=30_000)
    expect(line).to_contain_text("tolerances outside")
    assert browser.complaints == []
    browser.open("/study/kettle")
    expect(page.locator("h1")).to_have_text("kettle")
    expect(page.locator("#questions")).to_be_hidden()
    browser.open("/study/far")
    page.click("text=How far may the best design move?")
    expect(page.locator("#tolerances span")).to_contain_text("must meet", timeout=30_000)


def test_another_target_is_searched_with_the_same_observations(
    chromium: Any, served: Served
) -> None:
    browser = Browser(chromium, served)
    page = browser.open("/study/far", served.token)
    page.click("text=Search another target with these observations")
    page.fill("#retarget [name=name]", "near")
    page.fill("#retarget .fields input", "nine")
    page.click("#retarget button")
    expect(page.locator("#retarget [role=status]")).to_contain_text("must be a number, or a range")
    page.fill("#retarget .fields input", "0.2 to 0.4")
    page.click("#retarget button")
    expect(page.locator("h1")).to_have_text("near")
    expect(page.locator(".about")).to_contain_text("target 0.2 to 0.4")
    page.click("text=How far may the best design move?")
    expect(page.locator("#tolerances span")).to_contain_text("of the box meet", timeout=30_000)
    assert page.locator("#moves tbody tr").count() == 1
    assert browser.complaints == []


def test_small_screens_scroll_in_one_direction(chromium: Any, served: Served) -> None:
    browser = Browser(chromium, served, width=380)
    for fragment, ready in (("/", "tbody tr"), ("/study/ten%20thousand", "#trials tbody tr")):
        page = browser.open(fragment)
        page.wait_for_selector(ready)
        assert "token" not in page.url
        assert page.evaluate("document.documentElement.scrollWidth") <= 380
    assert browser.complaints == []
