"""Base classes of generators: networks that map latent codes to designs, and their configs.

A generator is one file and one line of the registry group ``"generators"``. The file holds a
frozen config dataclass (``GeneratorConfig``) and a network (``Generator``). ``storage`` saves,
loads and caches each kind; ``Latent(network, config.dim)`` makes its latent space searchable.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bo_invert import registry
from bo_invert.errors import InvalidInputError, printable
from bo_invert.generators.priors import Draw, Prior, draw_codes
from bo_invert.types import JSON, Designs
from bo_invert.user_code import own_settings
from bo_invert.user_data import plain_options, whole_number, whole_numbers

Valid = Callable[[Any], Any]
"""Function from n designs to n truth values: True for a valid design."""
Device = str | torch.device | None
"""Torch device by name or as an object; None stands for the CPU."""


class GeneratorConfig:
    """Architecture and training options of a generator; subclasses are frozen dataclasses.

    Fields are JSON values or tuples of these. ``dim`` is the length of a code. ``kind`` is the
    registry name of the network's class.
    """

    kind: ClassVar[str]
    dim: int

    def to_json(self) -> JSON:
        values = asdict(self)  # type: ignore[call-overload]
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    @classmethod
    def from_json(cls, data: JSON) -> Self:
        """Create a config from the output of ``to_json``.

        Raises:
            InvalidInputError: a name is missing or unknown, or a value is out of range.
        """
        # JSON has no tuples: to_json writes lists, and lists become tuples again here.
        known = {one.name for one in fields(cls)}  # type: ignore[arg-type]
        if not isinstance(data, dict) or not set(data) <= known:
            raise InvalidInputError(
                f"{cls.__name__}: data must be a dict with keys of {sorted(known)}, "
                f"got {data!r:.200}"
            )
        try:
            return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in data.items()})
        except TypeError as error:
            raise InvalidInputError(f"{cls.__name__}: {error}") from None

    def check_sizes(self, *names: str) -> None:
        """Check that the named fields hold integers >= 1 and that ``seed`` is an integer >= 0.

        Raises:
            InvalidInputError: a value is out of range.
        """
        where = type(self).__name__
        for one in fields(self):  # type: ignore[arg-type]  # subclasses are frozen dataclasses
            vars(self)[one.name] = plain_options(getattr(self, one.name))
        whole_number(where, "seed", getattr(self, "seed", 0), least=0)
        for name in names:
            sizes = getattr(self, name)
            several = isinstance(sizes, (tuple, list))
            found = whole_numbers(where, name, sizes, least=1)
            vars(self)[name] = found if several else found[0]


@dataclass(frozen=True)
class TrainingReport:
    """Training summary of a generator.

    Args:
        epochs: number of completed epochs.
        seconds: wall-clock duration in seconds.
        ended: stopping rule: ``"patience"`` (no lower held-out loss), ``"epochs"`` or
            ``"interrupted"`` (Ctrl-C).
        loss: lowest held-out loss. Each kind of network documents its loss.
        figures: further measurements on held-out designs and on draws of the prior, by name.
        remarks: warnings for users of the network, one sentence each.
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
        head = (
            f"{self.epochs} epochs in {self.seconds:.1f} s ({self.ended}); "
            f"held-out loss {self.loss:.3f}{measured}"
        )
        return printable("\n".join([head, *self.remarks]))

    def to_json(self) -> JSON:
        return asdict(self) | {"figures": dict(self.figures), "remarks": list(self.remarks)}

    @staticmethod
    def from_json(data: JSON) -> TrainingReport:
        loss = float(data["loss"])
        if data["ended"] not in ("patience", "epochs", "interrupted") or math.isnan(loss):
            raise InvalidInputError(
                f"TrainingReport: data must be the output of to_json, got {data!r:.200}"
            )
        return TrainingReport(
            int(data["epochs"]), float(data["seconds"]), data["ended"], loss,
            {name: float(value) for name, value in data["figures"].items()},
            tuple(map(str, data["remarks"])),
        )  # fmt: skip


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during training, after at least one epoch; a ``KeyboardInterrupt`` with the result.

    Args:
        network: network with the weights of the best epoch.
        report: training summary of ``network``.
    """

    def __init__(self, network: nn.Module, report: TrainingReport) -> None:
        super().__init__(
            f"interrupted; the attribute .network holds the best network of {report.epochs} epochs"
        )
        self.network = network
        self.report = report


C = TypeVar("C", bound=GeneratorConfig)


class Generator(nn.Module, ABC, Generic[C]):
    """Network that maps codes ``(n, dim)`` to n designs, with a method ``encode`` if it can invert.

    ``__init__`` takes only the config and draws only initial weights. Each tensor is a parameter
    or a persistent buffer, since loading creates the network on torch's ``meta`` device and
    assigns the stored tensors.

    Args:
        config: architecture and training options.
    """

    Config: ClassVar[type[GeneratorConfig]]
    differentiable: ClassVar[bool] = True
    """True if ``forward`` and ``encode`` map tensors to tensors with gradients.

    Otherwise ``forward`` maps an array of codes to a list of n designs of any type, and ``encode``
    maps such a list to an array of codes. Both then disable gradients themselves.
    """

    def __init__(self, config: C) -> None:
        super().__init__()
        self.config = config

    @property
    def prior(self) -> Prior | Draw | None:
        """Code distribution in training, as for ``Latent(prior=...)``; None stands for N(0, I)."""
        return None

    @abstractmethod
    def forward(self, codes: Any) -> Any:
        """Decode codes ``(n, dim)`` to n designs."""

    @classmethod
    @abstractmethod
    def checked(cls, designs: Designs, config: C) -> NDArray[Any] | list[str]:
        """Return designs in the form used for training; cache keys hash this form and the config.

        Raises:
            InvalidInputError: there are too few designs, or they do not fit ``config``.
        """

    @classmethod
    @abstractmethod
    def fit(
        cls,
        designs: Designs,
        config: C,
        *,
        progress: bool = False,
        device: Device = None,
        valid: Valid | None = None,
    ) -> tuple[Self, TrainingReport]:
        """Train a network on designs; return it in evaluation mode on the CPU, with a report.

        On one machine, equal designs and configs give equal networks. Global random generators
        have no influence.

        Args:
            designs: n training designs in the format of the class.
            config: architecture and training options.
            progress: show a progress bar on stderr.
            device: training device; default: the CPU. Batches are moved there one by one.
            valid: validity check of designs. The report holds the valid share of prior draws.

        Raises:
            InvalidInputError: designs do not fit ``config``, or the loss is not finite.
            TrainingInterrupted: Ctrl-C; the exception holds the best network so far.
        """


def kind_of(name: str) -> type[Generator[Any]]:
    """Return the class of a registered kind of generator.

    Raises:
        InvalidInputError: the name is not registered, or not as a generator.
    """
    found = registry.resolve("generators", name)
    if not (isinstance(found, type) and issubclass(found, Generator)):
        raise InvalidInputError(
            f"registry: generator {name!r} must be a subclass of Generator, got {found!r}"
        )
    return found


@own_settings()
def train_generator(
    designs: Designs,
    config: GeneratorConfig,
    *,
    progress: bool = False,
    device: Device = None,
    valid: Valid | None = None,
) -> tuple[Any, TrainingReport]:
    """Train a network of the config's kind on designs; see ``Generator.fit``."""
    return kind_of(config.kind).fit(designs, config, progress=progress, device=device, valid=valid)


@own_settings()
def sampled(network: Generator[Any], rng: np.random.Generator, n: int) -> Designs:
    """Draw n codes from the network's prior and decode them without gradients."""
    # Numpy draws codes in float64 from ``rng``; networks compute in float32.
    codes = draw_codes(network.prior, rng, n, network.config.dim)
    with torch.no_grad():
        return network(
            torch.as_tensor(codes, dtype=torch.float32) if network.differentiable else codes
        )
