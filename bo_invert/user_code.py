"""Boundary to user code: private copies, settings of torch, constants on devices.

User code may work in place (``X *= scale``) and may set modes of torch around its main program.
It therefore receives copies, its results are snapshots, and it runs under the settings of its
caller. The package computes under ``own_settings``.
"""

from __future__ import annotations

import copy
import functools
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.errors import InvalidInputError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
P = ParamSpec("P")
_PASSED_ON = (
    float, int, bool, complex, str, bytes, type(None), np.generic, BaseException,
    np.random.Generator,
)  # fmt: skip
"""Types of objects that are passed on, as is ``torch.Generator``.

Values cannot change. A copy of a random generator would repeat its numbers.
"""


def private(value: T) -> T:
    """Return a writable, contiguous copy of an array, a tensor, a table or another design.

    Lists, tuples and dicts are copied with all that they contain. The copy of a tensor stays on its
    device and in its graph. Objects that cannot be copied are returned themselves.
    """
    made: Any = value
    kind: Any = type(value)
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        made = np.array(value, order="C", subok=True)
    elif kind is list or kind is tuple:
        made = kind(map(private, made))
    elif isinstance(value, _PASSED_ON) or _is_torch("Generator", value):
        return value
    elif kind is dict:
        made = {key: private(one) for key, one in made.items()}
    elif _is_torch("Tensor", value):
        strided = made.layout is torch_module().strided
        made = (
            made.clone(memory_format=torch_module().contiguous_format) if strided else made.clone()
        )
    else:
        with suppress(Exception):
            made = copy.deepcopy(value)
    return made  # type: ignore[no-any-return]


def _is_torch(name: str, value: object) -> bool:
    """Return True for an object of a class of torch, without an import of torch."""
    cls = getattr(sys.modules.get("torch"), name, None)
    return cls is not None and isinstance(value, cls)


@dataclass(frozen=True)
class UserFunction(Generic[T]):
    """Function of the user: it receives private copies, and its results are snapshots.

    Args:
        fn: any callable.
    """

    fn: Callable[..., T]

    def __call__(self, *args: object) -> T:
        return call_user_code(self.fn, *args)


def call_user_code(fn: Callable[..., T], *args: object) -> T:
    """Call a function with private copies, under the settings of the user; copy its result.

    The modes of torch stay if an argument needs a gradient.
    """
    if _callers.get() is None:  # usual settings
        return private(fn(*map(private, args)))
    graph = any(getattr(one, "requires_grad", False) is True for one in args)
    with user_settings(modes=not graph):
        result = fn(*map(private, args))
    return private(result)


def user_function(fn: Callable[..., T] | None) -> UserFunction[T] | None:
    """Return a callable as a ``UserFunction``; return None and a ``UserFunction`` as they are."""
    return fn if fn is None or isinstance(fn, UserFunction) else UserFunction(fn)


def guard_methods(cls: type, names: Sequence[str]) -> None:
    """Let methods of a user's subclass receive private copies; methods of the package do not.

    Args:
        cls: subclass of a class of the package.
        names: names of methods; only those are changed that ``cls`` itself defines.
    """
    if cls.__module__.partition(".")[0] == __name__.partition(".")[0]:
        return
    for name in names:
        method = vars(cls).get(name)
        if callable(method):
            setattr(cls, name, _guarded(method))


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: object, *args: object) -> object:
        return call_user_code(functools.partial(method, self), *args)

    return call


@dataclass(frozen=True)
class TorchSettings:
    """Settings of torch that a user may change around calls.

    Args:
        device: default device of new tensors.
        dtype: name of the default type of new tensors; None for any.
        gradients: gradients are enabled.
        inference: inference mode is on.
    """

    device: str = "cpu"
    dtype: str | None = None
    gradients: bool = True
    inference: bool = False

    @staticmethod
    def present() -> TorchSettings:
        """Return the settings of this thread, without an import of torch."""
        torch = _loaded_torch()
        if torch is None:
            return _OWN
        return TorchSettings(
            str(torch.empty(0).device), str(torch.get_default_dtype()).removeprefix("torch."),
            torch.is_grad_enabled(), torch.is_inference_mode_enabled(),
        )  # fmt: skip

    @contextmanager
    def applied(self, modes: bool = True) -> Iterator[None]:
        """Apply these settings where they differ from the present ones.

        Args:
            modes: apply the modes of gradients and inference, too.
        """
        now = TorchSettings.present()
        with ExitStack() as stack:
            if self.device != now.device:
                stack.enter_context(torch_module().device(self.device))
            if self.dtype not in (None, now.dtype):
                stack.enter_context(default_dtype(str(self.dtype)))
            if modes and self.modes != now.modes:
                # A change of the inference mode changes the mode of gradients, too.
                if self.inference != now.inference:
                    stack.enter_context(torch_module().inference_mode(self.inference))
                stack.enter_context(torch_module().set_grad_enabled(self.gradients))
            yield

    @property
    def modes(self) -> tuple[bool, bool]:
        """Modes of gradients and of inference."""
        return self.gradients, self.inference


_OWN = TorchSettings()
"""Settings under which the package computes. Its tensors have explicit types."""
_callers: ContextVar[TorchSettings | None] = ContextVar("settings of the caller", default=None)


def _loaded_torch() -> ModuleType | None:
    """Return torch if it is imported completely; another thread may import it now."""
    torch = sys.modules.get("torch")
    # A module in the middle of its import has all names of its Python code before its types in C++
    # are complete; calls crash the process until the import system clears this mark.
    spec = getattr(torch, "__spec__", None)
    return None if spec is None or getattr(spec, "_initializing", False) else torch


def torch_module() -> ModuleType:
    """Import torch late: many uses of the package need no torch."""
    import torch

    return torch


@contextmanager
def default_dtype(name: str) -> Iterator[None]:
    """Set the default type of new tensors. It is global: threads of the user see the change."""
    torch = torch_module()
    before, wanted = torch.get_default_dtype(), getattr(torch, name)
    if before is wanted:
        yield
        return
    torch.set_default_dtype(wanted)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def own_settings() -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator: the function computes under the settings of the package.

    Every public function that computes has it. The settings of the caller are remembered for user
    code. The default type stays, because it is global: tensors of the package have explicit types.
    """

    def decorate(fn: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(fn)
        def call(*args: P.args, **options: P.kwargs) -> T:
            torch = _loaded_torch()
            if torch is None or _usual(torch):  # no context: asks and calls enter here often
                return fn(*args, **options)
            token = _callers.set(TorchSettings.present())
            try:
                with _OWN.applied():
                    return fn(*args, **options)
            finally:
                _callers.reset(token)

        return call

    return decorate


def _usual(torch: ModuleType) -> bool:
    """Return True if the present settings are those of the package."""
    return (
        torch.is_grad_enabled() and not torch.is_inference_mode_enabled() and torch.empty(0).is_cpu
    )


@contextmanager
def user_settings(modes: bool = True) -> Iterator[None]:
    """Run user code under the settings of the caller of the package.

    Args:
        modes: restore the modes of gradients and inference, too; False if gradients are needed.
    """
    caller = _callers.get()
    if caller is None:
        yield
        return
    with caller.applied(modes):
        yield


@dataclass(frozen=True, eq=False)
class _Carried(Generic[T]):
    """Function that runs under the settings of another thread or process.

    Args:
        fn: function to call.
        settings: settings of the caller of the package.
    """

    fn: Callable[..., T]
    settings: TorchSettings

    def __call__(self, *args: object) -> T:
        token = _callers.set(self.settings)
        try:
            with TorchSettings(dtype=self.settings.dtype).applied(modes=False):
                return self.fn(*args)
        finally:
            _callers.reset(token)


def callers_settings() -> TorchSettings | None:
    """Return the present settings of the caller of the package; None for the usual ones."""
    settings = _callers.get() or TorchSettings.present()
    usual = settings == _OWN or settings == TorchSettings(dtype="float32")
    return None if usual else settings


def carried(fn: Callable[..., T]) -> Callable[..., T]:
    """Return ``fn`` with the present settings of the caller, for other threads and processes."""
    return under(callers_settings(), fn)


def under(settings: TorchSettings | None, fn: Callable[..., T]) -> Callable[..., T]:
    """Return ``fn`` with settings of the caller; None for the usual ones."""
    return fn if settings is None else _Carried(fn, settings)


class DeviceConstants:
    """Arrays with one copy of tensors per device and dtype.

    Args:
        arrays: arrays of real numbers, which get the dtype of the points, integers or Booleans.
    """

    def __init__(self, *arrays: ArrayLike) -> None:
        self._arrays = tuple(np.asarray(array) for array in arrays)
        self._tensors: dict[object, tuple[torch.Tensor, ...]] = {}

    def like(self, points: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the arrays on the device and in the dtype of ``points``."""
        # The class separates real tensors from those of a tracer.
        key = (points.device, points.dtype, type(points))
        known = self._tensors.get(key)
        if known is None:
            torch = torch_module()
            # Tensors of inference mode could not take part in later gradients.
            with torch.inference_mode(False):
                known = tuple(
                    torch.as_tensor(
                        array, device=points.device,
                        dtype=points.dtype if array.dtype.kind == "f" else None,
                    )
                    for array in self._arrays
                )  # fmt: skip
            self._tensors[key] = known
        return known

    def __getstate__(self) -> dict[str, Any]:
        # Another process may lack the device.
        return {"_arrays": self._arrays, "_tensors": {}}


_lock = threading.Lock()
_changed: WeakKeyDictionary[torch.nn.Module, _Changes] = WeakKeyDictionary()


@dataclass
class _Changes:
    """Threads that use a module, submodules in training mode, parameters that need gradients."""

    users: int
    training: list[torch.nn.Module]
    trainable: list[torch.nn.Parameter]


@contextmanager
def evaluating(module: torch.nn.Module, *, frozen: bool = False) -> Iterator[None]:
    """Set evaluation mode while any thread uses the module, then restore each submodule's mode.

    Args:
        module: module of the user.
        frozen: parameters require no gradients meanwhile, so that descents leave their ``.grad``
            as it is.
    """
    with _lock:
        now = _changed.setdefault(module, _Changes(0, [], []))
        now.users += 1
        now.training += [part for part in module.modules() if part.training]
        now.trainable += [one for one in module.parameters() if frozen and one.requires_grad]
        for part in now.training:
            part.training = False
        for one in now.trainable:
            one.requires_grad_(False)
    try:
        yield
    finally:
        with _lock:
            now.users -= 1
            if not now.users:
                del _changed[module]
                for part in now.training:
                    part.training = True
                for one in now.trainable:
                    one.requires_grad_(True)


def usable_device(where: str, device: str | torch.device | None) -> torch.device:
    """Return an available torch device; the CPU for None.

    Raises:
        InvalidInputError: there is no such device.
    """
    try:
        made: torch.Tensor = torch_module().empty(0, device="cpu" if device is None else device)
    # torch raises AssertionError for "cuda" if it is built without CUDA.
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InvalidInputError(
            f"{where}: device must be an available torch device, got {device!r}: "
            f"{str(error).splitlines()[0]}. Write device='cpu', or omit device."
        ) from None
    return made.device
