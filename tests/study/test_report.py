"""Reports of single studies, and pictures of designs that are images."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.cli import main as cli
from bo_invert.report.image_format import image_format
from bo_invert.study.design_pictures import design_picture


class Page(HTMLParser):
    """Texts by section, and the links of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sections: dict[str, str] = {}
        self.links: list[str] = []
        self.images = 0
        self._section = ""
        self._skip = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "section":
            self._section = str(found.get("aria-labelledby", "")).removesuffix("-heading")
        self._skip = tag in ("script", "style")
        self.images += tag == "img"
        self.links += [str(found[key]) for key in ("src", "href") if key in found]

    def handle_data(self, data: str) -> None:
        if not self._skip:
            self.sections[self._section] = self.sections.get(self._section, "") + data + " "


def page_of(study: bi.Study, folder: Path) -> Page:
    return Page(study.report(folder / "report.html").read_text(encoding="utf-8"))


def kettle(**options: Any) -> bi.Problem:
    space = bi.Box({"heat": bi.Float(0.0, 100.0), "lid": bi.Choice("open", "closed")})
    return bi.Problem(
        space, None, bi.Maximize("steam"), outputs=["steam", "noise"],
        constraints=["noise <= 40"], name="kettle", units={"heat": "°C", "steam": "g"}, **options,
    )  # fmt: skip


def boiled(count: int = 12, **options: Any) -> bi.Study:
    study = bi.Study.create("tea", kettle(**options), "random")
    for trial in study.ask(count):
        heat = trial.design["heat"]
        study.tell(trial, {"steam": heat, "noise": heat / 2.0})
    return study


def test_a_report_answers_its_questions(tmp_path: Path) -> None:
    study = boiled()
    page = page_of(study, tmp_path)
    best = study.best
    assert best is not None
    assert best.y is not None
    assert all(link.startswith("data:") for link in page.links)
    assert f"Best steam: {best.y[0]:.4g} g in trial {best.number}" in page.sections["result"]
    assert "Maximize(steam)" in page.sections["question"]
    assert "noise <= 40" in page.sections["question"]
    assert "heat [°C]" in page.sections["question"]
    assert "best so far" in page.sections["course"]
    for title in ("Predicted and observed", "Importance", "by parameter", "Model of"):
        assert title in page.sections["model"]
    assert "is best with" not in " ".join(page.sections.values())  # no comparison with one method


def test_past_data_are_part_of_the_result(tmp_path: Path) -> None:
    study = boiled(6)
    study.add([{"heat": 20.0, "lid": "open"}], [{"steam": 20.0, "noise": 10.0}])
    assert "1 past observation had 20" in page_of(study, tmp_path).sections["result"]


def test_next_steps_name_the_binding_constraint_and_ends(tmp_path: Path) -> None:
    study = boiled(6)
    study.add([{"heat": 80.0, "lid": "open"}], [{"steam": 80.0, "noise": 40.0}])
    assert (
        "The constraint noise <= 40 limits the result" in page_of(study, tmp_path).sections["steps"]
    )
    study.add([{"heat": 100.0, "lid": "open"}], [{"steam": 100.0, "noise": 5.0}])
    assert "heat [°C] is at its upper end, 100" in page_of(study, tmp_path).sections["steps"]


def test_next_steps_without_a_feasible_trial(tmp_path: Path) -> None:
    study = bi.Study.create("loud", kettle(), "random")
    for trial in study.ask(4):
        study.tell(trial, {"steam": 1.0, "noise": 90.0})
    page = page_of(study, tmp_path)
    assert "No feasible design yet" in page.sections["result"]
    assert "noise <= 40 excludes 4 of 4" in page.sections["steps"]


def test_failures_are_named(tmp_path: Path) -> None:
    study = boiled(4)
    for trial in study.ask(4):
        study.tell(trial, bi.FailedError("the lid <i>flew</i> off"))
    page = page_of(study, tmp_path)
    assert "4 of 8 trials have no outputs" in page.sections["steps"]
    assert "the lid <i>flew</i> off" in page.sections["steps"]


def test_a_reached_target_needs_no_more_calls(tmp_path: Path) -> None:
    problem = bi.Problem(bi.Box([0.0], [1.0]), None, bi.Target(0.5, tolerance=0.01))
    study = bi.Study.create("aim", problem, "random")
    study.add([[0.1], [0.2], [0.3]], [0.1, 0.505, 0.9])
    page = page_of(study, tmp_path)
    assert "is reached within the tolerance of 0.01" in page.sections["result"]
    assert "no further call is needed" in page.sections["steps"]


@pytest.mark.parametrize(
    ("objective", "text"),
    [
        (bi.Target({"a": 0.5, "b": 1.0}, {"a": 0.01, "b": 0.2}), "tolerance of 0.01 (a), 0.2 (b)"),
        (bi.Target({"a": 0.5, "b": 1.0}, [0.1, 0.2]), "is reached within"),
        (bi.Target({"a": (0.5, None), "b": (None, 2.0)}), "The target is reached."),
    ],
)  # fmt: skip
def test_the_report_knows_ranges_and_single_tolerances(
    tmp_path: Path, objective: bi.Target, text: str
) -> None:
    problem = bi.Problem(bi.Box([0.0], [1.0]), None, objective, outputs=["a", "b"])
    study = bi.Study.create("aim", problem, "random")
    study.add([[0.1], [0.2]], [[0.55, 1.15], [0.1, 9.0]])
    assert text in page_of(study, tmp_path).sections["result"]


def test_a_noisy_study_recommends_with_an_interval(tmp_path: Path) -> None:
    problem = bi.Problem(bi.Box([0.0], [1.0]), None, bi.Minimize("loss"))
    study = bi.Study.create("noise", problem, "gp", noisy=True)
    rng = np.random.default_rng(0)
    x = rng.random((14, 1))
    study.add(x, (x[:, 0] - 0.4) ** 2 + 0.3 * rng.standard_normal(14))
    page = page_of(study, tmp_path)
    assert f"Recommended: trial {study.recommend().trial.number}" in page.sections["result"]
    assert "90 % interval" in page.sections["result"]
    assert "repeat it" in page.sections["steps"]


def test_a_trained_model_needs_a_judge(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 1)
    torch.nn.init.ones_(model.weight)
    torch.nn.init.zeros_(model.bias)
    problem = bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), model, bi.Maximize())
    study = bi.Study.create("net", problem, "random").run(4)
    assert "there is no judge" in page_of(study, tmp_path).sections["steps"]
    judged = bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), model, bi.Maximize(), judge=lambda x: -5.0)
    study = bi.Study.create("judged", judged, "random").run(4)
    page = page_of(study, tmp_path)
    assert "does not confirm" in page.sections["steps"]
    assert "judge says" in page.sections["result"]


def test_an_empty_study_and_one_without_its_problem_have_reports(tmp_path: Path) -> None:
    empty = bi.Study.create("empty", kettle(), "random")
    assert "No trial is completed" in page_of(empty, tmp_path).sections["result"]
    url = f"sqlite:///{tmp_path}/runs.db"
    latent = bi.Problem(bi.Latent(lambda z: z, 3), lambda z: float(z.sum()), bi.Minimize())
    bi.Study.create("code", latent, "random", storage=url).run(4)
    page = page_of(bi.Study.open("code", url), tmp_path)
    assert "There is no model yet" in page.sections["model"]


# ---------------------------------------------------------------------- pictures


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [
        ((8, 6), (8, 6)),
        ((8, 6, 1), (8, 6)),
        ((1, 8, 6), (8, 6)),
        ((8, 6, 3), (8, 6, 3)),
        ((3, 8, 6), (8, 6, 3)),
        ((3, 8, 3), None),
        ((784,), (28, 28)),
        ((783,), None),
        ((16,), None),
        ((2, 8, 6), None),
        ((2, 2), None),
    ],
)
def test_shapes_of_images(shape: tuple[int, ...], drawn: tuple[int, ...] | None) -> None:
    designs = np.random.default_rng(0).random((4, *shape))
    found = image_format(list(designs))
    assert (None if found is None else found.picture(designs[0]).shape) == drawn


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ((0.0, 1.0), (0, 255)),
        ((-1.0, 1.0), (0, 255)),
        ((0.0, 255.0), (0, 255)),
        ((0.2, 0.8), (51, 204)),
    ],
)
def test_ranges_of_images(values: tuple[float, float], ends: tuple[int, int]) -> None:
    design = np.full((6, 6), values[0])
    design[0, 0] = values[1]
    picture = image_format([design]).picture(torch.tensor(design))
    assert (picture.min(), picture.max()) == ends


def test_other_designs_are_no_images() -> None:
    for designs in (["CCO"], [{"a": 1.0}], [np.full((8, 8), np.nan)], [np.eye(8), np.eye(9)]):
        assert image_format(designs) is None


def test_a_failing_drawing_does_not_hide_the_result(tmp_path: Path) -> None:
    def broken(design: object) -> object:
        raise ValueError("no ink")

    study = boiled(4, draw=broken)
    with pytest.warns(UserWarning, match="draw failed with ValueError: no ink"):
        assert "Best steam" in page_of(study, tmp_path).sections["result"]


@pytest.fixture(scope="module")
def strokes() -> bi.Problem:
    """Decoder of 28 x 28 images that a user has trained on images of bars."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:28, 0:28]
    where, width = rng.uniform(6.0, 22.0, (2, 200, 1, 1)), rng.uniform(1.0, 4.0, (200, 1, 1))
    tilt = rng.uniform(-0.5, 0.5, (200, 1, 1))
    images = np.exp(-(((columns - where[0] - tilt * (rows - 14.0)) / width) ** 2))
    data = torch.tensor(images.reshape(200, 784), dtype=torch.float32)
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Linear(784, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
    decoder = torch.nn.Sequential(
        torch.nn.Linear(4, 32), torch.nn.ReLU(), torch.nn.Linear(32, 784), torch.nn.Sigmoid()
    )
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        ((decoder(encoder(data)) - data) ** 2).mean().backward()
        optimizer.step()
    space = bi.Latent(decoder, dim=4, encoder=encoder, data=data)
    return bi.Problem(space, lambda image: float(image.sum()), bi.Maximize("ink"), name="strokes")


def page_text(study: bi.Study, folder: Path) -> str:
    return study.report(folder / "text.html").read_text()


def test_steps_decimals_and_conditions_are_in_the_report(tmp_path: Path) -> None:
    space = bi.Box(
        {
            "dose": bi.Float(0, 1, step=0.05),
            "ph": bi.Float(3, 9, digits=1),
            "acid": bi.Choice("a", "b"),
            "rate": bi.When("acid", "a", bi.Float(1, 100, log=True)),
        }
    )
    study = bi.Study.create("lab", bi.Problem(space, None, bi.Minimize("y"), outputs=["y"]))
    text = page_text(study, tmp_path)
    for words in ("0 to 1, step 0.05", "3 to 9, 1 decimal", "1 to 100, logarithmic", "exists if"):
        assert words in text


def test_many_parameters_are_folded_away(tmp_path: Path) -> None:
    space = bi.Box({f"p{i}": bi.Float(0, 1) for i in range(40)})
    problem = bi.Problem(space, lambda p: p["p0"], bi.Minimize("y"), outputs=["y"])
    text = page_text(bi.Study.create("wide", problem, "random").run(4), tmp_path)
    assert "<summary>Parameters of the best trial" in text
    assert "<summary>Search space: 40 parameters</summary>" in text


def test_images_of_a_user_are_drawn_without_a_word(strokes: bi.Problem, tmp_path: Path) -> None:
    study = bi.Study.create("strokes", strokes, "random", seed=1).run(8)
    assert study.best is not None
    picture = design_picture(strokes, study.best.design)
    assert picture is not None
    assert picture.shape == (28, 28)
    assert np.ptp(picture) > 50
    solutions = study.solutions(3)
    assert [one.picture.shape for one in solutions] == [(28, 28)] * 3
    # Pictures stand side by side, each with its trial and value.
    labels = re.findall(r"<figcaption[^>]*>([^<]*)</figcaption>", solutions._repr_html_())
    assert [
        f"trial {one.trial.number}" in text for one, text in zip(solutions, labels, strict=True)
    ]
    assert len(labels) == 3
    page = page_of(study, tmp_path)
    assert page.images >= 8 + 1  # the best designs, and the map
    assert study.plot.solutions(4).chart.panels[0].picture.shape == (28, 28)
    assert study.plot.latent_map().chart.panels[1].picture.shape == (
        7 * 30,
        7 * 30,
    )  # with a line between pictures
    assert "<img" in study._repr_html_()
    comparison = bi.compare(strokes, ["random"], budget=4, seeds=2)
    html = comparison.save(tmp_path / "compared").joinpath("report.html").read_text()
    assert "Best designs of each method" in html
    assert "image of 28 x 28 pixels" in html
    # Coordinates are folded away, and no table lists pixels.
    assert "<summary>Latent coordinates of the best trial" in page_text(study, tmp_path)


def test_the_command_line_draws_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    study = bi.Study.create("tea", kettle(), "random", storage=url)
    for trial in study.ask(6):
        study.tell(trial, {"steam": trial.design["heat"], "noise": 1.0})

    def bo(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["bo-invert", *arguments, "--storage", url])
        code: object = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        output = capsys.readouterr()
        assert output.out == ""
        return int(str(code or 0)), output.err

    monkeypatch.chdir(tmp_path)
    assert bo("plot", "tea", "slice", "--param", "heat", "--out", "a.png", "--width", "400")[0] == 0
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert bo("plot", "tea", "timeline", "--out", "a.csv")[0] == 0
    assert (tmp_path / "a.csv").read_text().startswith("trial,attempt,state")
    code, message = bo("plot", "tea", "timeline", "--param", "heat")
    assert code == 2
    assert "--param is an option of slice" in message
    assert bo("report", "tea", "--out", "tea.html")[0] == 0
    assert "Best steam" in (tmp_path / "tea.html").read_text(encoding="utf-8")
