"""Faces on which all criteria are constant: detection, moments, and what a search makes of them."""

from __future__ import annotations

import numpy as np

import bo_invert as bi
from bo_invert.models.acquisition.constant_faces import constant_faces
from bo_invert.models.acquisition.face_moments import FaceMoments
from bo_invert.models.gp.surrogate import fit_surrogate


def dose(x: np.ndarray) -> list[float]:
    """Return the dose and minus its effect, which the other parameters scale."""
    gain = np.exp(-4.0 * ((x[1:] - np.array([0.2, 0.5, 0.8])) ** 2).sum())
    return [float(x[0]), float(-x[0] / (x[0] + 0.3) * (0.1 + 0.9 * gain))]


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return unit inputs, three of them at dose 0, and their outputs."""
    inputs = np.random.default_rng(0).random((14, 4))
    inputs[:3, 0] = 0.0
    inputs[:3, 1:] = [[0.1, 0.9, 0.4], [0.8, 0.2, 1.0], [0.4, 0.6, 0.0]]
    return inputs, np.array([dose(x) for x in inputs])


def test_a_face_is_constant_if_distant_points_agree_in_all_criteria() -> None:
    inputs, scores = data()
    (face,) = constant_faces(inputs, scores, [0, 1])
    assert (face.coordinate, face.bound) == (0, 0.0)
    np.testing.assert_allclose(face.values, 0.0)
    assert face.holds(inputs).tolist() == [True] * 3 + [False] * 11
    # Two points do not suffice, nor three points of which one differs, nor three near ones.
    assert not constant_faces(inputs[1:], scores[1:], [0, 1])
    changed = scores.copy()
    changed[0, 1] = -0.5
    assert not constant_faces(inputs, changed, [0, 1])
    near = inputs.copy()
    near[:3, 1:] = near[0, 1:] + 0.01 * np.arange(3)[:, None]
    assert not constant_faces(near, scores, [0, 1])


def test_symmetric_points_do_not_make_a_face_constant() -> None:
    # The sum of the parameters is equal at the corners of a face with one 1.
    inputs = np.concatenate([np.eye(4)[1:], np.random.default_rng(0).random((8, 4))])
    scores = np.column_stack([inputs[:, 0], inputs.sum(1)])
    assert not constant_faces(inputs, scores, [0, 1])


def test_moments_equal_those_of_an_observation_at_the_projection() -> None:
    inputs, scores = data()
    surrogate = fit_surrogate(inputs, scores)
    standard = surrogate.gp.values[..., 0].mT.numpy()
    faces = constant_faces(inputs, standard, [0, 1])
    moments = FaceMoments.of(surrogate.gp.array_moments, faces)
    at = np.array([[0.0, 0.95, 0.05, 0.95], [0.02, 0.95, 0.05, 0.95], [0.7, 0.3, 0.3, 0.3]])
    mean, variance, cache = moments(at)
    before, spread, _ = surrogate.gp.array_moments(at)
    np.testing.assert_allclose(mean[0, :, 0], standard[0], atol=1e-12)
    assert (variance[0] < 1e-6).all()
    assert (variance <= spread + 1e-12).all()
    assert variance[1, 1] < 0.1 * spread[1, 1]
    np.testing.assert_allclose(mean[2], before[2], atol=0.05)
    # Gradients by finite differences, away from the lower bound of the variance
    rng = np.random.default_rng(1)
    by_mean, by_variance = rng.standard_normal(mean.shape), rng.standard_normal(variance.shape)
    rows = slice(1, None)

    def total(points: np.ndarray) -> np.ndarray:
        m, v, _ = moments(points)
        return (by_mean * m).sum((1, 2)) + (by_variance * v).sum(1)

    found = moments.gradient(cache, by_mean, by_variance)
    for j in range(4):
        step = 1e-6 * np.eye(4)[j]
        slope = (total(at + step) - total(at - step)) / 2e-6
        np.testing.assert_allclose(found[rows, j], slope[rows], rtol=1e-4, atol=1e-6)


def test_a_search_does_not_return_to_a_constant_face() -> None:
    # Without this knowledge, 10 to 18 of the 40 points have dose 0.
    def six(x: np.ndarray) -> list[float]:
        centre = np.array([0.2, 0.5, 0.8, 0.3, 0.6])
        gain = np.exp(-4.0 * ((x[1:] - centre) ** 2).sum())
        return [float(x[0]), float(1.0 - 1.3 * x[0] / (x[0] + 0.3) * (0.1 + 0.9 * gain))]

    criteria = bi.Pareto(bi.Minimize("dose"), bi.Minimize("rest"), reference=[1.1, 1.1])
    box = bi.Box([0.0] * 6, [1.0] * 6)
    problem = bi.Problem(box, six, criteria, outputs=["dose", "rest"])
    study = bi.Study.create("dose", problem, seed=0).run(40)
    at_zero = [trial for trial in study.trials if trial.point[0] < 1e-9]
    assert len(at_zero) <= 6
