import pickle
import sys
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bo_invert.errors import InvalidInputError, MissingExtraError
from bo_invert.objectives.single_output import Maximize, Minimize
from bo_invert.objectives.target import Target
from bo_invert.types import Descent, Query, State

pytest.importorskip("sklearn")

import bo_invert as bi
from bo_invert.generators.gan import GANConfig
from bo_invert.problems.examples import digits
from bo_invert.problems.examples.base import OncePerKey, ready_problem
from bo_invert.problems.examples.digits import (
    LEAN_RANGE,
    PARTS,
    decoder_only,
    load,
    slant,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BO_INVERT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return digits.materials()


def stroke(lean):
    """Draw a stroke from bottom to top whose columns move ``lean`` to the right for each row up."""
    image = np.zeros((8, 8))
    for row in range(8):
        column = 3.5 + lean * (3.5 - row)
        left = int(np.floor(column))
        image[row, left], image[row, left + 1] = 1 - (column - left), column - left
    return image


@pytest.mark.parametrize("lean", [-0.5, 0.0, 0.3])
def test_slant_is_the_tangent_of_the_lean(lean):
    low, high = LEAN_RANGE
    assert slant(stroke(lean)[None])[0] == pytest.approx((lean - low) / (high - low))


def test_real_digits_span_zero_to_one():
    real = slant(load()[0])
    assert_allclose(np.quantile(real, [0.01, 0.99]), [0.0, 1.0], atol=1e-6)
    assert -0.1 < real.min() < real.max() < 1.2


def test_slant_ignores_brightness_and_has_no_value_without_ink():
    image = stroke(0.2)[None]
    assert_allclose(slant(0.3 * image), slant(image))
    assert np.isnan(slant(np.zeros((1, 8, 8))))[0]


def test_parts_are_disjoint(made):
    rows = np.concatenate(list(made.parts.values()))
    assert {name: len(part) for name, part in made.parts.items()} == PARTS
    assert_array_equal(np.sort(rows), np.arange(1797))


def test_the_regressors_learnt_it(made):
    scores = made.scores()
    assert scores["forest"] > 0.85
    assert scores["network"] > 0.95
    assert scores["judge"] > 0.93


def test_the_vae_reconstructs(made):
    assert made.training.figures["reconstruction"] < 0.6 * made.training.figures["spread"]


def test_materials_are_made_once(made):
    assert digits.materials(0, 8, progress=True) is made
    assert digits.problem().space is made.latent


def test_realism_knows_digits_from_noise(made):
    fresh = made.realism(made.part("judge"))
    for level in (0.05, 0.2, 0.5, 0.9):
        assert abs((fresh <= level).mean() - level) < 0.07
    noise = np.random.default_rng(0).random((50, 8, 8))
    assert_array_equal(made.realism(noise), 0.0)


def test_point_plausibility_is_calibrated_on_digits_never_seen(made):
    never_seen = np.concatenate([made.part("judge"), made.part("held_out")])
    plausible = made.latent.plausibility(made.latent.encode(never_seen))
    for level in (0.05, 0.2, 0.5, 0.9):
        assert abs((plausible <= level).mean() - level) < 0.07


@pytest.mark.parametrize(
    ("options", "objective"),
    [
        ({}, Maximize),
        ({"goal": "minimize"}, Minimize),
        ({"target": 0.5, "tolerance": 0.01}, Target),
    ],
)
def test_goals(made, options, objective):
    problem = digits.problem(**options)
    assert isinstance(problem.objective, objective)
    assert problem.name == "digits"
    assert problem.outputs == ("slant",)


@pytest.mark.parametrize("space", ["latent", "pixels"])
@pytest.mark.parametrize("oracle", ["forest", "network"])
def test_every_variant_answers_and_descends(made, space, oracle):
    problem = digits.problem(target=0.8, space=space, oracle=oracle)
    start = problem.space.sample(np.random.default_rng(0), 1)[0]
    plain, descent = problem.evaluate([Query(start), Query(start, descent=Descent(30))])
    assert plain.state is descent.state is State.COMPLETED
    assert descent.loss < plain.loss
    assert descent.cost.values == 30
    (opinion,), calls = problem.second_opinions([problem.decode(descent.point)])
    assert opinion is not None
    assert opinion.loss is not None
    assert calls == 1
    assert problem.draw(problem.decode(start)).shape == (8, 8)
    assert problem.plausibility([problem.decode(start)]).shape == (1,)


def test_targets_over_the_range_of_real_digits_can_be_hit(made):
    problem = digits.problem()
    points = problem.space.sample(np.random.default_rng(0), 2000)
    reached = np.ravel(problem.oracle(problem.space.decode(points)))
    for target in (0.15, 0.3, 0.5, 0.7, 0.8):
        assert np.abs(reached - target).min() < 0.02


def test_the_problem_can_be_sent_to_another_process(made):
    problem = digits.problem(target=0.5)
    query = Query(np.zeros(8))
    there = pickle.loads(pickle.dumps(problem))
    assert there.evaluate([query])[0].loss == problem.evaluate([query])[0].loss


@pytest.mark.slow
def test_a_decoder_alone_reaches_a_target(made, monkeypatch, tmp_path_factory):
    """The GAN learns too little here to be good, but it has a prior, no encoder, and gradients."""
    monkeypatch.setenv("BO_INVERT_CACHE", str(tmp_path_factory.mktemp("gan")))
    monkeypatch.setattr(digits, "_decoders", OncePerKey())
    monkeypatch.setattr(digits, "GANConfig", partial(GANConfig, epochs=5))
    problem = digits.problem(target=0.5, tolerance=0.02, generator="gan")
    assert problem.space is decoder_only(made).latent
    assert problem.space.domain.reference is None  # the prior itself
    assert problem.differentiable
    assert not hasattr(decoder_only(made).gan, "encode")
    study = bi.Study.create("s", problem, strategy="gp", seed=0).run(60)
    assert abs(study.best.y[0] - 0.5) <= 0.02
    assert problem.plausibility([problem.decode(study.best.point)]).shape == (1,)


@pytest.mark.parametrize(
    "options", [{"goal": "win"}, {"oracle": "crystal"}, {"space": "outer"}, {"generator": "flow"}]
)
def test_unknown_options_are_refused(options):
    with pytest.raises(InvalidInputError, match="digits: "):
        digits.problem(**options)


def test_without_safetensors_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("BO_INVERT_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(MissingExtraError, match=r"bo-invert\[demo\]"):
        digits.problem(seed=123)


def test_it_is_found_by_name(made):
    assert ready_problem("digits", target=0.5).to_json() == digits.problem(target=0.5).to_json()
