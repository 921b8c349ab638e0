"""Trained models as users have them: which part decodes or encodes, in which form, and advice."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.generators.network_outputs import (
    UserData,
    as_array,
    at,
    code_path,
    design_path,
    means,
    same_entries,
)
from bo_invert.generators.wrapped import (
    ClosedFunction,
    Frozen,
    PlainFunction,
    as_function,
    checked_length,
)
from bo_invert.hashing import is_torch_module
from bo_invert.types import Array, Designs

if TYPE_CHECKING:
    import torch

Network = Frozen | ClosedFunction | PlainFunction
"""Function on batches: arrays in, arrays or other designs out."""

_DECODERS = "decoder", "generator", "netG", "G"
"""Attributes of a model that hold its decoder, best first."""
_ENCODERS = "encoder", "netE", "E"
"""Attributes of a model that hold its encoder, best first."""
_SIZES = "latent_dim", "latent_size", "z_dim", "n_latent", "nz", "n_components_", "n_components"
"""Attributes of a model that hold the length of a code."""
_WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module"}
"""Classes around a module, with the attribute that holds it."""


def decoding(model: object, codes: Array, device: str | torch.device | None) -> Network:
    """Return the decoder of a model as a function from codes to designs.

    It is the first of these that accepts codes: a method ``decode``, the model itself, its part
    ``decoder`` or ``generator``, and the methods ``inverse_transform`` and ``predict``. Functions
    that reject arrays receive tensors. Decoders of images may take codes ``(n, dim, 1, 1)``.

    Args:
        model: module, function, or object with one of these methods.
        codes: typical codes, shape ``(n, dim)``.
        device: device of torch modules; default: that of their parameters.

    Raises:
        InvalidInputError: the model is no model, or all calls fail.
    """
    model = _checked(model, "decoder")
    failures: list[Exception] = []
    parts = [_method(model, "decode"), _itself(model), *_attributes(model, _DECODERS)]
    parts += [_method(model, "inverse_transform"), _method(model, "predict")]
    networks = list(_forms(parts, "Latent: the decoder", device))
    for network in networks:
        for shape in None, (codes.shape[1], 1, 1):
            called = network.at((), shape)
            output, failure = attempted(partial(called.raw, codes))
            if failure is None:
                return called.at(design_path(output, len(codes)), shape)
            failures.append(failure)
    cause = _informative(failures)
    raise InvalidInputError(
        f"Latent: the decoder fails on {len(codes)} rows of shape {codes.shape[1:]}: "
        f"{type(cause).__name__}: {cause}. {_advice(model, codes, networks, failures)}Check "
        "that dim is the length of a code."
    ) from cause


class Encoding:
    """Encoder of a model, called in the form that the designs need.

    Args:
        model: module, function, or object with a method ``encode``, ``transform`` or ``predict``,
            or with a part ``encoder``.
        device: device of torch modules; default: that of their parameters.
        whole: the model also decodes, so that its call is tried last.

    Raises:
        InvalidInputError: the model is no model.
    """

    def __init__(
        self, model: object, device: str | torch.device | None, whole: bool = False
    ) -> None:
        model = _checked(model, "encoder")
        own, inner = _itself(model), _attributes(model, _ENCODERS)
        parts = [_method(model, "encode"), *([*inner, own] if whole else [own, *inner])]
        parts += [_method(model, "transform"), _method(model, "predict")]
        self._networks = list(_forms(parts, "Latent: the encoder", device))

    @staticmethod
    def of(decoder: object, device: str | torch.device | None) -> Encoding | None:
        """Return the encoder of a model that decodes; None if it has none."""
        known = [_method(decoder, name) for name in ("encode", "transform")]
        if all(one is None for one in (*known, *_attributes(decoder, _ENCODERS))):
            return None
        return Encoding(decoder, device, whole=True)

    def __call__(self, designs: Designs, dim: int, shape: Sequence[int] | None) -> Designs:
        """Return the codes ``(n, dim)`` of n designs.

        Args:
            designs: designs; arrays of images may be flat or have an axis of channels.
            dim: length of a code.
            shape: shape of a decoded design; None if designs are no arrays.

        Raises:
            InvalidInputError: the encoder fails, or returns no codes.
        """
        failures: list[Exception] = []
        for network in self._networks:
            for row in row_shapes(designs[:2], shape):
                called = network.at((), row)
                codes, failure = attempted(partial(_coded, called, designs, dim))
                if failure is None:
                    checked_length(codes, len(designs), "Latent: the encoder")
                    return means(codes, dim) if isinstance(codes, np.ndarray) else codes
                failures.append(failure)
        cause = _informative(failures)
        if isinstance(cause, InvalidInputError):
            raise cause
        last = np.shape(designs[0])
        turn = len(last) == 3 and last[-1] in (1, 3, 4)
        raise InvalidInputError(
            f"Latent: the encoder fails on {len(designs)} rows of shape {last}: "
            f"{type(cause).__name__}: {cause}. "
            + ("If it takes the channels first, pass numpy.moveaxis(data, -1, 1). " if turn else "")
            + "Check that it takes a batch of designs, or pass encoder=..., a function from "
            "designs to the means of their codes."
        ) from cause


def attempted(call: Callable[[], UserData]) -> tuple[UserData, Exception | None]:
    """Return the result of a call of user code, or its failure: another form may work."""
    try:
        return call(), None
    except Exception as error:
        return None, error


def _coded(network: Network, designs: Designs, dim: int) -> UserData:
    """Return the codes of n designs; networks show the form of their output for two of them."""
    few = designs[:2]
    again = partial(network.raw, few)
    if isinstance(network, PlainFunction):  # called once, because it may be slow
        output = network.raw(designs)
        return as_array(at(output, code_path(output, again, len(designs), dim, alone=False)))
    path = code_path(again(), again, len(few), dim, alone=True)
    return network.at(path, network.shape)(designs)


def row_shapes(designs: Designs, shape: Sequence[int] | None) -> Iterator[tuple[int, ...] | None]:
    """Yield the shapes in which an encoder may take designs: as they are, decoded, flat, image."""
    yield None
    try:
        own = np.shape(designs)[1:]
    except (TypeError, ValueError, RuntimeError):  # no arrays of equal shapes
        return
    size = math.prod(own)
    found: list[tuple[int, ...]] = []
    if shape is not None and same_entries(own, shape):
        found.append(tuple(shape))
    found += [(size,), (1, *own)] if len(own) > 1 else []
    found += [own[1:]] if len(own) == 3 and own[0] == 1 else []
    yield from dict.fromkeys(one for one in found if one != own)


def checked_data(data: Designs) -> Designs:
    """Return the real designs of a latent.

    Raises:
        InvalidInputError: they are no batch of designs: a data loader, a data set of torch, a pair
            of inputs and labels, an empty list, or numbers that are not finite.
    """
    kind = type(data)
    if any(one.__module__.startswith("torch.utils.data") for one in kind.__mro__):
        rows = (
            "[batch[0] for batch in loader]"
            if hasattr(data, "batch_size")
            else ("[item[0][None] for item in dataset]")
        )
        raise InvalidInputError(
            f"Latent: data must be an array (n, ...) or a list of designs, got {kind.__name__}. "
            f"Write data=torch.cat({rows})."
        )
    if isinstance(data, tuple) and len(data) == 2 and len(np.shape(data[0])) > 1:
        raise InvalidInputError(
            "Latent: data must be designs only, got a pair. Write data=inputs, without the labels."
        )
    if len(data) == 0:
        raise InvalidInputError(
            "Latent: data must not be empty. Pass real designs, or omit data to use the prior."
        )
    kinds = getattr(getattr(data, "dtype", None), "kind", "")
    if kinds == "f" and not np.isfinite(cast("Array", data)).all():
        raise InvalidInputError("Latent: data must be finite, got NaN or inf. Remove these designs")
    return data


def _forms(
    parts: Sequence[object], who: str, device: str | torch.device | None
) -> Iterator[Network]:
    """Yield parts as functions on arrays; those of torch that reject arrays also on tensors."""
    for part in parts:
        if part is None:
            continue
        network = as_function(part, who, device)
        yield network
        if isinstance(network, PlainFunction) and "torch" in sys.modules and callable(part):
            yield ClosedFunction(part, who)


def _checked(model: object, role: str) -> object:
    """Return a model without wrappers; raise an error for what is no model."""
    while (inner := _WRAPPERS.get(type(model).__name__)) or hasattr(model, "_orig_mod"):
        model = getattr(model, inner or "_orig_mod")
    where = f"Latent: the {role} must be a torch module, a callable on batches or an object with"
    where += " the method decode" if role == "decoder" else " the method encode"
    if isinstance(model, type):
        raise InvalidInputError(
            f"{where}, got the class {model.__name__}. Pass an instance with trained weights."
        )
    if isinstance(model, Mapping):
        raise InvalidInputError(
            f"{where}, got a dict of weights. Write model = MyVAE(...); "
            "model.load_state_dict(weights), and pass the model."
        )
    if isinstance(model, (tuple, list)):
        raise InvalidInputError(
            f"{where}, got a {type(model).__name__}. Write bi.Latent(decoder, dim, "
            "encoder=encoder)."
        )
    parts = ("decode", "encode", "inverse_transform", "transform", "predict")
    known = (*_DECODERS, *_ENCODERS, *parts)
    if isinstance(model, (str, bytes)) or hasattr(model, "__fspath__"):
        raise InvalidInputError(
            f"{where}, got {model!r}. Load the model first, for example with torch.load."
        )
    if not callable(model) and not any(hasattr(model, name) for name in known):
        raise InvalidInputError(f"{where}, got {type(model).__name__}.")
    return model


def _itself(model: object) -> object:
    return model if callable(model) else None


def _method(model: object, name: str) -> Callable[..., Any] | None:
    found = getattr(model, name, None)
    return found if callable(found) and not isinstance(found, type) else None


def _attributes(model: object, names: Sequence[str]) -> list[object]:
    """Return the parts of a model with these names that can be called, or that predict."""
    found = [getattr(model, name, None) for name in names]
    return [
        one if callable(one) else one.predict
        for one in found
        if one is not None and (callable(one) or _method(one, "predict"))
    ]


def _informative(failures: Sequence[Exception]) -> Exception:
    """Return the failure to show: a check of this library, or one that is not about array types."""

    def rank(error: Exception) -> int:
        arrays = "ndarray" in str(error) or "numpy" in str(error)
        return 0 if isinstance(error, InvalidInputError) else 2 if arrays else 1

    return min(failures, key=rank)


def _advice(
    model: object, codes: Array, networks: Sequence[Network], failures: Sequence[Exception]
) -> str:
    """Return a sentence that says what to write instead; empty if the cause is unknown.

    Args:
        model: model of the user.
        codes: codes that it does not accept, shape ``(n, dim)``.
        networks: calls of the model and of its parts.
        failures: failures of these calls.
    """
    text = " ".join(map(str, failures))
    if re.search(r"missing \d+ required positional argument", text):
        return (
            "It needs more inputs than the code. Write decoder=lambda z: model.decode(z, label) "
            "with fixed values. "
        )
    children = [name for name, _ in model.named_children()] if is_torch_module(model) else []
    lengths = _code_lengths(model, text)
    whole = 0
    for length in lengths:
        accepted = _accepting(networks, codes, length)
        if accepted and not all(accepted):
            return f"It takes codes of length {length}: write dim={length}. "
        whole = whole or (length if accepted else 0)
    if whole and children:
        return (
            f"It takes and returns rows of length {whole}, like a whole autoencoder: pass the part "
            f"that decodes; {children} are its parts. "
        )
    if whole:
        return f"It takes codes of length {whole}: write dim={whole}. "
    if re.search(r"[Ee]xpected .*(3D|4D)|expected .* to have \d+ channels", text):
        return (
            "Its codes are images. Write decoder=lambda z: model.decode(z.reshape(-1, c, h, w)) "
            "and dim=c*h*w. "
        )
    if children and _method(model, "decode") is None:
        return f"Pass the part that decodes, or a function of it; {children} are its parts. "
    return ""


_LENGTHS = (
    r"shapes cannot be multiplied \(\d+x\d+ and (\d+)x\d+\)",
    r"size (\d+) is different from \d+",
    r"shape '\[-1, (\d+)(?:, 1)*\]'",
    r"Provided sizes \[(\d+)(?:, 1)*\]",
    r"is expecting (\d+) features",
)
"""Lengths of rows in messages of torch, numpy and scikit-learn."""


def _code_lengths(model: object, text: str) -> list[int]:
    """Return lengths of codes that a model may take: its attributes, then those in messages."""
    known = [getattr(model, name, None) for name in _SIZES]
    sizes = [one for one in known if isinstance(one, int)]
    sizes += [int(found) for pattern in _LENGTHS for found in re.findall(pattern, text)]
    return list(dict.fromkeys(sizes))


def _accepting(networks: Sequence[Network], codes: Array, length: int) -> list[bool]:
    """Return an entry for each call that accepts codes of a length: True if it returns rows of it.

    A whole autoencoder accepts designs and returns designs.
    """
    found = []
    for network in networks:
        for shape in None, (length, 1, 1):
            called = network.at((), shape)
            output, failure = attempted(partial(called.raw, np.zeros((len(codes), length))))
            if failure is None:
                designs = as_array(at(output, design_path(output, len(codes))))
                found.append(getattr(designs, "shape", ())[1:] == (length,))
                break
    return found
