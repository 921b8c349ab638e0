import pickle
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import bo_invert as bi
from bo_invert.errors import InvalidInputError, MissingExtraError
from bo_invert.types import Descent, Query, State

pytest.importorskip("neuralfoil")
pytest.importorskip("aerosandbox")

import aerosandbox
import neuralfoil

from bo_invert.problems.examples import airfoil
from bo_invert.problems.examples.airfoil_networks import SIZES, NeuralFoil
from bo_invert.problems.examples.airfoil_shapes import (
    CROSSING,
    STATIONS,
    crossing,
    database,
    draw,
    surfaces,
    thickness,
)
from bo_invert.problems.examples.airfoil_spaces import (
    THICKEST,
    Modes,
    _parts,
    latent,
    real_looking,
    wings,
)

SPACES = ("latent", "modes", "box", "database")


@pytest.fixture(scope="module")
def real():
    return database()


def shaken(real, n=30):
    """Real airfoils, each a little off."""
    noise = np.random.default_rng(0).standard_normal((n, 18))
    return real.designs[:: len(real.designs) // n][:n] + 0.2 * noise * real.designs.std(axis=0)


def asked(designs, size, alpha, reynolds):
    """Compute the outputs of the package ``neuralfoil`` in the order of ``OUTPUTS``."""
    numbers = {"upper_weights": designs[:, :8].T, "lower_weights": designs[:, 8:16].T,
               "leading_edge_weight": designs[:, 16], "TE_thickness": designs[:, 17]}  # fmt: skip
    outputs = neuralfoil.get_aero_from_kulfan_parameters(numbers, alpha, reynolds, model_size=size)
    lift, drag, trust = outputs["CL"], outputs["CD"], outputs["analysis_confidence"]
    return np.stack([lift / drag, lift, drag, outputs["CM"], trust, lift / drag * trust], axis=1)


# ---------------------------------------------------------------------- the networks


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("alpha", "reynolds"), [(4.0, 1e6), (-3.0, 2e5)])
def test_the_networks_answer_as_neuralfoil_does(real, size, alpha, reynolds):
    designs = shaken(real)
    mine = NeuralFoil(size, alpha, reynolds)(torch.as_tensor(designs)).numpy()
    assert_allclose(mine, asked(designs, size, alpha, reynolds), rtol=1e-6, atol=1e-9)


def test_they_have_gradients(real):
    network = NeuralFoil("xxsmall")
    designs = torch.as_tensor(real.designs[:1].copy()).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: network(x)[:, 1:5], designs, atol=1e-5)


def test_an_airfoil_upside_down_lifts_downwards(real):
    upright = torch.as_tensor(shaken(real))
    turned = torch.cat(
        [-upright[:, 8:16], -upright[:, :8], -upright[:, 16:17], upright[:, 17:]], dim=1
    )
    one, other = NeuralFoil("small", 3.0)(upright), NeuralFoil("small", -3.0)(turned)
    assert_allclose(one[:, 1], -other[:, 1], atol=1e-9)
    assert_allclose(one[:, 2], other[:, 2], rtol=1e-9)


def test_an_answer_out_of_all_bounds_is_a_failure_and_no_record():
    space = bi.Box([-300.0] * 18, [300.0] * 18)
    oracle = bi.TorchModule(NeuralFoil("medium"), airfoil.OUTPUTS)
    problem = bi.Problem(space, oracle, bi.Maximize("L/D"))
    outcomes = problem.evaluate(
        [Query(point) for point in np.random.default_rng(0).random((20, 18))]
    )
    assert {outcome.state for outcome in outcomes} <= {State.COMPLETED, State.FAILED}
    assert any("not finite" in outcome.reason for outcome in outcomes if outcome.reason)


# ---------------------------------------------------------------------- the shapes


def test_every_airfoil_is_there_and_fits(real):
    assert len(real.names) == len(real.designs) == 2174
    assert np.isfinite(real.designs).all()
    assert real.errors.max() < 0.0034
    assert np.median(real.errors) < 2e-4
    assert crossing(real.designs).max() < CROSSING


def test_surfaces_are_those_of_aerosandbox(real):
    design = real.designs[real.names.index("fx76mp120")]
    shape = aerosandbox.KulfanAirfoil(
        "x",
        lower_weights=design[8:16],
        upper_weights=design[:8],
        leading_edge_weight=design[16],
        TE_thickness=design[17],
    )
    coordinates = shape.coordinates
    upper, lower = surfaces(design[None])[0]
    fronts = coordinates[: len(coordinates) // 2 + 1][::-1]
    assert_allclose(np.interp(fronts[20:-1, 0], STATIONS, upper), fronts[20:-1, 1], atol=2e-4)
    assert thickness(design[None])[0] == pytest.approx(float(shape.max_thickness()), abs=1e-3)
    assert (upper >= lower).all()


def test_the_nearest_real_airfoil_of_one_is_itself(real):
    assert real.nearest(real.designs[[5, 700, 2000]]) == [5, 700, 2000]


def test_surfaces_refuse_other_shapes():
    with pytest.raises(InvalidInputError, match=r"shape \(n, 18\)"):
        surfaces(np.zeros((3, 17)))


def test_a_picture_shows_the_airfoil_and_where_it_cannot_be_built(real):
    sound = draw(real.designs[real.names.index("naca2412")])
    assert sound.shape == (72, 180, 3)
    assert sound.min() >= 0.0
    assert sound.max() <= 1.0
    red = sound[..., 0] - sound[..., 2] > 0.5
    assert not red.any()
    assert 0.05 < (sound[..., 0] < 0.5).mean() < 0.3
    crossed = np.concatenate([-np.full(8, 0.1), np.full(8, 0.1), [0.0, 0.0]])
    drawn = draw(crossed)
    assert (drawn[..., 0] - drawn[..., 2] > 0.5).any()
    assert crossing(crossed[None])[0] > 0.05


# ---------------------------------------------------------------------- the spaces


def test_modes_there_and_back(real):
    modes = Modes(wings(), 9)
    codes = torch.as_tensor(np.random.default_rng(0).standard_normal((50, 9)))
    designs = modes(codes)
    free = designs[:, -1] > 0  # where the trailing edge was not closed, nothing was lost
    assert free.any()
    assert_allclose(modes.encode(designs)[free], codes[free], atol=1e-8)
    assert_allclose(modes.read(modes.trace(codes))[free], codes[free], atol=1e-8)
    assert (designs[:, -1] >= 0).all()
    assert modes.explained > 0.999
    assert (thickness(wings()) <= THICKEST).all()


def test_all_modes_together_lose_nothing(real):
    modes = Modes(wings(), 18)
    designs = torch.as_tensor(wings()[::100].copy())
    assert_allclose(modes(modes.encode(designs)), designs, atol=1e-7)


def test_a_code_counts_standard_deviations(real):
    codes = Modes(wings(), 9).encode(torch.as_tensor(wings().copy()))
    assert_allclose(codes.mean(0), np.zeros(9), atol=1e-8)
    assert_allclose(codes.std(0), np.ones(9), rtol=1e-6)


def test_plausibility_is_calibrated_on_airfoils_never_seen(real):
    space = latent(6)
    plausible = space.plausibility(space.encode(_parts()[1]))
    for level in (0.05, 0.2, 0.5, 0.9):
        assert abs((plausible <= level).mean() - level) < 0.07


def test_realism_knows_airfoils_from_kulfan_numbers_at_random(real):
    taught, held_out = _parts()
    assert (len(taught), len(held_out)) == (1714, 429)
    for level in (0.05, 0.2, 0.5, 0.9):
        assert abs((real_looking()(taught) <= level).mean() - level) < 0.07
    box = airfoil.problem(space="box").space
    drawn = np.asarray(box.decode(box.sample(np.random.default_rng(0), 200)))
    assert (real_looking()(drawn) < 0.05).mean() > 0.9
    crossed = np.concatenate([-np.full(8, 0.1), np.full(8, 0.1), [0.0, 0.0]])
    assert_array_equal(real_looking()([crossed, real.designs[0] * np.nan]), [0.0, 0.0])


@pytest.mark.parametrize("space", SPACES)
def test_every_space_makes_designs_that_are_asked_judged_and_drawn(real, space):
    problem = airfoil.problem(space=space)
    points = problem.space.sample(np.random.default_rng(0), 6)
    designs = problem.space.decode(points)
    assert np.shape(designs) == (6, 18)
    outcomes = problem.evaluate([Query(point) for point in points])
    assert all(outcome.state is State.COMPLETED for outcome in outcomes)
    assert_allclose(
        [outcome.y for outcome in outcomes],
        asked(np.asarray(designs), "xxsmall", 4.0, 1e6),
        rtol=1e-6,
    )
    opinions, calls = problem.second_opinions(designs)
    assert calls == 6
    assert_allclose(
        [one.y for one in opinions], asked(np.asarray(designs), "xxxlarge", 4.0, 1e6), rtol=1e-6
    )
    assert problem.plausibility(designs).shape == (6,)
    assert problem.draw(designs[0]).shape == (72, 180, 3)
    json = pickle.loads(pickle.dumps(problem)).to_json()
    assert json == problem.to_json()


@pytest.mark.parametrize("space", ["latent", "modes", "box"])
def test_descents_run_where_there_are_gradients(real, space):
    problem = airfoil.problem(space=space, goal="weighted")
    start = problem.space.sample(np.random.default_rng(1), 1)[0]
    plain, descent = problem.evaluate([Query(start), Query(start, descent=Descent(20))])
    assert descent.loss < plain.loss
    assert (descent.cost.values, descent.cost.gradients) == (20, 19)


def test_points_and_designs_of_the_boxes_belong_together(real):
    for name in ("modes", "box"):
        space = airfoil.problem(space=name).space
        points = 0.3 + 0.4 * np.random.default_rng(0).random((20, space.domain.dim))
        designs = np.asarray(space.decode(points))
        open_edged = designs[:, -1] > 0
        assert open_edged.any()
        assert_allclose(space.encode(designs[open_edged]), points[open_edged], atol=1e-6)
        tensor = space.decode_tensor(torch.as_tensor(points))
        assert_allclose(tensor, designs, atol=1e-9)


def test_the_catalogue_is_the_list(real):
    space = airfoil.problem(space="database").space
    points = space.domain.encode([{"airfoil": 0}, {"airfoil": 2173}])
    assert_array_equal(space.decode(points), real.designs[[0, -1]])
    assert space.identify(points) == ["0", "2173"]


# ---------------------------------------------------------------------- the problem


def test_goals(real):
    assert str(airfoil.problem().objective) == "Maximize(L/D)"
    assert [str(rule) for rule in airfoil.problem().constraints] == ["confidence >= 0.9"]
    weighted = airfoil.problem(goal="weighted", space="modes", model="medium")
    assert str(weighted.objective) == "Maximize(L/D x confidence)"
    assert not weighted.constraints
    wanted = airfoil.problem(target=(0.8, -0.05), tolerance=(0.02, 0.005))
    assert str(wanted.objective) == "Minimize(CD)"
    rules = [(rule.output, rule.sense, rule.bound) for rule in wanted.constraints]
    bounds = [("CL", ">=", 0.78), ("CL", "<=", 0.82), ("CM", ">=", -0.055), ("CM", "<=", -0.045)]
    for rule, bound in zip(rules, [*bounds, ("confidence", ">=", 0.9)], strict=True):
        assert rule[:2] == bound[:2]
        assert rule[2] == pytest.approx(bound[2])


def test_realism_of_the_search(real):
    assert airfoil.problem().domain.floor == pytest.approx(0.05)
    assert airfoil.problem(realism=None).domain.floor == 0.0
    assert airfoil.problem(space="modes", dim=4).domain.dim == 4
    assert airfoil.problem(space="modes", sigma=5.0).space.domain.parameters["mode1"].high == 5.0


def test_a_baseline_is_the_middle_of_the_box_of_components(real):
    around = airfoil.problem(space="modes", baseline="naca4412").space
    middle = np.asarray(around.decode(np.full((1, 9), 0.5)))
    np.testing.assert_allclose(middle, real["naca4412"][None], atol=1e-9)
    points = np.random.default_rng(0).random((5, 9))[
        [0, 1, 3, 4]
    ]  # the trailing edge of the other one is closed
    np.testing.assert_allclose(around.encode(around.decode(points)), points, atol=1e-9)
    plain = airfoil.problem(space="modes").space
    moved = np.asarray(around.decode(points)) - np.asarray(plain.decode(points))
    assert np.ptp(moved[:, :-1], axis=0).max() < 1e-9  # the same components


def test_an_airfoil_that_is_not_there(real):
    with pytest.raises(InvalidInputError, match="naca4412"):
        airfoil.problem(space="modes", baseline="naca441")


def test_a_search_of_the_latent_beats_the_draws_it_began_with_in_the_eyes_of_the_judge(real):
    problem = airfoil.problem()
    found = {}
    for strategy in ("prior", "cmaes"):
        study = bi.Study.create("s", problem, strategy, seed=0).run(120)
        (opinion,), _ = problem.second_opinions([study.best.design])
        found[strategy] = opinion.y[0]
        assert study.spent.values == 120  # the judge is not on the bill
    assert found["cmaes"] > max(133.0, found["prior"])


@pytest.mark.parametrize(
    "options",
    [
        {"goal": "win"},
        {"space": "outer"},
        {"model": "tiny"},
        {"judge": "tiny"},
        {"alpha": float("nan")},
        {"reynolds": 0.0},
        {"confidence": 1.5},
        {"target": 0.5},
        {"target": (0.5, 0.1, 0.2)},
        {"target": (0.5, 0.1), "tolerance": (0.0, 0.1)},
        {"dim": 0},
        {"dim": 19},
        {"space": "modes", "sigma": -1.0},
        {"space": "modes", "baseline": "paper plane"},
        {"baseline": "naca4412"},
    ],
)
def test_unknown_options_are_refused(real, options):
    with pytest.raises(InvalidInputError, match="airfoil: "):
        airfoil.problem(**options)


def test_without_the_extra_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "neuralfoil", None)
    with pytest.raises(MissingExtraError, match=r"bo-invert\[airfoil\]"):
        NeuralFoil("xxsmall")
    monkeypatch.setitem(sys.modules, "aerosandbox", None)
    with pytest.raises(MissingExtraError, match=r"bo-invert\[airfoil\]"):
        database.__wrapped__()


def test_it_is_found_by_name(real):
    assert (
        bi.ready_problem("airfoil", goal="weighted").to_json()
        == airfoil.problem(goal="weighted").to_json()
    )
