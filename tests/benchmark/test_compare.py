import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.benchmark.compare import Comparison, run_one, summarize
from bo_invert.report.runs import Run, Status, as_picture
from bo_invert.report.statistical_tests import (
    block_ranks,
    holm,
    quantile,
    rank,
    spread,
    wilcoxon,
)
from bo_invert.storage.memory import MemoryStore
from bo_invert.strategies.base import Proposal, Strategy
from bo_invert.strategies.sampling import Random


def bowl(x):
    return float(((np.asarray(x) - 0.3) ** 2).sum())


def bowl_problem(name="bowl", **options):
    return bi.Problem(bi.Box([0, 0], [1, 1]), bowl, bi.Minimize(), name=name, **options)


def shifted(seed):
    return bi.Problem(
        bi.Box([0, 0], [1, 1]),
        lambda x: float(x[0] + x[1]),
        bi.Target(0.1 * seed + 0.5),
        name="ignored",
    )


@dataclass(frozen=True)
class Refuses(Strategy):
    name = "random"  # so that the log can be read again

    def check(self, statement):
        raise bi.UnsuitableStrategyError("strategy 'refuses' cannot do this; take another")

    def ask(self, statement, trials, request):
        return Proposal(())


# ---------------------------------------------------------------------- compare


def test_every_method_gets_the_same_budget_and_pairs_of_seeds():
    comparison = bi.compare(bowl_problem(), ["random", "sobol", "prior"], budget=12, seeds=range(3))
    assert len(comparison.runs) == 9
    assert {run.bill.calls for run in comparison.runs} == {12}
    assert {(run.label, run.seed) for run in comparison.runs} == {
        (m, s) for m in ("random", "sobol", "prior") for s in range(3)
    }
    for run in comparison.runs:
        assert run.losses[-1] == run.loss
        assert run.calls[-1] == 12
        assert run.ended == "budget spent"


def test_the_run_is_the_study():
    problem = bowl_problem()
    run = bi.compare(problem, ["sobol"], budget=10, seeds=[7]).runs[0]
    study = bi.Study.create("s", problem, "sobol", seed=7).run(10)
    assert run.loss == study.best.loss
    np.testing.assert_array_equal(run.best.point, study.best.point)
    assert run.best.number == study.best.number


def test_each_seed_may_be_another_target():
    runs = bi.compare({"sum": shifted}, ["random"], budget=5, seeds=[0, 3]).runs
    assert [run.goal["value"] for run in runs] == [[0.5], [0.8]]
    assert {run.problem for run in runs} == {"sum"}


def test_a_method_may_work_in_a_space_of_its_own():
    narrow = bi.Problem(bi.Box([0.25, 0.25], [0.35, 0.35]), bowl, bi.Minimize(), name="narrow")
    runs = bi.compare(
        bowl_problem(), {"wide": "random", "narrow": (narrow, "random")}, budget=8, seeds=[0]
    ).runs
    assert [run.problem for run in runs] == ["bowl", "bowl"]
    assert runs[1].loss < 0.006 < runs[0].start


def test_own_problems_by_name_only_replace_those():
    narrow = bi.Problem(bi.Box([0.25, 0.25], [0.35, 0.35]), bowl, bi.Minimize())
    runs = bi.compare(
        [bowl_problem("a"), bowl_problem("b")], {"m": ({"b": narrow}, "sobol")}, budget=8, seeds=[0]
    ).runs
    assert runs[0].losses.max(initial=0, where=np.isfinite(runs[0].losses)) > 0.006
    assert runs[1].losses.max(initial=0, where=np.isfinite(runs[1].losses)) < 0.006


def test_refusal_is_a_row_with_its_sentence_and_not_an_error():
    comparison = bi.compare(
        bowl_problem(), {"no": Refuses(), "yes": "random"}, budget=5, seeds=range(2)
    )
    refused = [run for run in comparison.runs if run.label == "no"]
    assert {run.status for run in refused} == {Status.REFUSED}
    assert "refused" in comparison.table()
    assert "strategy 'refuses' cannot do this; take another" in comparison.table()


def test_one_broken_run_does_not_lose_the_others():
    def fragile(seed):
        if seed == 1:
            raise RuntimeError("no such data")
        return bowl_problem()

    comparison = bi.compare({"p": fragile}, ["random"], budget=5, seeds=range(3))
    assert [run.status for run in comparison.runs] == ["finished", "error", "finished"]
    assert "RuntimeError: no such data" in comparison.runs[1].ended
    assert "no such data" in comparison.table()
    with pytest.raises(RuntimeError, match="no such data"):
        bi.compare({"p": fragile}, ["random"], budget=5, seeds=range(3), raise_errors=True)


def test_a_strategy_that_breaks_down_keeps_its_bill(monkeypatch):
    asked = []
    original = Random.ask

    def ask(self, statement, trials, request):
        asked.append(1)
        if len(asked) > 4:
            raise ZeroDivisionError("nothing to divide")
        return original(self, statement, trials, request)

    monkeypatch.setattr(Random, "ask", ask)
    run = run_one("m", bowl_problem(), "random", 10)
    assert run.status is Status.ERROR
    assert run.bill.values == 4
    assert math.isfinite(run.loss)
    assert "ZeroDivisionError" in run.ended


@pytest.mark.filterwarnings("ignore:study ")
def test_failing_oracle_is_billed_and_leaves_no_find():
    def broken(x):
        raise OSError("disk full")

    problem = bi.Problem(bi.Box([0], [1]), broken, bi.Minimize(), name="broken")
    comparison = bi.compare(problem, ["random", "sobol"], budget=4, seeds=[0, 1])
    for run in comparison.runs:
        assert (run.bill.values, run.bill.failed, run.finds, run.loss) == (4, 4, (), math.inf)
    assert "none feasible" in comparison.table()
    assert "No method found a feasible design" in comparison.summary()
    assert "16 attempts without outputs" in comparison.summary()


def test_infeasible_designs_are_not_claimed():
    problem = bi.Problem(
        bi.Box([0], [1]),
        lambda x: {"y": x[0], "c": 0.0},
        bi.Minimize("y"),
        constraints=["c >= 1"],
        outputs=["y", "c"],
    )
    run = run_one("m", problem, "random", 5)
    assert run.best is None
    assert run.loss == math.inf
    assert not run.finds[0].feasible


def test_judge_realism_and_picture_are_recorded_and_free():
    calls = []

    def judge(x):
        calls.append(1)
        return bowl(x) + 1.0

    problem = bowl_problem(
        judge=judge,
        draw=lambda x: np.full((4, 4), x[0]),
        plausibility=lambda designs: np.full(len(designs), 0.25),
    )
    run = run_one("m", problem, "random", 9, keep=3)
    assert run.bill.values == 9
    assert len(run.finds) == len(calls) == 3
    for find in run.finds:
        assert find.judged == pytest.approx(find.loss + 1.0)
        assert find.plausibility == 0.25
        assert find.picture.shape == (4, 4)
    losses = [find.loss for find in run.finds]
    assert losses == sorted(losses)


def test_reported_designs_differ():
    study = bi.Study.create("s", bowl_problem(), "random")
    study.add(
        points=[[0.1, 0.1], [0.3, 0.3], [0.3, 0.3], [0.2, 0.2]], Y=[[0.08], [0.0], [0.0], [0.02]]
    )
    run = summarize(study, keep=3)
    assert [find.loss for find in run.finds] == [0.0, 0.02, 0.08]


def test_hits_are_counted_and_runs_continue_by_default():
    problem = bi.Problem(
        bi.Box([0], [1]), lambda x: x[0], bi.Target(0.5, tolerance=0.2), name="near"
    )
    full = run_one("m", problem, "sobol", 20)
    short = run_one("m", problem, "sobol", 20, stop_when_hit=True)
    assert full.best.hit
    assert full.bill.values == 20
    assert short.bill.values < 20
    assert short.ended == "target hit"


def test_a_stored_comparison_resumes():
    store = MemoryStore()
    calls = []

    def counted(x):
        calls.append(1)
        return bowl(x)

    problem = bi.Problem(bi.Box([0, 0], [1, 1]), counted, bi.Minimize(), name="bowl")
    first = bi.compare(problem, ["random"], budget=5, seeds=[0, 1], storage=store)
    again = bi.compare(problem, ["random"], budget=5, seeds=[0, 1], storage=store)
    longer = bi.compare(problem, ["random"], budget=8, seeds=[0, 1], storage=store)
    assert len(calls) == 16
    assert [run.loss for run in first.runs] == [run.loss for run in again.runs]
    assert [run.bill.values for run in longer.runs] == [8, 8]


def test_a_label_cannot_mean_two_strategies_in_one_storage():
    store = MemoryStore()
    bi.compare(bowl_problem(), {"m": "random"}, budget=3, seeds=[0], storage=store)
    run = bi.compare(bowl_problem(), {"m": "sobol"}, budget=3, seeds=[0], storage=store).runs[0]
    assert run.status is Status.ERROR
    assert "the strategy must be {'name': 'random'" in run.ended


@pytest.mark.slow
@pytest.mark.parametrize("storage", [None, MemoryStore()], ids=["processes", "threads"])
def test_parallel_runs_are_the_same_runs(storage):
    offset = 0.3
    problem = bi.Problem(
        bi.Box([0], [1]), lambda x: (x[0] - offset) ** 2, bi.Minimize(), name="local"
    )
    alone = bi.compare(problem, ["random", "sobol"], budget=6, seeds=range(2))
    together = bi.compare(
        problem, ["random", "sobol"], budget=6, seeds=range(2), jobs=2, storage=storage
    )
    assert [(r.label, r.seed, r.loss) for r in alone.runs] == [
        (r.label, r.seed, r.loss) for r in together.runs
    ]


def test_a_dying_worker_process_is_recorded():
    def deadly(seed):
        import os

        os._exit(3)

    runs = bi.compare({"deadly": deadly}, ["random"], budget=3, seeds=[0], jobs=2).runs
    assert runs[0].status is Status.ERROR
    assert "worker process" in runs[0].ended


def test_slips_are_refused_before_anything_runs():
    problem = bowl_problem(name="once")
    for arguments, message in [
        ({"strategies": ["random", "random"]}, "strategies must differ"),
        ({"strategies": ["rendom"]}, "random"),
        ({"strategies": []}, "at least one strategy"),
        ({"problems": []}, "at least one problem"),
        ({"problems": [problem, problem]}, "names of problems must differ"),
        ({"problems": [shifted]}, "must have a name"),
        ({"problems": {"p": 3}}, "must be a Problem"),
        ({"budget": 0}, "budget"),
        ({"jobs": True}, "jobs"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"strategies": {"m": ({"other": problem}, "random")}}, "other"),
    ]:
        with pytest.raises(bi.InvalidInputError, match=message):
            bi.compare(
                **{
                    "problems": problem,
                    "strategies": ["random"],
                    "budget": 3,
                    "seeds": [0],
                    **arguments,
                }
            )


def test_saved_comparison_comes_back(tmp_path):
    problem = bowl_problem(draw=lambda x: np.outer(x, x), judge=lambda x: bowl(x) + 0.1)
    comparison = bi.compare(problem, {"a": "random", "no": Refuses()}, budget=6, seeds=range(2))
    folder = comparison.save(tmp_path / "deep" / "dir")
    assert {path.name for path in folder.iterdir()} == {
        "comparison.json",
        "table.md",
        "report.html",
    }
    back = bi.Comparison.load(folder)
    assert [run.to_json() for run in back.runs] == [run.to_json() for run in comparison.runs]
    assert back.table() == comparison.table()
    np.testing.assert_array_equal(back.runs[0].best.picture, comparison.runs[0].best.picture)
    json.loads(
        (folder / "comparison.json").read_text(), parse_constant=lambda name: pytest.fail(name)
    )


def test_what_is_no_comparison_is_refused(tmp_path):
    with pytest.raises(bi.InvalidInputError, match=r"comparison\.json"):
        bi.Comparison.load(tmp_path)
    (tmp_path / "comparison.json").write_text(
        '{"format": "bo_invert.comparison", "version": 99, "runs": []}'
    )
    with pytest.raises(bi.InvalidInputError, match="newer"):
        bi.Comparison.load(tmp_path)


def test_records_and_dataframe():
    comparison = bi.compare(bowl_problem(), ["random", "sobol"], budget=4, seeds=range(2))
    frame = comparison.to_dataframe()
    assert len(frame) == 4
    assert {"problem", "method", "seed", "loss", "values", "gradients", "asking"} <= set(
        frame.columns
    )
    json.dumps(comparison.records(), allow_nan=False)


def test_a_run_survives_json_with_infinite_losses():
    run = Run(
        "m",
        "p",
        0,
        {"name": "x"},
        5,
        {},
        np.array([0, 1, 2]),
        np.array([np.inf, np.inf, 0.1 + 0.2]),
    )
    back = Run.from_json(json.loads(json.dumps(run.to_json(), allow_nan=False)))
    np.testing.assert_array_equal(back.losses, run.losses)
    np.testing.assert_array_equal(
        back.loss_at([0, 1, 2, 9]), [np.inf, np.inf, 0.1 + 0.2, 0.1 + 0.2]
    )
    assert back.start == 0.1 + 0.2


def test_pictures_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="shape"):
        as_picture(np.zeros(5))
    assert as_picture([[0.0, 1.0, 2.0, math.nan]]).tolist() == [[0, 255, 255, 0]]


# ---------------------------------------------------------------------- statistics


def test_spread_counts_infinite_values_and_skips_missing_ones():
    assert spread([]) is None
    assert spread([None, math.nan]) is None
    assert spread([3.0, 1.0, 2.0, None])[:4] == (2.0, 1.5, 2.5, 3)
    assert spread([1.0, math.inf, math.inf]).median == math.inf
    assert spread([math.inf, math.inf])[:3] == (math.inf, math.inf, math.inf)


def test_quantile_is_numpy_s():
    values = sorted(np.random.default_rng(0).normal(size=11))
    for share in (0.0, 0.1, 0.25, 0.5, 0.9, 1.0):
        assert quantile(values, share) == pytest.approx(np.quantile(values, share))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_ranks_share_ties():
    scores = [[1.0, 2.0, 2.0], [math.inf, 0.0, math.inf]]
    assert block_ranks(scores).tolist() == [[1.0, 2.5, 2.5], [2.5, 1.0, 2.5]]
    assert [mean for mean, _ in rank(scores)] == [1.75, 1.75, 2.5]


def test_wilcoxon_is_exact_for_few_pairs_and_knows_infinity():
    assert wilcoxon([1, 2, 3, 4, 5, 6], [0] * 6) == pytest.approx(2 / 64)
    assert wilcoxon([1.0, 2.0], [1.0, 2.0]) == 1.0
    assert wilcoxon([math.inf] * 3, [math.inf] * 3) == 1.0
    assert wilcoxon([math.inf] * 6, [1, 2, 3, 4, 5, 6.0]) == pytest.approx(2 / 64)


def test_rank_tests_against_the_best():
    rng = np.random.default_rng(0)
    base = rng.random(10)
    scores = np.stack([base + 1, base, base + rng.normal(0, 1e-3, 10)], axis=1)
    ranks, p_values = zip(*rank(scores), strict=True)
    assert ranks[0] == 3.0
    best = int(np.argmin(ranks))
    assert best in (1, 2)
    assert p_values[best] is None
    assert p_values[0] == pytest.approx(2 * 2 / 1024)
    assert p_values[3 - best] > 0.05


def test_a_comparison_of_commit_97e0e3f_loads(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden"
    loaded = Comparison.load(golden)
    assert [(run.label, run.seed) for run in loaded.runs] == [
        ("random", 0), ("sobol", 0), ("random", 1), ("sobol", 1),
    ]  # fmt: skip
    assert [run.bill.calls for run in loaded.runs] == [6] * 4
    loaded.save(tmp_path)
    stored = json.loads((golden / "comparison.json").read_text())
    assert json.loads((tmp_path / "comparison.json").read_text()) == stored
