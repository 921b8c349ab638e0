import base64
import gzip
import io
import json
import math
import re
import struct
import tempfile
import zlib
from dataclasses import replace
from html import escape
from html.parser import HTMLParser

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from bo_invert.history import Ledger
from bo_invert.objectives.composite import Composite
from bo_invert.objectives.single_output import Maximize, Minimize
from bo_invert.objectives.target import Target
from bo_invert.report.comparison_tables import comparison_tables, runs_table
from bo_invert.report.figures import curves_figure
from bo_invert.report.gallery import gallery_png
from bo_invert.report.html import comparison_html, write_report
from bo_invert.report.objective_view import Goal
from bo_invert.report.pictures import png
from bo_invert.report.ranking import rank_methods, unconfirmed
from bo_invert.report.runs import Find, Run, Status, as_picture, frozen
from bo_invert.report.statistical_tests import Spread
from bo_invert.report.study_view import study_html, study_text, trial_text
from bo_invert.report.summary import summary_table, summary_text
from bo_invert.report.table import Table, shown
from bo_invert.types import Attempt, Cost, Outcome, Query, State, Trial

NASTY = "<script>alert(\"x\")</script> & 'q' $x_1$ | `t`"
TARGET = {"type": "target", "value": [0.5], "tolerance": 0.0}


def a_run(
    label="gp",
    loss=0.1,
    judged=None,
    plausibility=None,
    *,
    seed=0,
    strategy=None,
    start=1.0,
    goal=None,
    problem="p",
    picture=None,
    bill=None,
    hit=None,
    feasible=True,
):
    find = Find(
        3,
        frozen([0.1, 0.2]),
        frozen([loss]),
        loss,
        feasible,
        hit,
        judged,
        plausibility,
        picture,
        "x",
    )
    return Run(
        label,
        problem,
        seed,
        {"name": strategy or label, "options": {}},
        50,
        goal or {"type": "minimize"},
        np.array([0, 1, 50]),
        np.array([math.inf, start, loss]),
        bill or Ledger(values=50, attempts=50, asks=50),
        (find,),
        ended="the budget was used up",
    )


def refused(label="ls"):
    return Run(
        label, "p", 0, {"name": label}, 50, status=Status.REFUSED, ended="it needs gradients"
    )


def report_html(runs, **options):
    with tempfile.TemporaryDirectory() as folder:
        return write_report(f"{folder}/report.html", runs, **options).read_text(encoding="utf-8")


class Page(HTMLParser):
    """Elements and visible text of a page; raises on nothing, so the tests look at what it saw."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.links, self.text, self._silent = [], [], [], 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._silent += tag in ("script", "style")
        self.links += [value for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag):
        self._silent -= tag in ("script", "style")

    def handle_data(self, data):
        if not self._silent:
            self.text.append(data)


# ---------------------------------------------------------------------- unconfirmed claims


@pytest.mark.parametrize(
    ("goal", "start", "loss", "judged", "expected"),
    [
        ("minimize", 1.0, 0.0, 0.4, False),
        ("minimize", 1.0, 0.0, 0.6, True),
        ("minimize", 1.0, 0.0, -5.0, False),  # the judge likes it even more
        ("minimize", 1.0, 0.0, None, False),
        ("maximize", -1.0, -11.0, -4.0, True),
        ("maximize", -1.0, -11.0, -9.0, False),
        ("target", 1.0, 0.0, 0.16, False),  # distances 1, 0 and 0.4
        ("target", 1.0, 0.0, 0.36, True),
        ("minimize", math.inf, 0.0, 9.0, False),
    ],
)
def test_a_claim_is_unconfirmed_if_the_judge_confirms_less_than_half(
    goal, start, loss, judged, expected
):
    assert unconfirmed(a_run(loss=loss, judged=judged, goal={"type": goal}), start) is expected


def test_a_judge_equal_to_the_oracle_confirms_everything():
    run = a_run(loss=0.5, judged=0.5, start=0.5)
    assert not unconfirmed(run, 0.5)


# ---------------------------------------------------------------------- the paragraph


def test_the_judge_decides_and_the_best_claim_is_named():
    text = summary_text([
        a_run("gp", 0.1, 0.15, 0.5),
        a_run("dream", 0.001, 0.9, 0.01, strategy="gradient"),
        a_run("random", 0.4, 0.45, 0.5),
    ])  # fmt: skip
    assert "“gp” is best with a loss of 0.15 (claimed: 0.1)" in text
    assert "The best claim is that of “dream”: 0.001, judged: 0.9." in text
    assert "less than half of the improvement claimed by “dream”." in text
    assert "Implausible designs: “dream”." in text
    assert "The best plain method is “random” (random search) with 0.45" in text
    assert "Cost of 3 runs: 150 oracle values, 0 gradients" in text


def test_a_plain_method_that_wins_is_enough():
    text = summary_text([a_run("gp", 0.2, 0.22), a_run("best of N", 0.1, 0.1, strategy="prior")])
    assert "A plain method is enough: “best of N” (best of N from the reference measure)." in text
    text = summary_text([a_run("gp", 0.100, 0.11), a_run("cmaes", 0.1, 0.12)])
    assert "Plain methods are about as good: “cmaes”" in text


def test_for_a_target_alike_means_by_a_factor():
    close = summary_text([a_run("gp", 1e-5, goal=TARGET), a_run("cmaes", 1.5e-5, goal=TARGET)])
    far = summary_text([a_run("gp", 1e-5, goal=TARGET), a_run("cmaes", 1e-3, goal=TARGET)])
    solved = summary_text([a_run("gp", 1e-15, goal=TARGET), a_run("cmaes", 1e-9, goal=TARGET)])
    assert "about as good: “cmaes”" in close
    assert "The best plain method is “cmaes” (CMA-ES) with 0.001" in far
    assert "about as good: “cmaes”" in solved


def test_ties_are_ties():
    text = summary_text([a_run("a", 0.1, 0.2), a_run("b", 0.1, 0.2)])
    assert "“a” and “b” are best with a loss of 0.2" in text
    assert "The best claim" not in text
    text = summary_text([a_run("a", 0.1), a_run("b", 0.1), a_run("c", 0.3)])
    assert "“a” and “b” are best with a loss of 0.1" in text


def test_without_a_judge_nothing_is_confirmed():
    text = summary_text([a_run("a", 0.1), a_run("b", 0.2)])
    assert "Without a judge" in text
    assert "unconfirmed" not in text


def test_a_claim_on_which_the_judge_fails_does_not_win():
    text = summary_text([a_run("a", 0.1, 0.3), a_run("b", 0.01, None)])
    assert "“a” is best" in text
    assert "The best claim is that of “b”: 0.01, judged: no value." in text


def test_maximised_outputs_are_shown_as_outputs():
    text = summary_text([a_run("a", -7.5, goal={"type": "maximize"}, start=-1.0)])
    assert "“a” is best with an output of 7.5" in text


def test_an_unconfirmed_winner_is_named():
    text = summary_text([a_run("a", 0.0, 0.8), a_run("b", 0.85, 0.9)])
    assert "“a” is best" in text
    assert "less than half of the improvement claimed by “a”." in text


def test_an_implausible_winner_gets_a_plausible_runner_up():
    text = summary_text([a_run("a", 0.1, 0.1, 0.001), a_run("b", 0.2, 0.2, 0.5)])
    assert "Implausible designs: “a”." in text
    assert "Best method with plausible designs: “b”." in text


def test_refusals_errors_and_failures_are_named():
    broken = replace(a_run("gp", 0.1), status=Status.ERROR, ended="OSError: disk", finds=())
    failing = a_run("random", 0.5, bill=Ledger(values=50, attempts=50, failed=7, lost=1))
    text = summary_text([broken, failing, refused()])
    assert "Refused to run: “ls”." in text
    assert "Crashed: “gp”." in text
    assert "8 attempts without outputs, billed." in text


def test_nothing_found():
    assert summary_text([]) == "There are no runs."
    assert "No method could run" in summary_text([refused()])
    assert "No method found a feasible design" in summary_text([a_run(feasible=False)])


def test_several_seeds_have_medians_and_a_test():
    runs = [a_run("gp", 0.1 + 0.01 * s, seed=s) for s in range(8)]
    runs += [a_run("random", 0.5 + 0.01 * s, seed=s) for s in range(8)]
    text = summary_text(runs)
    assert "a median loss of 0.135" in text
    assert "p = 0.0078 over 8 paired seeds" in text
    assert "16 runs" in text


def test_several_problems_are_summarised_in_a_table():
    runs = [
        a_run(m, v, v + 0.1, problem=p) for p in "pq" for m, v in (("gp", 0.1), ("random", 0.5))
    ]
    runs.append(a_run("cmaes", 0.05, 0.01, problem="q"))
    table = summary_table(runs)
    assert table.columns == (
        "problem", "best method", "value", "judged", "best plain method", "value", "judged",
    )  # fmt: skip
    assert table.rows[0] == ("p", "“gp”", 0.1, 0.2, "“random”", 0.5, 0.6)
    assert table.rows[1] == ("q", "“cmaes”", 0.05, 0.01, "“cmaes”", 0.05, 0.01)
    text = summary_text(runs)
    assert "Best methods over 2 problems, ties included: “gp” on 1 and “cmaes” on 1." in text
    assert "Best methods" in "".join(Page(report_html(runs, title="t")).text)
    assert "Best methods" not in "".join(Page(report_html(runs[:2], title="t")).text)


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_seed_has_neither_data_profiles_nor_quartile_bands(seeds):
    runs = [a_run(m, v, seed=s) for s in range(seeds) for m, v in (("gp", 0.1), ("random", 0.5))]
    html = report_html(runs, title="t")
    text = "".join(Page(html).text)
    assert ("Data profiles" in text) == ("quartiles" in text) == (seeds == 2)
    assert html.count('class="figure"') == seeds
    assert ('"fill":"tonexty"' in html) == (seeds == 2)
    assert "Calls until 99 % of the improvement" in text


def test_one_unconfirmed_run_of_many_is_counted():
    runs = [a_run("gp", 0.0, 0.9 if s == 0 else 0.1, seed=s) for s in range(3)]
    assert "improvement claimed by “gp” (1 of 3 runs)" in summary_text(runs)


# ---------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("objective", "outputs", "loss", "text"),
    [
        (Maximize("b"), ["a", "b"], -0.8312, "b=0.8312"),
        (Minimize(), ["y"], -0.5, "y=-0.5"),
        (Target(3.0), ["y"], 0.04, "off by 0.2"),
        (Target(3.0, scale=10.0), ["y"], 0.04, "off by 2"),
        (Target([1.0, 2.0], scale=[1.0, 10.0]), ["a", "b"], 0.04, "off by (in scales) 0.2"),
        (Composite(abs), ["a"], -2.0, "loss=-2"),
    ],
)
def test_losses_as_their_user_would_say_them(objective, outputs, loss, text):
    assert Goal(objective.to_json(), outputs).text(loss) == text


def test_a_goal_of_which_little_is_known():
    assert Goal({"type": "maximize"}).text(-2.0) == "output=2"
    assert Goal(TARGET).text(0.25) == "off by 0.5"
    assert Goal({}).text(3.0) == "loss=3"
    assert Goal({"type": "maximize"}).value(math.inf) == math.inf


def test_the_demo_s_columns():
    table = comparison_tables([a_run("gp", 0.1, 0.15, 0.5), a_run("random", 0.001, 0.9, 0.01)])[0]
    assert table.columns == (
        "method", "values", "gradients", "best loss", "judged", "plausibility", "seconds",
    )  # fmt: skip
    assert [row[0] for row in table.rows] == ["gp", "random"]
    assert table.marks == {(1, 4): "unconfirmed", (1, 5): "implausible"}
    assert "0.9 !" in table.text()
    assert "0.01 ?" in table.text()


def test_maximised_outputs_are_shown_with_their_own_sign():
    goal = {"type": "maximize", "output": "gain"}
    runs = [
        a_run(m, -v, 0.5 - v, seed=s, goal=goal, start=-0.5)
        for s, m, v in (
            (0, "gp", 2.0),
            (1, "gp", 3.0),
            (2, "gp", 5.0),
            (0, "random", 1.0),
            (1, "random", 1.5),
        )
    ]
    runs.append(replace(a_run("random", seed=2, goal=goal), finds=()))
    table = comparison_tables(runs)[0]
    assert [row[0] for row in table.rows] == ["gp", "random"]
    claimed, judged = (table.columns.index(name) for name in ("best gain", "judged"))
    assert table.rows[0][claimed] == Spread(3.0, 2.5, 4.0, 3)
    assert table.rows[0][judged] == Spread(2.5, 2.0, 3.5, 3)
    assert table.cell(1, claimed) == "1 [none, 1.25]"
    every = runs_table(runs)
    assert [row[every.columns.index("best gain")] for row in every.rows][:3] == [
        2.0,
        3.0,
        5.0,
    ]
    assert every.cell(5, every.columns.index("best gain")) == "none feasible"
    figure = curves_figure(runs)
    assert figure.layout.yaxis.title.text == "best gain so far"
    (line,) = (trace for trace in figure.data if trace.name == "gp" and trace.showlegend)
    assert list(line.y)[1:] == [0.5, 3.0]


def test_columns_that_say_nothing_are_left_out():
    table = comparison_tables([a_run("gp", 0.1, plausibility=1.0)])[0]
    assert table.columns == ("method", "values", "gradients", "best loss", "seconds")


def test_hits_seeds_and_ranks():
    runs = [
        a_run(m, v, seed=s, hit=m == "gp")
        for s in range(4)
        for m, v in (("random", 0.5), ("gp", 0.1))
    ]
    table = comparison_tables(runs)[0]
    cells = dict(zip(table.columns, table.rows[0], strict=True))
    assert cells["method"] == "gp"
    assert cells["hits"] == "4/4"
    assert cells["mean rank"] == 1.0
    assert table.rows[1][table.columns.index("p (Holm)")] == pytest.approx(0.125)


def test_ranks_need_common_seeds_and_two_methods():
    alone = rank_methods([a_run("a", seed=0), a_run("a", seed=1)])[0]
    apart = rank_methods([a_run("a", seed=0), a_run("b", seed=1)])[0]
    assert alone.methods[0].rank is None
    assert (apart.pairs, apart.methods[0].rank) == (0, None)


def test_an_overall_table_needs_methods_that_ran_everywhere():
    runs = [
        a_run(m, v, problem=p, seed=s)
        for p in "pq"
        for s in range(3)
        for m, v in (("a", 0.1), ("b", 0.2))
    ]
    tables = comparison_tables([*runs, a_run("only p", 0.0)])
    assert len(tables) == 3
    assert [row[:2] for row in tables[-1].rows] == [("a", 1.0), ("b", 2.0)]


def test_one_table_four_faces():
    table = Table(
        ("name", "loss"),
        (("a|b", Spread(1.0, 0.5, 2.0, 3)), (NASTY, None)),
        "cap <x>",
        ("note <y>",),
    )
    text = table.text().splitlines()
    assert text[0] == "cap <x>"
    assert text[3].endswith("1 [0.5, 2]")
    assert "a\\|b" in table.markdown()
    assert "|---|---:|" in table.markdown()
    assert table.csv().splitlines()[:2] == ["name,loss median,loss 25%,loss 75%", "a|b,1.0,0.5,2.0"]
    page = Page(table.html())
    assert "script" not in page.tags
    assert {"table", "caption", "thead", "tbody", "th", "td"} <= set(page.tags)
    assert NASTY in "".join(page.text)
    assert 'scope="row"' in table.html()


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "–"), (math.inf, "none feasible"), (0.123456, "0.1235"), (3, "3"), ("t", "t"),
     (Spread(1.0, 1.0, 1.0, 5), "1"), (Spread(1.0, 0.5, math.inf, 5), "1 [0.5, none]")],
)  # fmt: skip
def test_values_as_people_read_them(value, expected):
    assert shown(value) == expected


def test_every_run_is_in_the_long_table():
    table = runs_table([a_run("a"), refused()])
    assert len(table.rows) == 2
    assert "it needs gradients" in table.text()


# ---------------------------------------------------------------------- pictures


def decoded(data):
    """Decode a PNG by the standard, independently of the writer."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    assert depth == 8
    start = data.index(b"IDAT") + 4
    length = struct.unpack(">I", data[start - 8 : start - 4])[0]
    channels = 3 if colour == 2 else 1
    raw = np.frombuffer(zlib.decompress(data[start : start + length]), np.uint8).reshape(
        height, 1 + width * channels
    )
    return raw[:, 1:].reshape((height, width, 3) if channels == 3 else (height, width))


@pytest.mark.parametrize("shape", [(3, 5), (4, 2, 3)])
def test_png_keeps_every_pixel(shape):
    picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.testing.assert_array_equal(decoded(png(picture)), picture)
    from matplotlib.image import imread

    read = imread(io.BytesIO(png(picture)), format="png")
    np.testing.assert_allclose(read, picture / 255, atol=1e-6)


def test_gallery_shows_methods_with_pictures_only():
    rng = np.random.default_rng(0)
    runs = [a_run(NASTY, 0.1, 0.9, 0.01, picture=as_picture(rng.random((4, 4)))), a_run("without")]
    one = gallery_png(runs, real=rng.random((5, 4, 4)))
    assert one is not None
    assert one[:4] == b"\x89PNG"
    two = gallery_png([*runs, a_run("more", picture=as_picture(rng.random((4, 4))))])
    heights = [struct.unpack(">I", data[20:24])[0] for data in (one, two)]
    assert heights[1] > 1.5 * heights[0]
    assert gallery_png([a_run("without"), refused()]) is None


# ---------------------------------------------------------------------- curves


def test_curves_are_medians_and_quartiles():
    runs = [
        replace(a_run("a", v, seed=s), losses=np.array([math.inf, 1.0, v]))
        for s, v in enumerate((0.1, 0.2, 0.4))
    ]
    figure = curves_figure(runs)
    low, high, middle = figure.data
    assert list(middle.x) == [0, 1, 50]
    assert np.isnan(middle.y[0])
    assert middle.y[2] == pytest.approx(0.2)
    assert (low.y[2], high.y[2]) == (pytest.approx(0.15), pytest.approx(0.3))
    assert figure.layout.yaxis.type != "log"


def test_curves_take_a_log_scale_over_decades_and_survive_exact_zeros():
    figure = curves_figure(
        [a_run("a", 0.0, goal=TARGET), a_run("b", 1e-6, goal=TARGET), a_run("c", -1.0, problem="q")]
    )
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.yaxis2.type != "log"
    assert min(figure.data[0].y[1:]) == pytest.approx(1e-7)


def test_curves_without_any_run():
    assert len(curves_figure([refused()]).data) == 0


def test_refused_and_crashed_runs_rank_last_over_all_problems():
    runs = [
        a_run(label, loss, problem=problem, seed=seed)
        for label, loss in (("a", 0.2), ("b", 0.3))
        for problem in "pq"
        for seed in range(2)
    ]
    runs += [a_run("c", 0.1, seed=seed) for seed in range(2)]
    runs += [replace(a_run("c", problem="q", seed=0), status=Status.REFUSED, finds=()),
             replace(a_run("c", 0.1, problem="q", seed=1), status=Status.ERROR)]  # fmt: skip
    overall = comparison_tables(runs)[-1]
    assert overall.caption == "All problems: ranks over 4 paired runs"
    assert {row[0]: row[1] for row in overall.rows} == {"a": 1.5, "b": 2.5, "c": 2.0}
    only_p = [run for run in runs if run.label != "c" or run.problem == "p"]
    assert "c" in comparison_tables(only_p)[-1].notes[-1], (
        "a method without runs on a problem is left out"
    )


# ---------------------------------------------------------------------- the page


def test_the_page_is_one_file_and_escapes_everything(tmp_path):
    run = replace(a_run(NASTY, 0.1, 0.9, 0.01, problem=NASTY), ended=NASTY)
    run = replace(run, finds=(replace(run.finds[0], text=NASTY),))
    broken = replace(a_run("bad"), status=Status.ERROR, ended=NASTY, problem=NASTY)
    picture = png(as_picture(np.ones((2, 2))))
    extra = Table((NASTY,), ((NASTY,),), NASTY, (NASTY,))
    path = write_report(
        tmp_path / "r.html",
        [run, broken],
        title=NASTY,
        paragraphs=[NASTY],
        gallery_png=picture,
        extra_tables=[extra],
    )
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert html.count("<script>alert") == 0
    assert page.links
    assert all(link.startswith("data:") for link in page.links)
    assert NASTY in "".join(page.text)
    assert "viewport" in html
    assert page.tags.count("title") == 1


def test_the_page_holds_the_library_packed_and_each_figure_as_data():
    runs = [
        a_run(label, loss, seed=s)
        for s in range(2)
        for label, loss in ((NASTY, 0.1), ("</script>", 0.2))
    ]
    html = report_html(runs, title="t")
    assert len(html) < 2_500_000
    (packed,) = re.findall('id="plotly">([^<]*)</script>', html)
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()
    curves, profiles = (
        json.loads(data) for data in re.findall('class="figure">([^<]*)</script>', html)
    )
    assert {trace["name"] for trace in curves["data"]} == {
        escape(NASTY, quote=False),
        "&lt;/script&gt;",
    }
    assert curves["data"] == json.loads(curves_figure(runs).to_json())["data"]
    assert len(profiles["data"]) == 8


def test_the_default_paragraph_is_the_honest_one():
    runs = [a_run("gp", 0.1, 0.15), a_run("random", 0.4, 0.45)]
    text = "".join(Page(report_html(runs, title="t")).text)
    assert summary_text(runs) in text


# ---------------------------------------------------------------------- notebooks and text


def some_trials():
    done = Outcome(State.COMPLETED, np.array([0.25]), 0.25, cost=Cost(1))
    better = Outcome(State.COMPLETED, np.array([0.125]), 0.125, cost=Cost(1))
    failed = Outcome(State.FAILED, cost=Cost(1), reason=NASTY)
    made = []
    for number, outcome in enumerate((done, failed, better)):
        attempt = Attempt("w", float(number), number + 0.5, Cost(1), outcome.state)
        query = Query(np.array([0.1, 0.2]), origin=NASTY)
        made.append(Trial(number, query, outcome.state, 0, (attempt,), outcome))
    return [*made, Trial(3, Query(np.array([0.3, 0.4])), State.QUEUED)]


LEDGER = Ledger(values=3, attempts=3, failed=1, seconds=1.5, asking=0.25)


def test_a_study_as_text_and_html():
    text = study_text("mine", "bowl", "gp", some_trials(), LEDGER)
    assert "1 queued, 2 completed, 1 failed" in text
    assert "trial 2" in text
    assert "loss 0.125" in text
    assert "3 values, 1 failed" in text
    html = study_html(NASTY, NASTY, NASTY, some_trials(), LEDGER, np.eye(3))
    page = Page(html)
    assert "script" not in page.tags
    assert {"img", "polyline"} <= set(page.tags)
    assert NASTY in "".join(page.text)


def test_an_empty_study_shows_itself():
    assert "none yet" in study_text("s", "p", "gp", [], Ledger())
    page = Page(study_html("s", "p", "gp", [], Ledger()))
    assert "none yet" in page.text
    assert "img" not in page.tags


def test_trials_show_reasons_designs_and_broken_constraints():
    failed = some_trials()[1]
    assert NASTY in trial_text(failed)
    page = Page(failed._repr_html_())
    assert "script" not in page.tags
    assert NASTY in page.text
    broken = Outcome(State.COMPLETED, np.array([1.0]), 1.0, violation=2.0)
    trial = Trial(0, Query(np.array([0.5])), State.COMPLETED, outcome=broken)
    assert "violates a constraint" in trial_text(trial)
    assert "x = {a: 0.5, b: red}" in trial_text(
        trial.evolved(decode=lambda point: {"a": float(point[0]), "b": "red"})
    )


def test_a_decoder_that_raises_does_not_spoil_the_view():
    def decode(point):
        raise RuntimeError("no GPU")

    assert "point (0.1, 0.2)" in trial_text(some_trials()[0].evolved(decode=decode))


def test_a_comparison_as_html_is_escaped():
    page = Page(comparison_html([a_run(NASTY, 0.1), a_run("b", 0.2)]))
    assert "script" not in page.tags
    assert re.search(re.escape(NASTY), "".join(page.text))
