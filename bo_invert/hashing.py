"""SHA-256 digests of oracles (source, parameters, fitted state, files) and of designs.

A digest covers the reproducible parts of an oracle, not everything that it depends on. Different
digests mean different oracles; equal digests do not prove that nothing changed. The oracle is
not called, nothing is pickled and no heavy package is imported.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import io
import random
import sys
import sysconfig
import textwrap
import tokenize
import types
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

# Engineering choice: most bytes read of one oracle, half a gigabyte: about a second of hashing.
_MAX_BYTES = 1 << 29
# Engineering choice: largest depth in nodes of nested objects, far below the recursion limit.
_MAX_DEPTH = 40
_LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
}
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


class Digest(NamedTuple):
    """SHA-256 in hexadecimal digits, and a description of its subject."""

    sha256: str
    of: str


def digest(thing: object) -> Digest | None:
    """Compute the digest of a function, a torch module, an estimator or another object.

    The digest of a function covers its source without comments, its defaults, and the functions,
    modules, estimators, arrays and constants that it names. Random generators, counters and
    caches of objects change from call to call and are left out.

    Returns:
        None if there is nothing to read, as of a builtin, or more than half a gigabyte.
    """
    reading = _Reading()
    try:
        reading.read(thing)
    except Exception:  # attributes of foreign objects may raise anything; a digest is optional
        return None
    return Digest(reading.total.hexdigest(), _words(thing)) if reading.found else None


def file_digest(path: str | Path) -> Digest | None:
    """Compute the digest of the content of a file; None if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return Digest(
                hashlib.file_digest(file, "sha256").hexdigest(), f"file {Path(path).name}"
            )
    except OSError:
        return None


def text_digest(text: str, of: str) -> Digest:
    """Compute the digest of a text."""
    return Digest(hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest(), of)


def joined(digests: Sequence[Digest | None]) -> Digest | None:
    """Combine several digests; None if none of them is known."""
    known = [one for one in digests if one is not None]
    if len(known) < 2:
        return known[0] if known else None
    content = " ".join("-" if one is None else one.sha256 for one in digests)
    return text_digest(content, " and ".join(one.of for one in known))


def is_torch_module(thing: object) -> TypeGuard[torch.nn.Module]:
    """Return True for a torch module; the check by name does not import torch."""
    return any(
        c.__name__ == "Module" and c.__module__.startswith("torch.") for c in type(thing).__mro__
    )


class _Reading:
    """Traversal of an object and its parts."""

    def __init__(self) -> None:
        self.total = hashlib.sha256()
        self.found = False
        """True after the first content other than names."""
        self._bytes = 0
        self._seen: dict[int, object] = {}

    def read(self, thing: object, depth: int = 0) -> None:
        """Add an object and its parts to the digest, each once."""
        if isinstance(thing, _PLAIN):
            self._feed(type(thing).__name__, repr(thing).encode("utf-8", "backslashreplace"))
        elif id(thing) in self._seen or depth > _MAX_DEPTH:
            self._feed("again", b"")
        else:
            self._seen[id(thing)] = thing  # a reference, so that the id is not reused
            self._new(thing, depth)

    def _new(self, thing: object, depth: int) -> None:
        match thing:
            case np.ndarray() | np.generic():
                self._array(np.asarray(thing), depth)
            case bytearray() | memoryview():
                self._feed("bytes", bytes(thing))
            case _ if _is_tensor(thing):
                self._array(_numbers(thing), depth)
            case _ if is_torch_module(thing):
                self._module(thing, depth)
            case types.FunctionType():
                self._function(thing, depth)
            case types.MethodType():
                self._all("method", [thing.__func__], depth)
                self.read(thing.__self__, depth + 1)
            case functools.partial():
                self._all("partial", [thing.func, thing.args, thing.keywords], depth)
            case Mapping():
                keys = sorted(thing, key=repr)
                self._all("map", [part for key in keys for part in (key, thing[key])], depth)
            case Set():
                self._all("set", sorted(thing, key=repr), depth)
            case Sequence():
                self._all("list", thing, depth)
            case _ if is_estimator(thing):
                self.found = True
                self._feed("estimator", _name(type(thing)).encode())
                self._class(type(thing))
                self._state(thing, depth)
            case (
                np.random.Generator()
                | np.random.RandomState()
                | np.random.BitGenerator()
                | np.random.SeedSequence()
                | random.Random()
            ):
                self._feed("chance", b"")
            case type():
                self._feed("class", thing.__qualname__.encode())
                self._class(thing)
            case _ if not is_installed(type(thing)):
                self._feed("class", type(thing).__qualname__.encode())
                self._class(type(thing))
                self._pieces(getattr(thing, "__dict__", {}), depth, plain=True)
            case _ if depth and not callable(thing) and not isinstance(thing, types.ModuleType):
                self._feed("object", _name(type(thing)).encode())  # a part of an estimator
                self._state(thing, depth)
            case _:
                name = getattr(thing, "__qualname__", type(thing).__qualname__)
                self._feed("name", str(name).encode())

    def _feed(self, kind: str, content: bytes) -> None:
        self._bytes += len(content)
        if self._bytes > _MAX_BYTES:
            raise OverflowError("too much to read")
        self.total.update(f"{kind} {len(content)} ".encode())
        self.total.update(content)

    def _all(self, kind: str, things: Sequence[object], depth: int) -> None:
        self._feed(kind, str(len(things)).encode())
        for one in things:
            self.read(one, depth + 1)

    def _array(self, array: np.ndarray[Any, Any], depth: int) -> None:
        self.found = True
        if array.dtype.names:  # field by field, because the padding of records is arbitrary
            for name in array.dtype.names:
                self._feed("field", name.encode())
                self._array(array[name], depth)
        elif array.dtype.hasobject:
            self._all("objects", array.ravel().tolist(), depth)
        else:
            self._feed(f"{array.dtype.str} {array.shape}", np.ascontiguousarray(array).tobytes())

    def _module(self, module: torch.nn.Module, depth: int) -> None:
        self.found = True
        self._feed("module", repr(module).encode("utf-8", "backslashreplace"))
        for name, tensor in module.state_dict().items():
            self._feed("tensor", name.encode())
            if _is_tensor(tensor):
                self._array(_numbers(tensor), depth)
        for part in module.modules():
            self._class(type(part))
            self._pieces(vars(part), depth)

    def _function(self, function: types.FunctionType, depth: int) -> None:
        self._feed("function", _name(function).encode())
        if is_installed(function):
            return
        self._source(function)
        self._all("defaults", [function.__defaults__ or (), function.__kwdefaults__ or {}], depth)
        closed = inspect.getclosurevars(function)
        self._pieces({**closed.globals, **closed.nonlocals}, depth, plain=True)

    def _state(self, thing: object, depth: int) -> None:
        state = thing.__getstate__()
        if isinstance(state, dict):  # parallelism and messages do not affect results
            state = {k: value for k, value in state.items() if k not in ("n_jobs", "verbose")}
        if state is not None:
            self.read(state, depth + 1)

    def _class(self, kind: type) -> None:
        if not is_installed(kind) and id(kind) not in self._seen:
            self._seen[id(kind)] = kind
            self._source(kind)

    def _source(self, code: Callable[..., object]) -> None:
        try:
            text = inspect.getsource(code)
        except (OSError, TypeError):  # interactive or generated code has no source
            return
        self.found = True
        self._feed("source", "\n".join(_tokens(text)).encode("utf-8", "backslashreplace"))

    def _pieces(self, named: Mapping[str, object], depth: int, plain: bool = False) -> None:
        """Add the named objects that belong to an oracle; counters and caches do not."""
        for name in sorted(named):
            value = named[name]
            settled = isinstance(value, (str, float, tuple, frozenset)) or (
                type(value) is int and name.isupper()
            )
            machine = isinstance(
                value, (types.FunctionType, types.MethodType, functools.partial, np.ndarray)
            )
            if machine or is_torch_module(value) or is_estimator(value) or (plain and settled):
                self._feed("piece", name.encode())
                self.read(value, depth + 1)


def is_estimator(thing: object) -> bool:
    """Return True for scikit-learn estimators and boosters of LightGBM and XGBoost."""
    return (
        not isinstance(thing, type)
        and hasattr(thing, "predict")
        and any(hasattr(thing, name) for name in ("get_params", "model_to_string", "save_raw"))
    )


def _is_tensor(thing: object) -> TypeGuard[torch.Tensor]:
    return any(
        c.__name__ == "Tensor" and c.__module__.startswith("torch") for c in type(thing).__mro__
    )


def _numbers(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """Convert a tensor to an array; to its bytes if numpy lacks the dtype."""
    plain = tensor.detach().cpu().contiguous()
    try:
        return np.asarray(plain.numpy())
    except TypeError:
        return np.asarray(plain.reshape(-1).view(sys.modules["torch"].uint8).numpy())


@functools.cache
def _libraries() -> tuple[str, ...]:
    return tuple(
        str(Path(sysconfig.get_path(name)).resolve())
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
    )


def is_installed(code: Callable[..., object]) -> bool:
    """Return True for code of an installed library, which a version identifies."""
    module = str(getattr(code, "__module__", ""))
    if module.partition(".")[0] in ("builtins", "bo_invert"):
        # Between two releases the source of a ready-made problem identifies more than a version.
        return module == "builtins"
    try:
        file = inspect.getsourcefile(code) or inspect.getfile(code)
    except (TypeError, OSError):  # compiled or interactive code
        return module not in ("__main__", "") and module.partition(".")[0] in sys.modules
    return not file.startswith("<") and str(Path(file).resolve()).startswith(_libraries())


def _name(code: Callable[..., object]) -> str:
    """Return the name of code, with the module for libraries; a user file may be ``__main__``."""
    return (
        f"{code.__module__}.{code.__qualname__}" if is_installed(code) else str(code.__qualname__)
    )


def _tokens(text: str) -> list[str]:
    """Split source code into tokens without comments and layout."""
    try:
        words = tokenize.generate_tokens(io.StringIO(textwrap.dedent(text)).readline)
        return [word.string for word in words if word.type not in _LAYOUT]
    except (tokenize.TokenError, SyntaxError):  # lines of a lambda may be part of a statement
        return text.split()


def _words(thing: object) -> str:
    if is_torch_module(thing) and (count := sum(p.numel() for p in thing.parameters())):
        return f"{count:,} parameters of {type(thing).__name__}"
    if is_estimator(thing):
        return f"fitted {type(thing).__name__}"
    if isinstance(thing, functools.partial):
        return _words(thing.func)
    return f"source of {getattr(thing, '__qualname__', type(thing).__qualname__)}"


def design_name(design: object) -> str | None:
    """Compute a name of a design from its content, equal in all processes.

    Numbers, text, arrays, tensors, and nested lists and dicts of these have names. Types count:
    1 differs from 1.0, single precision from double. 0.0 equals -0.0, a list equals a tuple, and
    the order of a dict does not count.

    Returns:
        None for objects that cannot be compared.
    """
    digest = hashlib.sha256()
    try:
        for part in _content(design):
            digest.update(part)
    except (TypeError, RecursionError):
        return None
    return digest.hexdigest()


def _content(value: object) -> Iterator[bytes]:
    """Yield the value as bytes; type and length precede each part, so the code is injective."""
    match value:
        case np.generic():
            yield from _content(value.item())
        case float():
            yield f"float {value + 0.0!r};".encode()  # -0.0 is 0.0
        case _ if hasattr(value, "detach"):
            yield from _content(value.detach().cpu().numpy())
        case None | bool() | int() | complex():
            yield f"{type(value).__name__} {value!r};".encode()
        case str() | bytes():
            text = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
            yield f"{type(value).__name__} {len(text)} ".encode() + text
        case np.ndarray():
            yield from _array(value)
        case list() | tuple():
            yield f"list {len(value)} ".encode()
            for item in value:
                yield from _content(item)
        case Mapping():
            keys = {b"".join(_content(key)): key for key in value}
            yield f"dict {len(keys)} ".encode()
            for name in sorted(keys):
                yield name
                yield from _content(value[keys[name]])
        case _:
            raise TypeError(f"{type(value).__name__} has no content that could be compared")


def _array(array: NDArray[Any]) -> Iterator[bytes]:
    if array.dtype.kind == "f":
        array = array + array.dtype.type(0.0)
    if array.dtype.kind not in "biufcUSmM":
        raise TypeError(f"an array of {array.dtype} has no content that could be compared")
    yield f"array {array.dtype.str} {array.shape} ".encode()
    yield array.tobytes()
