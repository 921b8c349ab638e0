"""Contract of user code and torch: it runs under the settings of the caller of the package.

Descents need gradients, so they keep only the default device of the caller.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.user_code import own_settings


@contextmanager
def settings() -> Iterator[None]:
    """Set inference mode, a default device and a default type."""
    with ExitStack() as stack:
        stack.callback(torch.set_default_device, None)
        stack.callback(torch.set_default_dtype, torch.float32)
        torch.set_default_device("meta")
        torch.set_default_dtype(torch.float64)
        stack.enter_context(torch.inference_mode())
        yield


class Bowl(torch.nn.Module):
    """Squared distance from a centre, a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.centre = torch.nn.Parameter(torch.full((2,), 0.3, dtype=torch.float64, device="cpu"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x - self.centre) ** 2).sum(1)


def state() -> tuple[str, bool, bool, torch.dtype]:
    """Return the settings of torch in this thread."""
    return (
        torch.empty(0).device.type,
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
    )


def shown(x: object) -> list[float]:
    """Return the settings of torch as outputs of an oracle."""
    device, gradients, inference, dtype = state()
    return [float(device == "meta"), gradients, inference, float(dtype is torch.float64)]


@pytest.mark.parametrize("executor", [None, "threads", "processes", "isolated"])
def test_an_oracle_runs_under_the_settings_of_the_caller(executor: str | None) -> None:
    outputs = ["meta", "gradients", "inference", "double"]
    oracle = bi.Isolated(shown) if executor == "isolated" else shown
    asked = bi.Problem(bi.Box([0], [1]), oracle, bi.Minimize("meta"), outputs=outputs)
    executor = None if executor == "isolated" else executor
    with settings():
        study = bi.Study.create("s", asked, strategy="random").run(2, batch=2, executor=executor)
    for trial in study.trials:
        assert trial.y is not None, trial.reason
        assert trial.y.tolist() == [1.0, 0.0, 1.0, 1.0]
    study.run(3)
    assert study.trials[-1].y is not None
    assert study.trials[-1].y.tolist() == [0.0, 1.0, 0.0, 0.0]


def test_all_user_code_runs_under_the_settings_of_the_caller() -> None:
    seen: dict[str, Any] = {}

    def noting(name: str, result: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            seen[name] = state()
            return result(*arguments)

        return call

    class Noting(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen["module"] = state()
            return x.sum(1)

    def ended() -> bool:
        seen["stop"] = state()
        return False

    with settings():
        around = state()
        space = bi.Latent(
            noting("decoder", lambda z: z + 0.0), 2, noting("encoder", lambda x: x + 0.0),
            prior=noting("prior", lambda rng, n: rng.normal(size=(n, 2))),
            features=noting("features", np.asarray),
        )  # fmt: skip
        asked = bi.Problem(
            space, noting("oracle", np.sum), bi.Composite(noting("objective", lambda y: y.sum(-1))),
            outputs=["y"], judge=noting("judge", np.sum),
            draw=noting("draw", lambda x: np.zeros((2, 2))),
            plausibility=noting("plausibility", lambda designs: np.ones(len(designs))),
        )  # fmt: skip
        study = bi.Study.create("s", asked, strategy="pcn").run(6, stop=ended)
        study.add(np.zeros((1, 2)), [0.0])
        study.solutions(1)
        values = bi.Problem(bi.Box([0], [1]), Noting(), bi.Minimize())
        bi.Study.create("values", values, strategy="random").run(1)
    assert len(seen) == 11
    device_and_inference = {name: (found[0], found[2]) for name, found in seen.items()}
    assert set(device_and_inference.values()) == {(around[0], around[2])}


def test_a_descent_keeps_the_default_device_of_the_caller() -> None:
    class Scaled(Bowl):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert torch.empty(0).device.type == "meta"
            assert torch.is_grad_enabled()
            return super().forward(x)

    scaled = bi.Problem(bi.Box([-1, -1], [2, 2]), Scaled(), bi.Minimize())
    with settings():
        query = bi.Query(np.array([0.1, 0.9]), descent=bi.Descent(9))
        (outcome,) = scaled.evaluate([query])
    assert outcome.reason == ""


def test_modules_made_in_inference_mode_have_gradients() -> None:
    with torch.inference_mode():
        for space in (bi.Box([-1, -1], [2, 2]), bi.Latent(torch.nn.Linear(2, 2), 2)):
            asked = bi.Problem(space, Bowl(), bi.Minimize())
            study = bi.Study.create("s", asked, strategy="gradient").run(9)
            assert not study.spent.failed


class Disabled(Bowl):
    """Module that disables gradients by a decorator."""

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)


class Within(Bowl):
    """Module that disables gradients in its body."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return super().forward(x)


class Inside(torch.nn.Module):
    """Module with a part that disables gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Disabled()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2.0 * self.inner(x)


class ByNumpy(Bowl):
    """Module that computes in numpy."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.square(x.detach().numpy()).sum(1))


def detached(x: torch.Tensor) -> torch.Tensor:
    return x.detach() ** 2


class ByFunction(Bowl):
    """Module whose function cuts the graph."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return detached(x).sum(1)


class Partly(Bowl):
    """Module with a part without gradients, and a gradient."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            scale = self.centre.abs().sum()
        return scale * super().forward(x)


@pytest.mark.parametrize("wrap", [lambda m: m, bi.Cached, lambda m: bi.GradientProxy(np.sum, m)])
@pytest.mark.parametrize(
    ("module", "expected"),
    [(Bowl, True), (Partly, True)]
    + [(kind, False) for kind in (Disabled, Within, Inside, ByNumpy, ByFunction)],
)
def test_modules_without_gradients_are_not_differentiable(
    module: type[torch.nn.Module], expected: bool, wrap: Callable[[Any], Any]
) -> None:
    asked = bi.Problem(bi.Box([-1, -1], [2, 2]), wrap(module()), bi.Minimize("y"), outputs=["y"])
    assert asked.differentiable is expected
    assert asked.statement.differentiable is expected
    assert bi.Latent(module(), 2).differentiable is expected
    if not expected:
        with pytest.raises(bi.UnsuitableStrategyError):
            bi.Study.create("s", asked, strategy="gradient")


def test_torch_is_left_alone_during_its_import(monkeypatch: pytest.MonkeyPatch) -> None:
    half = ModuleType("torch")
    half.__spec__ = ModuleSpec("torch", None)
    half.__spec__._initializing = True  # type: ignore[attr-defined]  # as the import system sets it
    monkeypatch.setitem(sys.modules, "torch", half)
    # Threads may tell results while another one imports torch.
    assert own_settings()(lambda: 7)() == 7
