import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from bo_invert.errors import InvalidInputError
from bo_invert.spaces.latent import Latent

DIM = 3
SHIFT = torch.tensor([2.0, -1.0, 0.5])


class Coder(nn.Module):
    """Decoder with an exact encoder, dropout, flags and parameters."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        weight = torch.tensor(np.random.default_rng(0).standard_normal((4, DIM)), dtype=dtype)
        self.weight = nn.Parameter(weight)
        self.dropout = nn.Dropout(0.5)

    def forward(self, z):
        return self.dropout((z @ self.weight.T).tanh()).reshape(-1, 2, 2)

    def encode(self, x):
        flat = x.flatten(1).clamp(-0.999, 0.999).atanh()
        return flat @ torch.linalg.pinv(self.weight).T, torch.zeros(len(x), DIM)


def codes(n=400, seed=0):
    return (
        np.random.default_rng(seed).standard_normal((n, DIM)) * [0.5, 0.2, 0.1] + SHIFT.numpy() / 4
    )


@pytest.fixture
def coder():
    return Coder()


def plain(coder):
    twin = copy.deepcopy(coder).eval()
    return lambda z: twin(torch.as_tensor(z, dtype=torch.float32)).detach().numpy()


def test_the_reference_measure_is_that_of_the_codes(coder):
    space = Latent(coder, DIM, codes=codes())
    assert space.domain.geometry == "gaussian"
    drawn = space.codes(space.sample(np.random.default_rng(0), 5000))
    assert_allclose(drawn.mean(axis=0), codes().mean(axis=0), atol=0.05)
    assert_allclose(drawn.std(axis=0), codes().std(axis=0), rtol=0.1)
    fresh = space.measure.whiten(codes(5000, 1))
    assert abs((np.linalg.norm(fresh, axis=1) <= space.domain.radius).mean() - 0.99) < 0.02


def test_data_goes_through_the_decoders_own_encoder(coder):
    space = Latent(coder, DIM, data=plain(coder)(codes()))
    assert_allclose(space.measure.mean, codes().mean(axis=0), atol=1e-3)


def test_an_encoder_that_is_given_wins(coder):
    encoded = []
    space = Latent(
        coder,
        DIM,
        encoder=lambda x: encoded.append(len(x)) or codes(len(x)),
        data=np.zeros((30, 2, 2)),
    )
    assert encoded == [30]
    assert_allclose(space.measure.mean, codes(30).mean(axis=0))


def test_encode_and_decode_are_inverse(coder):
    space = Latent(coder, DIM, codes=codes())
    points = space.sample(np.random.default_rng(0), 20)
    assert_allclose(space.encode(space.decode(points)), points, atol=1e-3)


def test_decode_runs_in_evaluation_mode_and_touches_nothing(coder):
    coder.train()
    space = Latent(coder, DIM, codes=codes())
    points = space.sample(np.random.default_rng(0), 5)
    designs = space.decode(points)
    assert designs.shape == (5, 2, 2)
    assert_allclose(designs, plain(coder)(space.codes(points)), atol=1e-6)
    assert coder.training
    assert coder.weight.requires_grad


def test_gradients_reach_the_points_and_not_the_parameters(coder):
    space = Latent(coder, DIM, codes=codes())
    points = torch.tensor(space.sample(np.random.default_rng(0), 2), requires_grad=True)
    space.decode_tensor(points).square().sum().backward()
    assert coder.weight.grad is None
    for i in range(DIM):
        step = np.zeros(DIM)
        step[i] = 1e-2
        start = points.detach().numpy()
        numeric = (
            (space.decode(start + step) ** 2).sum((1, 2))
            - (space.decode(start - step) ** 2).sum((1, 2))
        ) / 2e-2
        assert_allclose(points.grad[:, i], numeric, atol=2e-3)


def test_tensors_keep_the_dtype_of_the_points():
    space = Latent(Coder(torch.float64).double(), DIM, codes=codes())
    assert space.decode_tensor(torch.zeros(2, DIM, dtype=torch.float32)).dtype is torch.float32
    points = torch.zeros(2, DIM, dtype=torch.float64)
    assert_allclose(space.decode_tensor(points), space.decode(points.numpy()), rtol=1e-12)


def test_a_method_of_a_module_is_a_differentiable_decoder():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(DIM, 2)

        def decode(self, z):
            return self.layer(z)

    model = Model()
    space = Latent(model.decode, DIM)
    assert space.differentiable
    assert_allclose(space.decode(np.zeros((1, DIM)))[0], model.layer.bias.detach(), rtol=1e-6)


def test_threads_may_share_a_space(coder):
    space = Latent(coder, DIM, codes=codes())
    points = space.sample(np.random.default_rng(0), 64)

    def gradient(point):
        tensor = torch.tensor(point[None], requires_grad=True)
        space.decode_tensor(tensor).sum().backward()
        return tensor.grad.numpy()[0]

    with ThreadPoolExecutor(8) as pool:
        assert_array_equal(list(pool.map(gradient, points)), [gradient(point) for point in points])
    assert coder.weight.requires_grad
    assert coder.weight.grad is None


def test_a_plain_decoder_may_make_anything():
    space = Latent(lambda z: [f"{row[0]:.3f}" for row in z], DIM, codes=codes())
    assert not space.differentiable
    assert len(space.decode(np.zeros((3, DIM)))) == 3
    with pytest.raises(InvalidInputError, match="not differentiable"):
        space.decode_tensor(torch.zeros(1, DIM))
    with pytest.raises(InvalidInputError, match="encoder"):
        space.encode(["0.1"])


class Words(nn.Module):
    """A network whose designs are text: called with arrays, not with tensors."""

    differentiable = False

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(DIM, 1)

    def forward(self, z):
        assert isinstance(z, np.ndarray)
        with torch.no_grad():
            return [
                f"{value:.2f}" for value in self.layer(torch.tensor(z, dtype=torch.float32))[:, 0]
            ]

    def encode(self, texts):
        return np.array([[float(text)] * DIM for text in texts])


def test_a_network_that_makes_text_is_a_plain_decoder():
    space = Latent(
        Words(),
        DIM,
        data=[f"{value:.2f}" for value in np.random.default_rng(0).standard_normal(200)],
    )
    assert not space.differentiable
    assert all(isinstance(text, str) for text in space.decode(np.zeros((3, DIM))))
    assert len(set(space.identify(np.zeros((3, DIM))))) == 1
    assert space.encode(["0.50"]).shape == (1, DIM)
    assert not Latent(Words().forward, DIM).differentiable


def test_without_anything_the_prior_is_standard_normal(coder):
    space = Latent(coder, DIM)
    points = space.sample(np.random.default_rng(0), 5000)
    assert_array_equal(space.codes(points), points)
    assert_allclose(points.std(axis=0), 1.0, atol=0.05)
    assert space.domain.radius == pytest.approx(
        11.345**0.5, abs=0.01
    )  # 99 % of chi2 with 3 degrees of freedom


def test_a_prior_is_measured_by_its_draws(coder):
    space = Latent(coder, DIM, prior=lambda rng, n: rng.uniform(0, 1, (n, DIM)))
    assert_allclose(space.measure.mean, 0.5, atol=0.02)
    corner = space.measure.whiten(np.array([[1.3, 1.3, 1.3]]))
    assert space.plausibility(corner)[0] < 0.01


def test_data_without_an_encoder_is_inverted():
    torch_decoder = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 6))
    with torch.no_grad():
        for parameter in torch_decoder.parameters():
            values = np.random.default_rng(len(parameter)).standard_normal(tuple(parameter.shape))
            parameter.copy_(torch.tensor(values))
    truth = np.random.default_rng(0).standard_normal((60, 2)) * 0.3 + [1.0, -0.5]
    data = torch_decoder(torch.tensor(truth, dtype=torch.float32)).detach().numpy()
    space = Latent(torch_decoder, 2, data=data)
    assert_allclose(space.measure.mean, truth.mean(axis=0), atol=0.1)
    assert all(parameter.grad is None for parameter in torch_decoder.parameters())


def test_the_log_notices_another_latent(coder):
    one = Latent(coder, DIM, codes=codes()).to_json()
    assert Latent(coder, DIM, codes=codes() * (1 + 1e-7)).to_json() == one
    assert Latent(coder, DIM, codes=codes() + 0.3).to_json() != one
    assert Latent(coder, DIM).to_json() != one
    assert one["type"] == "latent"
    assert one["dim"] == DIM


def test_it_can_be_sent_to_another_process(coder):
    space = Latent(coder, DIM, codes=codes())
    points = space.sample(np.random.default_rng(0), 3)
    assert_array_equal(pickle.loads(pickle.dumps(space)).decode(points), space.decode(points))


def broken(z):
    return np.full((len(z), 2), np.nan)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Latent(Coder(), 0), "dim"),
        (lambda: Latent(Coder(), 5), "length of a code"),
        (lambda: Latent(Coder(), DIM, level=0.0), "level"),
        (lambda: Latent(Coder(), DIM, codes=codes()[:, :2]), r"shape \(n, 3\)"),
        (lambda: Latent(Coder(), DIM, codes=codes(4)), "at least 8 different rows"),
        (
            lambda: Latent(Coder(), DIM, codes=codes(), data=codes()),
            "codes and data|data and codes",
        ),
        (lambda: Latent(Coder(), DIM, data=[]), "empty"),
        (lambda: Latent(Coder(), DIM, data=np.zeros((9, 7, 2))), "encoder fails"),
        (
            lambda: Latent(Coder(), DIM, encoder=lambda x: x[:1], data=np.zeros((9, 2, 2))),
            "encoder must return one result per row",
        ),
        (lambda: Latent(lambda z: z, DIM, data=codes()), "no encoder"),
        (lambda: Latent(nn.Linear(DIM, 2), DIM, data=codes()), "the decoder's shape"),
        (lambda: Latent(lambda z: z[:1], DIM), "one result per row"),
        (lambda: Latent(lambda z: 1.0, DIM), "one result per row"),
        (lambda: Latent(broken, DIM), "not finite"),
        (lambda: Latent("decoder", DIM), "callable"),
        (lambda: Latent(nn.Flatten(0), DIM), r"tensor of shape \(3, \.\.\.\)"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(make, message):
    with pytest.raises(InvalidInputError, match=message):
        make()
