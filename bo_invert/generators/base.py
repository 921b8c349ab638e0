"""The contract of a generator: a network that makes designs of codes, with a config that says all about it.

A generator is one file and one line in the registry's room ``"generators"``. The file holds a frozen config dataclass
(``GeneratorConfig``) and a network (``Generator``); ``storage`` saves, loads and caches every kind, and the latent of
every kind is searched with ``Latent(network, config.dim)``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from bo_invert import registry
from bo_invert.errors import InvalidInputError, whole_number
from bo_invert.generators.priors import Draw, Prior, draw_codes
from bo_invert.types import JSON

Valid = Callable[[Any], Any]
"""Of n designs, n truth values: is it one at all?"""


class GeneratorConfig:
    """What a network is and how it is trained; subclasses are frozen dataclasses of JSON values and tuples of these.

    ``dim`` is the length of a code. By ``kind`` the registry finds the network's class.
    """

    kind: ClassVar[str]
    dim: int

    def to_json(self) -> JSON:
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, data: JSON) -> Self:
        """What ``to_json`` gave.

        Raises:
            InvalidInputError: a name is missing or unknown, or a value makes no sense.
        """
        known = {one.name for one in fields(cls)}  # type: ignore[arg-type]
        if not isinstance(data, dict) or not set(data) <= known:
            raise InvalidInputError(
                f"{cls.__name__}: expected some of {sorted(known)}, got {data!r:.200}"
            )
        try:
            return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in data.items()})
        except TypeError as error:
            raise InvalidInputError(f"{cls.__name__}: {error}") from None

    def refuse(self, **below_one: int | Sequence[int]) -> None:
        """Check sizes, which must be whole numbers >= 1, and ``seed``, a whole number >= 0.

        Raises:
            InvalidInputError: a value is not in its range.
        """
        where = type(self).__name__
        whole_number(where, "seed", getattr(self, "seed", 0), least=0)
        for name, sizes in below_one.items():
            for size in sizes if isinstance(sizes, (tuple, list)) else (sizes,):
                whole_number(where, name, size)


@dataclass(frozen=True)
class TrainingReport:
    """How a training went.

    Args:
        epochs: that were run.
        seconds: wall clock.
        ended: by ``"patience"`` (the held-out loss grew no better), by ``"epochs"``, or ``"interrupted"``.
        loss: lowest held-out loss; the kind of network says what that is.
        figures: what else was measured on held-out designs and on draws of the prior, by name.
        remarks: sentences on what should worry whoever uses the network.
    """

    epochs: int
    seconds: float
    ended: Literal["patience", "epochs", "interrupted"]
    loss: float
    figures: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        measured = "".join(
            f", {name.replace('_', ' ')} {value:.4g}" for name, value in self.figures.items()
        )
        head = f"{self.epochs} epochs in {self.seconds:.1f} s ({self.ended}); held-out loss {self.loss:.3f}{measured}"
        return "\n".join([head, *self.remarks])

    def to_json(self) -> JSON:
        return asdict(self) | {"figures": dict(self.figures), "remarks": list(self.remarks)}

    @staticmethod
    def from_json(data: JSON) -> TrainingReport:
        numbers = {name: float(value) for name, value in data["figures"].items()}
        loss = float(data["loss"])
        if data["ended"] not in ("patience", "epochs", "interrupted") or math.isnan(loss):
            raise InvalidInputError(f"this is no report of a training: {data!r:.200}")
        remarks = tuple(str(remark) for remark in data["remarks"])
        return TrainingReport(
            int(data["epochs"]), float(data["seconds"]), data["ended"], loss, numbers, remarks
        )


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during a training, after at least one epoch. It goes on as a Ctrl-C unless somebody catches it.

    Args:
        network: the best so far.
        report: on it.
    """

    def __init__(self, network: Any, report: TrainingReport) -> None:
        super().__init__(
            f"interrupted; the best network of {report.epochs} epochs is this exception's .network"
        )
        self.network = network
        self.report = report


C = TypeVar("C", bound=GeneratorConfig)


class Generator(nn.Module, ABC, Generic[C]):
    """A network from codes ``(n, dim)`` to n designs; where there is a way back it has a method ``encode``.

    ``__init__`` takes the config alone, draws nothing but initial weights, and keeps every tensor as a parameter or a
    persistent buffer: a stored network is made on torch's ``meta`` device and filled from the file.

    Args:
        config: kept as ``config``.
    """

    Config: ClassVar[type[GeneratorConfig]]
    #: Whether ``forward`` (and ``encode``) map tensors to tensors with gradients. Where this is False, ``forward``
    #: takes an array of codes and returns a list of n designs of any type, ``encode`` takes such a list and returns an
    #: array of codes, and both see to ``no_grad`` themselves.
    differentiable: ClassVar[bool] = True

    def __init__(self, config: C) -> None:
        super().__init__()
        self.config = config

    @property
    def prior(self) -> Prior | Draw | None:
        """What codes were drawn from in training, as ``Latent(prior=...)`` takes it; None stands for N(0, I)."""
        return None

    @abstractmethod
    def forward(self, codes: Any) -> Any:
        """n designs of codes ``(n, dim)``."""

    @classmethod
    @abstractmethod
    def checked(cls, designs: Any, config: C) -> NDArray[Any] | list[str]:
        """Designs as they are learnt from; the name of a cache entry is made of this and the config.

        Raises:
            InvalidInputError: there are too few, or they do not fit ``config``.
        """

    @classmethod
    @abstractmethod
    def fit(
        cls,
        designs: Any,
        config: C,
        *,
        progress: bool = False,
        device: Any = None,
        valid: Valid | None = None,
    ) -> tuple[Self, TrainingReport]:
        """A network trained on designs, in evaluation mode and on the CPU, wherever it was trained.

        The same designs and config give the same network on the same machine, whatever the global generators did.

        Args:
            designs: n of them, as the class says.
            config: of the network and of its training.
            progress: show a bar on stderr.
            device: where to train; default: the CPU. Designs are moved there batch by batch.
            valid: says of n designs which are any; the share among draws of the prior goes into the report.

        Raises:
            InvalidInputError: designs and config do not fit, or the loss left the finite numbers.
            TrainingInterrupted: Ctrl-C; it holds the best network so far.
        """


def kind_of(name: str) -> type[Generator[Any]]:
    """The class of a registered kind of generator.

    Raises:
        InvalidInputError: there is no such kind.
    """
    found = registry.resolve("generators", name)
    if not (isinstance(found, type) and issubclass(found, Generator)):
        raise InvalidInputError(f"what is registered as the generator {name!r} is none: {found!r}")
    return found


def train_generator(
    designs: Any,
    config: GeneratorConfig,
    *,
    progress: bool = False,
    device: Any = None,
    valid: Valid | None = None,
) -> tuple[Any, TrainingReport]:
    """A network of the config's kind, trained on designs, and the report; see ``Generator.fit``."""
    return kind_of(config.kind).fit(designs, config, progress=progress, device=device, valid=valid)


def sampled(network: Generator[Any], rng: np.random.Generator, n: int) -> Any:
    """n designs of codes drawn from the network's prior, as ``forward`` makes them, without gradients."""
    import torch

    codes = draw_codes(network.prior, rng, n, network.config.dim)
    with torch.no_grad():
        return network(
            torch.as_tensor(codes, dtype=torch.float32) if network.differentiable else codes
        )
