"""sha256 of what an oracle computes with, told without calling it: source, parameters, fitted state, a file.

A digest covers what can be read steadily, not everything a program may depend on. So another digest means another
oracle, and the same digest does not prove that nothing changed. Nothing is pickled, nothing heavy imported.
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
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MOST = 1 << 29
"""Bytes that are read of one oracle; of a larger one nothing is told."""
_DEEPEST = 40
_LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
}
_CHANCE = (
    np.random.Generator,
    np.random.RandomState,
    np.random.BitGenerator,
    np.random.SeedSequence,
    random.Random,
)
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


class Digest(NamedTuple):
    """A sha256 in hexadecimal digits, and what it is of, in words."""

    sha256: str
    of: str


def digest(thing: Any) -> Digest | None:
    """The digest of a function, a torch module, a fitted estimator, or an object of a class of the user's.

    Of a function: its source without comments, its defaults, and the functions, modules, estimators, arrays and
    constants it names. Generators of random numbers and what an object counts or caches are left out, as they change
    from call to call.

    Returns:
        None where there is nothing to read, as of a builtin, or more than half a gigabyte.
    """
    reading = _Reading()
    try:
        reading.read(thing)
    except (
        Exception
    ):  # whatever somebody's object does when it is looked at, its study can do without a digest
        return None
    return Digest(reading.total.hexdigest(), _words(thing)) if reading.found else None


def file_digest(path: str | Path) -> Digest | None:
    """The digest of a file's content; None where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return Digest(
                hashlib.file_digest(file, "sha256").hexdigest(), f"file {Path(path).name}"
            )
    except OSError:
        return None


def text_digest(text: str, of: str) -> Digest:
    """The digest of a text."""
    return Digest(hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest(), of)


def joined(digests: Sequence[Digest | None]) -> Digest | None:
    """One digest of several; None where none of them is known."""
    known = [one for one in digests if one is not None]
    if len(known) < 2:
        return known[0] if known else None
    content = " ".join("-" if one is None else one.sha256 for one in digests)
    return Digest(
        hashlib.sha256(content.encode()).hexdigest(), " and ".join(one.of for one in known)
    )


def is_torch_module(thing: Any) -> bool:
    """Recognised by name, so that torch is not imported for those who do not use it."""
    return any(
        c.__name__ == "Module" and c.__module__.startswith("torch.") for c in type(thing).__mro__
    )


class _Reading:
    """One walk through what hangs together."""

    def __init__(self) -> None:
        self.total = hashlib.sha256()
        self.found = False
        """Whether there was anything but names."""
        self._bytes = 0
        self._seen: dict[int, Any] = {}

    def read(self, thing: Any, depth: int = 0) -> None:
        """Take in one thing and what it is made of; each once, however it hangs together."""
        if isinstance(thing, _PLAIN):
            self._feed(type(thing).__name__, repr(thing).encode("utf-8", "backslashreplace"))
            return
        if id(thing) in self._seen or depth > _DEEPEST:
            self._feed("again", b"")
            return
        self._seen[id(thing)] = thing  # kept, so that its id is nobody else's meanwhile
        if isinstance(thing, (np.ndarray, np.generic)):
            self._array(np.asarray(thing), depth)
        elif isinstance(thing, (bytearray, memoryview)):
            self._feed("bytes", bytes(thing))
        elif _is_tensor(thing):
            self._array(_numbers(thing), depth)
        elif is_torch_module(thing):
            self._module(thing, depth)
        elif isinstance(thing, types.FunctionType):
            self._function(thing, depth)
        elif isinstance(thing, types.MethodType):
            self._all("method", [thing.__func__], depth)
            self.read(thing.__self__, depth + 1)
        elif isinstance(thing, functools.partial):
            self._all("partial", [thing.func, thing.args, thing.keywords], depth)
        elif isinstance(thing, Mapping):
            self._all(
                "map",
                [part for key in sorted(thing, key=repr) for part in (key, thing[key])],
                depth,
            )
        elif isinstance(thing, Set):
            self._all("set", sorted(thing, key=repr), depth)
        elif isinstance(thing, Sequence):
            self._all("list", thing, depth)
        elif is_estimator(thing):
            self._estimator(thing, depth)
        else:
            self._object(thing, depth)

    def _feed(self, kind: str, content: bytes) -> None:
        self._bytes += len(content)
        if self._bytes > _MOST:
            raise OverflowError("too much to read")
        self.total.update(f"{kind} {len(content)} ".encode())
        self.total.update(content)

    def _all(self, kind: str, things: Sequence[Any], depth: int) -> None:
        self._feed(kind, str(len(things)).encode())
        for one in things:
            self.read(one, depth + 1)

    def _array(self, array: np.ndarray[Any, Any], depth: int) -> None:
        self.found = True
        if array.dtype.names:  # field by field: what pads a record is whatever was in memory
            for name in array.dtype.names:
                self._feed("field", name.encode())
                self._array(array[name], depth)
        elif array.dtype.hasobject:
            self._all("objects", array.ravel().tolist(), depth)
        else:
            self._feed(f"{array.dtype.str} {array.shape}", np.ascontiguousarray(array).tobytes())

    def _module(self, module: Any, depth: int) -> None:
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
        named = {**closed.globals, **closed.nonlocals}
        self._pieces(named, depth, plain=True)

    def _estimator(self, estimator: Any, depth: int) -> None:
        self.found = True
        self._feed("estimator", _name(type(estimator)).encode())
        self._class(type(estimator))
        self._state(estimator, depth)

    def _object(self, thing: Any, depth: int) -> None:
        if isinstance(thing, _CHANCE):
            self._feed("chance", b"")
        elif isinstance(thing, type) or not is_installed(type(thing)):
            kind = thing if isinstance(thing, type) else type(thing)
            self._feed("class", kind.__qualname__.encode())
            self._class(kind)
            self._pieces(
                {} if isinstance(thing, type) else getattr(thing, "__dict__", {}), depth, plain=True
            )
        elif (
            depth and not callable(thing) and not isinstance(thing, types.ModuleType)
        ):  # a part of an estimator
            self._feed("object", _name(type(thing)).encode())
            self._state(thing, depth)
        else:
            self._feed(
                "name", str(getattr(thing, "__qualname__", type(thing).__qualname__)).encode()
            )

    def _state(self, thing: Any, depth: int) -> None:
        state = thing.__getstate__()
        if isinstance(state, dict):  # how it computes, not what
            state = {
                name: value for name, value in state.items() if name not in ("n_jobs", "verbose")
            }
        if state is not None:
            self.read(state, depth + 1)

    def _class(self, kind: type) -> None:
        if not is_installed(kind) and id(kind) not in self._seen:
            self._seen[id(kind)] = kind
            self._source(kind)

    def _source(self, code: Any) -> None:
        try:
            text = inspect.getsource(code)
        except (OSError, TypeError):  # typed at a prompt, or made by a program
            return
        self.found = True
        self._feed("source", "\n".join(_tokens(text)).encode("utf-8", "backslashreplace"))

    def _pieces(self, named: Mapping[str, Any], depth: int, plain: bool = False) -> None:
        """What belongs to an oracle of the things it names; what it counts or caches in does not."""
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


def is_estimator(thing: Any) -> bool:
    """Whether it looks like scikit-learn's, or is a booster."""
    names = ("get_params", "model_to_string", "save_raw")
    return (
        not isinstance(thing, type)
        and hasattr(thing, "predict")
        and any(hasattr(thing, name) for name in names)
    )


def _is_tensor(thing: Any) -> bool:
    return any(
        c.__name__ == "Tensor" and c.__module__.startswith("torch") for c in type(thing).__mro__
    )


def _numbers(tensor: Any) -> np.ndarray[Any, Any]:
    """A tensor's content; its bytes where numpy has no such type."""
    plain = tensor.detach().cpu().contiguous()
    try:
        return np.asarray(plain.numpy())
    except TypeError:
        return np.asarray(plain.reshape(-1).view(sys.modules["torch"].uint8).numpy())


@functools.cache
def _libraries() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(
        str(Path(paths[name]).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")
    )


def is_installed(code: Any) -> bool:
    """Whether a function or class is a library's, whose version says which it is."""
    module = str(getattr(code, "__module__", ""))
    if module.partition(".")[0] in ("builtins", "bo_invert"):
        return (
            module == "builtins"
        )  # a ready problem's source says more than a version between two releases
    try:
        file = inspect.getsourcefile(code) or inspect.getfile(code)
    except (TypeError, OSError):  # compiled, or typed at a prompt
        return module not in ("__main__", "") and module.partition(".")[0] in sys.modules
    return not file.startswith("<") and str(Path(file).resolve()).startswith(_libraries())


def _name(code: Any) -> str:
    """Of a library's, with its module; a user's file is the same whether it is run or imported."""
    return (
        f"{code.__module__}.{code.__qualname__}" if is_installed(code) else str(code.__qualname__)
    )


def _tokens(text: str) -> list[str]:
    """A source's words: neither comments nor layout make another function."""
    try:
        words = tokenize.generate_tokens(io.StringIO(textwrap.dedent(text)).readline)
        return [word.string for word in words if word.type not in _LAYOUT]
    except (tokenize.TokenError, SyntaxError):  # a lambda's lines may be part of a statement
        return text.split()


def _words(thing: Any) -> str:
    if is_torch_module(thing) and (count := sum(p.numel() for p in thing.parameters())):
        return f"{count:,} parameters of {type(thing).__name__}"
    if is_estimator(thing):
        return f"fitted {type(thing).__name__}"
    if isinstance(thing, functools.partial):
        return _words(thing.func)
    return f"source of {getattr(thing, '__qualname__', type(thing).__qualname__)}"


def design_name(design: Any) -> str | None:
    """A short name of a design by its content, the same in every process; None for objects that cannot be compared.

    Numbers, text, arrays and tensors have names, and so have lists and dicts of these in any depth. Types count where
    an oracle can see them: 1 is not 1.0, and single precision is not double. 0.0 and -0.0 are one number, a list and
    a tuple one list, and the order of a dict does not matter.
    """
    digest = hashlib.sha256()
    try:
        for part in _content(design):
            digest.update(part)
    except (TypeError, RecursionError):
        return None
    return digest.hexdigest()


def _content(value: Any) -> Iterator[bytes]:
    """The value as bytes; every part says what it is and how long, so that no two values have the same."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        value = value + 0.0  # -0.0 is 0.0
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if value is None or isinstance(value, (bool, int, float, complex)):
        yield f"{type(value).__name__} {value!r};".encode()
    elif isinstance(value, (str, bytes)):
        text = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        yield f"{type(value).__name__} {len(text)} ".encode() + text
    elif isinstance(value, np.ndarray):
        yield from _array(value)
    elif isinstance(value, (list, tuple)):
        yield f"list {len(value)} ".encode()
        for item in value:
            yield from _content(item)
    elif isinstance(value, Mapping):
        keys = {b"".join(_content(key)): key for key in value}
        yield f"dict {len(keys)} ".encode()
        for name in sorted(keys):
            yield name
            yield from _content(value[keys[name]])
    else:
        raise TypeError(f"{type(value).__name__} has no content that could be compared")


def _array(array: NDArray[Any]) -> Iterator[bytes]:
    if array.dtype.kind == "f":
        array = array + array.dtype.type(0.0)
    if array.dtype.kind not in "biufcUSmM":
        raise TypeError(f"an array of {array.dtype} has no content that could be compared")
    yield f"array {array.dtype.str} {array.shape} ".encode()
    yield array.tobytes()
