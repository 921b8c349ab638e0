"""Problems built to have one defect each, and ready ones that have none."""

from __future__ import annotations

import functools
import json
import math
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.problem_doctor.findings import seconds
from bo_invert.problem_doctor.pictures import check_display

BOX = bi.Box([0.0] * 3, [1.0] * 3)


def bowl(x: Any) -> float:
    return float(((np.asarray(x) - 0.3) ** 2).sum())


def problem(oracle: Any, objective: Any = None, **options: Any) -> bi.Problem:
    return bi.Problem(BOX, oracle, objective or bi.Minimize(), **options)


class Torch(torch.nn.Module):
    """A formula as a torch module."""

    def __init__(self, formula: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.formula = formula
        self.register_buffer("unit", torch.ones((), dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.formula(x)


@pytest.fixture(autouse=True)
def _no_models(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Timing an ask takes a second, and says nothing of the defects."""
    if request.function is not test_an_ask_is_timed:
        monkeypatch.setattr("bo_invert.problem_doctor.advice._seconds_to_ask", lambda *_: 0.2)


def noisy(share: float) -> Callable[[Any], float]:
    rng = np.random.default_rng(0)
    return lambda x: (
        bowl(x) + share * 0.25 * rng.standard_normal()
    )  # 0.25 is about the spread of the bowl


def stateful() -> Callable[[Any], float]:
    last = [0.0]

    def oracle(x: Any) -> float:
        value, last[0] = bowl(x) + 0.1 * last[0], float(x[0])
        return value

    return oracle


def warm() -> Callable[[Any], float]:
    """It settles after the first design."""
    settled: list[bool] = []

    def oracle(x: Any) -> float:
        settled.append(True)
        return bowl(x) + 0.1 * (len(settled) == 1)

    return oracle


def drifting() -> Callable[[Any], float]:
    calls: list[int] = []

    def oracle(x: Any) -> float:
        calls.append(1)
        return bowl(x) + 0.01 * len(calls)

    return oracle


def late() -> Callable[[Any], float]:
    """It changes when it has been asked often."""
    calls: list[int] = []

    def oracle(x: Any) -> float:
        calls.append(1)
        return bowl(x) + (len(calls) > 20)

    return oracle


def sometimes_nan(x: Any) -> float:
    return math.nan if x[0] < 0.4 else bowl(x)


def sometimes_infeasible(x: Any) -> float:
    if x[0] < 0.4:
        raise bi.InfeasibleError("no mesh")
    return bowl(x)


def flaky() -> Callable[[Any], float]:
    seen: set[bytes] = set()

    def oracle(x: Any) -> float:
        if x.tobytes() in seen:
            raise RuntimeError("licence server")
        seen.add(x.tobytes())
        return bowl(x)

    return oracle


def slow_to_start() -> Callable[[Any], float]:
    started: list[bool] = []

    def oracle(x: Any) -> float:
        if not started:
            started.append(True)
            time.sleep(0.15)
        return bowl(x)

    return oracle


def remembering() -> Callable[[Any], float]:
    rng = np.random.default_rng(0)

    @functools.cache
    def known(design: tuple[float, ...]) -> float:
        time.sleep(0.01)
        return bowl(design) + rng.standard_normal()

    return lambda x: known(tuple(x))


def of_the_batch(x: Any) -> Any:
    x = np.asarray(x)
    return ((x - x.mean(axis=0)) ** 2).sum(axis=1) + x[:, 0]


def normalised() -> bi.Function:
    norm = torch.nn.BatchNorm1d(3).double()  # in training mode: it refuses a single design
    return bi.Function(lambda x: norm(torch.tensor(np.asarray(x))).sum(1), batched=True)


def rows_reversed(x: Any) -> Any:
    return [bowl(row) for row in x][::-1]


def alone_only(x: Any) -> Any:
    if len(x) > 1:
        raise ValueError("one at a time")
    return [bowl(x[0])]


@pytest.mark.parametrize(
    ("oracle", "code", "severity"),
    [
        (noisy(0.01), "oracle.noisy", "warning"),
        (noisy(0.3), "oracle.noisy", "warning"),
        (noisy(50.0), "oracle.noisy", "error"),
        (stateful(), "oracle.state", "error"),
        (warm(), "oracle.state", "error"),
        (drifting(), "oracle.drift", "error"),
        (late(), "oracle.state", "error"),
        (flaky(), "oracle.flaky", "warning"),
        (sometimes_nan, "oracle.not_finite", "warning"),
        (sometimes_infeasible, "oracle.infeasible", "warning"),
        (lambda x: bowl(x) if x[0] > 0.4 else 1 / 0, "oracle.fails", "warning"),
        (lambda x: 1 / 0, "oracle.never_answers", "error"),
        (lambda x: math.nan, "oracle.never_answers", "error"),
        (lambda x: None, "oracle.misfit", "error"),
        (lambda x: [1.0, 2.0], "oracle.misfit", "error"),
        (lambda x: {"other": 1.0}, "oracle.misfit", "error"),
        (lambda x: 3.0, "oracle.constant", "error"),
        (lambda x: float(x[0] > 0.5), "oracle.plateaus", "warning"),
        (lambda x: math.exp(60 * x[0]), "oracle.heavy_tails", "note"),
        (slow_to_start(), "oracle.first_call", "note"),
        (remembering(), "oracle.remembers", "note"),
        (bi.Function(of_the_batch, batched=True), "oracle.batch_differs", "error"),
        (bi.Function(rows_reversed, batched=True), "oracle.batch_differs", "error"),
        (bi.Function(alone_only, batched=True), "oracle.batch_fails", "warning"),
        (normalised(), "oracle.batch_only", "error"),
    ],
)
def test_finds_the_defect_of_an_oracle(oracle: Any, code: str, severity: str) -> None:
    found = bi.doctor(problem(oracle))
    assert found.find(code) is not None, found
    assert found.find(code).severity == severity
    assert found.hopeless == (severity == "error")
    others = {one.code for one in (*found.of("warning"), *found.of("error"))} - {code}
    assert not others, found


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(context: Any, slope: torch.Tensor) -> torch.Tensor:
        return 2.0 * slope


def torch_bowl(x: torch.Tensor) -> torch.Tensor:
    return ((x - 0.3) ** 2).sum(1)


@pytest.mark.parametrize(
    ("formula", "code"),
    [
        (torch_bowl, "gradient.agrees"),
        (lambda x: torch_bowl(x) + torch.sin(12 * x).sum(1), "gradient.agrees"),
        (lambda x: torch_bowl(_Doubled.apply(x)), "gradient.wrong"),
        (lambda x: torch_bowl(x.detach()), "gradient.none"),
        (lambda x: torch_bowl(x[:, :1]) + torch_bowl(x[:, 1:].detach()), "gradient.wrong"),
        (lambda x: torch.from_numpy(np.array([bowl(row) for row in x.detach()])), "gradient.none"),
        (lambda x: torch_bowl(torch.round(8 * x) / 8), "gradient.zero"),
        (lambda x: torch_bowl(x + (torch.round(8 * x) / 8 - x).detach()), "gradient.wrong"),
    ],
)
def test_compares_a_gradient_with_differences(formula: Any, code: str) -> None:
    found = bi.doctor(problem(Torch(formula)))
    assert found.find(code) is not None, found
    assert found.hopeless == (code not in ("gradient.agrees", "gradient.none"))
    if code != "gradient.agrees":
        assert "advice.gradient" not in found.codes


def test_a_gradient_in_single_precision_is_not_accused() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))
    found = bi.doctor(problem(network, bi.Maximize()))
    assert found.find("gradient.agrees") is not None, found
    assert not found.hopeless


def test_rounding_is_no_slope() -> None:
    """Single precision at 1,000 moves in steps of 6e-5: too coarse to measure a slope of 0.01."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    with torch.no_grad():
        network[2].weight *= 0.03
        network[2].bias += 1000.0
    found = bi.doctor(problem(network, bi.Maximize()))
    assert found.find("gradient.unchecked") is not None, found
    assert not found.hopeless


def test_a_gradient_of_a_penalised_loss_agrees() -> None:
    formula = Torch(lambda x: torch.stack([torch_bowl(x), x.sum(1)], dim=1))
    asked = bi.Problem(BOX, formula, bi.Minimize("a"), outputs=["a", "b"], constraints=["b >= 2"])
    assert bi.doctor(asked).find("gradient.agrees") is not None


def latent(decoder: Any, **options: Any) -> bi.Problem:
    oracle = options.pop("oracle", lambda x: float(np.sum(np.asarray(x, dtype=float))))
    return bi.Problem(bi.Latent(decoder, dim=3, **options), oracle, bi.Maximize())


def dropout() -> Callable[[Any], Any]:
    rng = np.random.default_rng(0)
    return lambda z: z * (rng.random(z.shape) > 0.3)


def chains(z: Any) -> list[str]:
    return ["C" * (1 + int(abs(row[0]))) for row in z]


def fails_far_out(z: Any) -> Any:
    if (np.abs(z) > 1.7).any():
        raise RuntimeError("no valid structure")
    return 2.0 * z


@pytest.mark.parametrize(
    ("made", "code", "severity"),
    [
        (lambda: latent(lambda z: np.round(z[:, :1])), "space.duplicates", "warning"),
        (lambda: latent(chains, oracle=len), "space.duplicates", "warning"),
        (lambda: latent(lambda z: np.ones((len(z), 4))), "space.collapsed", "error"),
        (lambda: latent(dropout()), "space.decode_unsteady", "error"),
        (lambda: latent(lambda z: z - z.mean(axis=0)), "space.decode_batch", "error"),
        (lambda: latent(fails_far_out), "space.decode_fails", "warning"),
        (lambda: latent(lambda z: 2 * z, encoder=np.zeros_like), "space.round_trip", "warning"),
        (lambda: latent(lambda z: 2 * z), "space.assumed", "note"),
        (lambda: latent(chains, oracle=len), "space.no_way_back", "note"),
        (
            lambda: bi.Problem(bi.Box([0.0] * 60, [1.0] * 60), bowl, bi.Minimize()),
            "space.many_parameters",
            "warning",
        ),
        (
            lambda: bi.Problem(
                bi.Box({"a": bi.Int(1, 4), "b": bi.Choice("u", "v")}),
                lambda x: x["a"],
                bi.Minimize(),
            ),
            "space.finite",
            "note",
        ),
    ],
)  # fmt: skip
def test_finds_the_defect_of_a_space(
    made: Callable[[], bi.Problem], code: str, severity: str
) -> None:
    found = bi.doctor(made())
    assert found.find(code) is not None, found
    assert found.find(code).severity == severity


def test_a_target_out_of_reach_and_one_within() -> None:
    assert (
        bi.doctor(problem(bowl, bi.Target(-40.0))).find("target.out_of_range").severity == "warning"
    )
    assert bi.doctor(problem(bowl, bi.Target(0.4))).find("target.in_range").severity == "ok"
    assert (
        bi.doctor(problem(noisy(0.3), bi.Target(0.4, tolerance=1e-3))).find("target.noise")
        is not None
    )
    unequal = problem(lambda x: [bowl(x), 1e5 * x[0]], bi.Target([0.3, 5e4]))
    assert bi.doctor(unequal).find("target.scales") is not None


def test_constraints_and_judges() -> None:
    def both(x: Any) -> dict[str, float]:
        return {"a": bowl(x), "b": float(x[0])}

    rare = problem(both, bi.Minimize("a"), constraints=["b >= 2"])
    assert bi.doctor(rare).find("constraints.rare").severity == "warning"
    easy = problem(both, bi.Minimize("a"), constraints=["b >= 0.5"])
    assert bi.doctor(easy).find("constraints.feasible").severity == "ok"
    broken = bi.doctor(problem(bowl, judge=lambda x: None))
    assert broken.find("judge.fails").severity == "warning"
    assert broken.judged == 2
    assert bi.doctor(problem(bowl, judge=bowl)).find("judge.same").severity == "warning"
    assert (
        bi.doctor(problem(bowl, judge=lambda x: bowl(x) + 1)).find("judge.works").severity == "ok"
    )
    assert bi.doctor(problem(bowl, draw=lambda x: 1.0)).find("draw.fails").severity == "warning"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["digits", "arm", "sine", "hartmann6", "mixed", "shell", "branin25", "rosenbrock8"]
)
def test_does_not_cry_wolf(name: str) -> None:
    found = bi.doctor(bi.ready_problem(name))
    assert not found.of("warning"), found
    assert not found.hopeless, found
    assert found.finished
    expected = {"digits": {"auto", "cmaes"}, "mixed": {"cmaes"}, "shell": {"auto", "cmaes"}}.get(
        name, {"gradient"}
    )
    assert {one.code.removeprefix("advice.") for one in found.advice} <= expected | {"keep"}


@pytest.mark.parametrize("calls", [1, 2, 3, 4, 5, 6, 7, 9, 12, 17, 30])
@pytest.mark.parametrize("kind", ["plain", "noisy", "gradient", "batched", "breaks in a batch"])
def test_never_calls_more_often_than_allowed(calls: int, kind: str) -> None:
    made: list[int] = []
    inner = noisy(0.1) if kind == "noisy" else bowl

    def counted(x: Any) -> Any:
        made.append(1)
        return inner(x)

    def batch(x: Any) -> Any:
        made.extend([1] * len(x))
        if kind == "breaks in a batch" and len(x) > 1:
            raise ValueError
        return [bowl(row) for row in x]

    def formula(x: torch.Tensor) -> torch.Tensor:
        made.extend([1] * (2 if x.requires_grad else 1) * len(x))
        return torch_bowl(x)

    oracle = {"gradient": Torch(formula), "plain": counted, "noisy": counted}.get(
        kind, bi.Function(batch, batched=True)
    )
    found = bi.doctor(problem(oracle), calls=calls)
    assert found.calls == len(made) <= calls
    assert found.limit == calls
    if kind in ("plain", "noisy"):
        assert found.calls == calls


def test_few_calls_do_for_the_most_important_things() -> None:
    assert "oracle.noisy" in bi.doctor(problem(noisy(0.1)), calls=5).codes
    assert "oracle.misfit" in bi.doctor(problem(lambda x: None), calls=5).codes
    assert "gradient.present" in bi.doctor(problem(Torch(torch_bowl)), calls=5).codes
    assert (
        bi.doctor(problem(lambda x: None), calls=30).calls <= 3
    )  # it stops where nothing can help


def test_a_hang_is_news() -> None:
    let_go = threading.Event()

    def hangs(x: Any) -> float:
        if x[0] < 0.4:
            let_go.wait(30)
        return bowl(x)

    found = bi.doctor(problem(hangs), timeout=0.2)
    let_go.set()
    assert found.find("oracle.hangs").severity == "error"
    assert not found.finished
    assert found.calls >= 1


def test_an_interruption_tells_what_was_learnt() -> None:
    calls: list[int] = []

    def interrupted(x: Any) -> float:
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return bowl(x)

    found = bi.doctor(problem(interrupted))
    assert found.interrupted
    assert not found.finished
    assert found.find("oracle.answers") is not None


@pytest.mark.parametrize(
    "oracle",
    [bowl, noisy(0.1), sometimes_nan, Torch(torch_bowl)],
    ids=["exact", "noisy", "nan", "torch"],
)
def test_a_study_keeps_the_answers_and_is_billed(oracle: Any) -> None:
    asked = problem(oracle)
    study = bi.Study.create("s", asked)
    found = bi.doctor(asked, calls=20, study=study)
    assert study.spent.calls == study.history.calls == found.calls == 20
    assert study.history.noise_observed == ("oracle.noisy" in found.codes)
    assert all(np.isfinite(trial.y).all() for trial in study.history.completed)
    apart = np.linalg.norm(study.history.points[:, None] - study.history.points[None], axis=-1)
    apart[np.tril_indices(len(apart))] = 1.0
    assert ((apart == 0.0) | (apart > 0.01)).all()  # no points of finite differences
    study.run(budget=24)
    assert study.spent.calls == 24
    with pytest.raises(bi.InvalidInputError, match="another problem"):
        bi.doctor(problem(bowl, bi.Maximize()), study=study)


def test_an_ask_is_timed() -> None:
    """The doctor times an ask of the recommended strategy."""
    found = bi.doctor(problem(bowl))
    asking = found.advice[0].numbers["asking"]
    assert 0.0 < asking < 60.0
    assert seconds(asking) in found.advice[0].message


def test_advice() -> None:
    def advice(oracle: Any, **options: Any) -> tuple[str, ...]:
        return tuple(one.code for one in bi.doctor(problem(oracle, **options)).advice)

    def slow(x: Any) -> float:
        time.sleep(0.03)
        return bowl(x)

    def slow_formula(x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.12)
        return torch_bowl(x)

    assert advice(bowl) == ("advice.cmaes",)
    assert advice(Torch(torch_bowl)) == ("advice.gradient",)
    assert advice(slow) == ("advice.auto",)
    assert advice(Torch(slow_formula)) == ("advice.auto",)
    assert advice(noisy(0.1)) == ("advice.auto",)
    assert advice(sometimes_nan) == ("advice.cmaes", "advice.failures")
    targeted = bi.doctor(problem(slow, bi.Target(0.4)))
    assert targeted.find("advice.auto").numbers["would_choose"] == "gp"
    few = bi.Problem(
        bi.Box({"a": bi.Int(1, 4), "b": bi.Choice("u", "v")}), lambda x: x["a"], bi.Minimize()
    )
    assert bi.doctor(few).advice[0].numbers["designs"] == 8


def test_without_an_oracle_the_space_is_looked_at() -> None:
    found = bi.doctor(problem(None))
    assert found.calls == 0
    assert {"space.designs", "oracle.missing"} <= set(found.codes)


def test_the_report_has_three_faces() -> None:
    name = "<i>\x1b[2J"
    found = bi.doctor(problem(lambda x: 1 / 0, name=name))
    assert "oracle.never_answers" in repr(found)
    assert "\x1b" not in repr(found)
    assert "<i>" not in found._repr_html_()
    received = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert received["hopeless"] is True
    assert {"code", "severity", "message", "remedy", "numbers"} == set(received["findings"][0])
    assert received["provenance"]["packages"]["numpy"] == np.__version__


def test_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from bo_invert.cli import main as cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "looked_at.py").write_text(
        "import bo_invert as bi\n"
        "space = bi.Box([0.0], [1.0])\n"
        "problem = bi.Problem(space, lambda x: float(x[0]), bi.Minimize())\n"
        "broken = bi.Problem(space, lambda x: None, bi.Minimize())\n"
    )

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["bo-invert", *arguments])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        return code, capsys.readouterr().out

    code, out = call("doctor", "looked_at.py", "--calls", "6", "--json", "--quiet")
    assert code == 0
    assert json.loads(out)["calls"] == 6
    code, out = call("doctor", "looked_at.py:broken", "--quiet")
    assert code == 1
    assert "oracle.misfit" in out
    assert call("doctor", "looked_at.py", "--study", "s")[0] == 2
    storage = ("--storage", "sqlite:///runs.db")
    assert (
        call("doctor", "looked_at.py", "--calls", "6", "--study", "s", *storage, "--quiet")[0] == 0
    )
    assert call("run", "looked_at.py", "--name", "s", *storage, "--budget", "8", "--quiet")[0] == 0
    code, out = call("show", "s", *storage)
    assert "made with" in out
    assert "source of <lambda>" in out
    sys.modules.pop("looked_at", None)


@pytest.mark.parametrize(
    ("value", "text"),
    [(2e-5, "20 µs"), (0.00312, "3.1 ms"), (2.1, "2.1 s"), (100.4, "100 s"), (600.0, "10 min"),
     (9000.0, "2.5 h"), (864_000.0, "10 days"), (0.0, "0 µs")],
)  # fmt: skip
def test_times_as_people_say_them(value: float, text: str) -> None:
    assert seconds(value) == text


def test_the_page_explains_every_finding() -> None:
    root = Path(bi.__file__).parent
    kinds = r"space|oracle|gradient|target|constraints|judge|doctor|advice"
    sources = "".join(path.read_text() for path in (root / "problem_doctor").glob("*.py"))
    codes = set(re.findall(rf'"((?:{kinds})\.[a-z_]+)"', sources))
    page = (root.parent / "docs" / "doctor.md").read_text()
    documented = set(re.findall(rf"`((?:{kinds})\.[a-z_]+)`", page))
    assert len(codes) > 60
    assert codes == documented
    assert {"draw.fails", "plausibility.fails"} <= set(re.findall(r"`([a-z]+\.fails)`", page))


@pytest.mark.parametrize(
    ("scale", "offset", "code", "text"),
    [
        (1.0, 0.0, "draw.images", "8x8 pixels, with values from 0 to 1"),
        (255.0, 0.0, "draw.images", "from 0 to 255"),
        (1e-3, 0.5, "draw.blank", "look blank"),
    ],
)
def test_pictures_that_are_drawn_without_a_function_are_checked(
    scale: float, offset: float, code: str, text: str
) -> None:
    def decode(z: np.ndarray) -> np.ndarray:
        grid = np.linspace(0, 1, 64)
        images = 1.0 / (1.0 + np.exp(z[:, :1] * 9 * (grid - 0.5)))
        return (offset + scale * images).reshape(-1, 8, 8)

    checked = bi.doctor(bi.Problem(bi.Latent(decode, 2), lambda x: float(x.sum()), bi.Minimize()))
    found = {one.code: one for one in checked.findings if one.code.startswith("draw.")}
    assert list(found) == [code]
    assert text in found[code].message


def test_images_that_are_not_finite_are_reported() -> None:
    images = [np.full((8, 8), value) + np.eye(8) / 9 for value in (0.1, 0.5, math.nan)]
    (found,) = check_display(bi.ready_problem("hartmann6"), images)
    assert (found.code, found.message) == (
        "draw.missing", "1 of 3 images are not finite and not drawn",
    )  # fmt: skip
    assert check_display(bi.ready_problem("hartmann6"), [np.ones(3)]) == []


def test_recorded_trials_replace_calls() -> None:
    calls: list[float] = []

    def oracle(x: np.ndarray) -> float:
        calls.append(float(x[0]))
        return float(x.sum())

    problem = bi.Problem(bi.Box([0.0, 0.0], [1.0, 1.0]), oracle, bi.Minimize())
    study = bi.Study.create("recorded", problem, "random").run(25)
    study.add(points=[study.trials[0].point], Y=[study.trials[0].y])
    before, trials = len(calls), len(study.trials)
    report = bi.doctor(problem, 0, study=study)
    assert (len(calls), len(study.trials), report.calls) == (before, trials, 0)
    codes = {finding.code for finding in report.findings}
    assert {"study.recorded", "oracle.exact", "oracle.answers", "oracle.moves"} <= codes
    noisy = bi.Study.create("noisy", problem, "random").run(10)
    for trial in noisy.trials[:5]:
        noisy.add(points=[trial.point], Y=[trial.y + 0.5 - trial.number / 5.0])
    report = bi.doctor(problem, 0, study=noisy)
    assert "oracle.noisy" in {finding.code for finding in report.findings}
    few = bi.Study.create("few", problem, "random").run(1)
    bi.doctor(problem, 8, study=few)
    assert 1 < few.spent.calls <= 9
    with pytest.raises(bi.InvalidInputError, match="calls"):
        bi.doctor(problem, 0)
