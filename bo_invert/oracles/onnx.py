"""ONNX model as an oracle (extra ``onnx``)."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from bo_invert.errors import FailedError, InvalidInputError, one_of, require, require_package
from bo_invert.execution.process_local import process_local
from bo_invert.hashing import Digest
from bo_invert.oracles.base import Oracle, answer_each
from bo_invert.types import JSON, Design

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(string)": np.object_,
    **{f"tensor({name})": np.dtype(name) for name in ("float16", "bool", "int8", "int16", "int32")},
    **{f"tensor({name})": np.dtype(name) for name in ("int64", "uint8", "uint16", "uint32")},
    "tensor(uint64)": np.uint64,
}
"""Numpy dtypes of the tensor types of ONNX."""


class Onnx(Oracle):
    """Oracle that runs an ONNX model with onnxruntime on one thread; it has no gradient.

    Designs are converted to the dtype and shape of the model's inputs, and axes of length 1 are
    added or removed. A model with a fixed batch size runs padded batches. A design of another shape
    fails alone.

    For a model with one input, a dict design becomes a row of its numbers. For several inputs, a
    design is a dict with their names. Several outputs keep their names; a vector output gives
    ``name[0], name[1], ...``, and an output that is a dict of classes gives the classes.

    Args:
        model: path of the file, or its bytes. Worker processes open the same path and reject a file
            that has changed.
        outputs: names of the outputs; required if one tensor holds several. Names of the model's
            outputs select among them. Default: the names in the model, if each is a single number.
        input: input of the model for the designs, if its other inputs are optional.
        providers: execution providers of onnxruntime in order of preference, for example
            ``["CUDAExecutionProvider"]``.

    Raises:
        InvalidInputError: the model is unreadable, needs inputs that are not tensors, or has no
            input of this name.
        MissingExtraError: onnxruntime is not installed.
    """

    batched = True

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        outputs: Sequence[str] | None = None,
        input: str | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        self._content = bytes(model) if isinstance(model, (bytes, bytearray)) else None
        self.path = None if isinstance(model, (bytes, bytearray)) else os.path.abspath(model)
        self.providers = [providers] if isinstance(providers, str) else list(providers)
        self.sha256 = hashlib.sha256(self._read()).hexdigest()
        session = self._session
        self._inputs = {one.name: (one.type, tuple(one.shape)) for one in session.get_inputs()}
        if input is not None:
            one_of("Onnx", "input", input, self._inputs)
            self._inputs = {input: self._inputs[input]}
        for name, (kind, _) in self._inputs.items():
            require(
                kind in _DTYPES,
                f"Onnx: inputs of the model must be tensors, got {kind} for {name!r}",
            )
        sizes = {
            one.name: math.prod(n if isinstance(n, int) else 0 for n in one.shape[1:])
            for one in session.get_outputs()
            if one.type.startswith("tensor")
        }
        there = [one.name for one in session.get_outputs()]
        bases = [name if name in there else name.partition("[")[0] for name in outputs or ()]
        # Outputs that are not selected may be expensive.
        known = bases and set(bases) <= set(there)
        self._asked = list(dict.fromkeys(bases)) if known else there
        single = all(sizes.get(name) == 1 for name in self._asked)
        names = self._asked if outputs is None and single else outputs
        self.outputs = None if names is None else tuple(names)
        self.batched = not any(_batch_of(shape) in (0, 1) for _, shape in self._inputs.values())

    def _read(self) -> bytes:
        if self._content is not None or self.path is None:
            return self._content or b""
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise InvalidInputError(f"Onnx: {self.path} cannot be read: {error.strerror}") from None

    @process_local
    def _session(self) -> InferenceSession:
        """Open the model."""
        with require_package("Onnx", "onnxruntime", "onnx"):
            import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # workers run in parallel
        options.log_severity_level = 3
        for name in self.providers:
            one_of("Onnx", "each of providers", name, onnxruntime.get_available_providers())
        content = self._read()
        require(
            hashlib.sha256(content).hexdigest() == self.sha256,
            f"Onnx: {self.path} must not change after the oracle was created",
        )
        try:  # prefers the path, because weights may lie in further files
            return onnxruntime.InferenceSession(
                self.path or content, sess_options=options, providers=self.providers
            )
        except Exception as error:
            raise InvalidInputError(
                f"Onnx: {self.path or 'the model'} cannot be loaded: {error!s:.300}"
            ) from None

    def __call__(self, designs: Sequence[Design]) -> list[Any]:
        """Return a row of outputs, or an error for a design of another shape, for each design."""
        return answer_each(designs, self._fed, self._run)

    def _fed(self, design: Design) -> dict[str, NDArray[Any]]:
        """Return the inputs of the model for a design, without the batch axis."""
        several, names = len(self._inputs) > 1, list(self._inputs)
        by_name = isinstance(design, Mapping) and (several or set(names) <= set(design))
        require(
            by_name or not several, f"designs must be dicts with the inputs {names} of the model"
        )
        missing = [name for name in names if by_name and name not in design]
        require(not missing, f"the design must have the inputs {missing}, got {design!r:.200}")
        row = list(design.values()) if isinstance(design, Mapping) else design
        return {
            name: _fitted(name, *self._inputs[name], design[name] if by_name else row)
            for name in names
        }

    def _run(self, feeds: list[dict[str, NDArray[Any]]]) -> list[Any]:
        session = self._session
        fixed = [
            max(1, n) for _, shape in self._inputs.values() if (n := _batch_of(shape)) is not None
        ]
        size = max(fixed) if fixed else max(1, len(feeds))
        rows: list[Any] = []
        for start in range(0, len(feeds), size):
            part = feeds[start : start + size]
            full = part + [part[-1]] * (size - len(part))  # padding, removed below
            batch = {
                n: full[0][n] if _batch_of(shape) == 0 else np.stack([feed[n] for feed in full])
                for n, (_, shape) in self._inputs.items()
            }
            rows += self._rows(session.run(self._asked, batch), size)[: len(part)]
        return rows

    def _rows(self, results: list[Any], size: int) -> list[Any]:
        if len(results) == 1 and isinstance(results[0], np.ndarray):
            return (
                list(results[0].reshape(size, -1))
                if results[0].size % size == 0
                else self._odd(results[0], size)
            )
        rows: list[dict[str, Any]] = [{} for _ in range(size)]
        for name, result in zip(self._asked, results, strict=True):
            if len(result) != size:
                return self._odd(result, size)
            for row, one in zip(rows, result, strict=True):
                if isinstance(one, Mapping):
                    row.update({str(key): value for key, value in one.items()})
                else:
                    numbers = np.asarray(one).ravel()
                    parts = {f"{name}[{k}]": number for k, number in enumerate(numbers)}
                    row.update({name: numbers[0]} if numbers.size == 1 else parts)
        return list(rows)

    def _odd(self, result: object, size: int) -> NoReturn:
        raise FailedError(
            f"the model must return {size} rows, got shape {np.asarray(result).shape}"
        )

    def digest(self) -> Digest:
        return Digest(
            self.sha256, "model" if self.path is None else f"model {os.path.basename(self.path)}"
        )

    def to_json(self) -> JSON:
        return {
            "type": "onnx",
            "file": self.path and os.path.basename(self.path),
            "sha256": self.sha256,
        }


def _batch_of(shape: tuple[Any, ...]) -> int | None:
    """Return the length of the batch axis: None for any, 0 without such an axis."""
    if not shape or (len(shape) == 1 and isinstance(shape[0], int)):
        return 0
    return shape[0] if isinstance(shape[0], int) else None


def _fitted(name: str, kind: str, shape: tuple[Any, ...], part: object) -> NDArray[Any]:
    """Convert a design to the dtype and shape of an input, without the batch axis.

    Raises:
        InvalidInputError: the design has another shape or type.
    """
    wanted = shape if _batch_of(shape) == 0 else shape[1:]
    part = part.detach().cpu().numpy() if hasattr(part, "detach") else part
    try:
        array = np.asarray(part, dtype=_DTYPES[kind])
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"input {name!r} of the model must be {kind}, got {part!r:.80}"
        ) from None
    if not _matches(array.shape, wanted):
        if not _matches(
            tuple(n for n in array.shape if n != 1), tuple(n for n in wanted if n != 1)
        ):
            listed = tuple(n if isinstance(n, int) else "any" for n in wanted)
            raise InvalidInputError(
                f"designs must have shape {listed} for input {name!r}, got {array.shape}"
            )
        free = iter([n for n in array.shape if n != 1])
        array = array.reshape([1 if n == 1 else next(free) for n in wanted])
    return array


def _matches(shape: tuple[int, ...], wanted: tuple[Any, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        n == m or not isinstance(m, int) for n, m in zip(shape, wanted, strict=True)
    )
