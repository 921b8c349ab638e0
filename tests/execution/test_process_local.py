"""Properties with one value in each process."""

from __future__ import annotations

import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from bo_invert.execution.process_local import process_local


class Model:
    """Object that loads something slowly."""

    def __init__(self) -> None:
        self.loaded: list[int] = []

    @process_local
    def session(self) -> object:
        self.loaded.append(os.getpid())
        time.sleep(0.05)
        return object()


def test_threads_share_one_value() -> None:
    model, barrier = Model(), threading.Barrier(8)

    def use(_: int) -> object:
        barrier.wait()
        return model.session

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(use, range(8)))
    assert len(model.loaded) == 1
    assert all(one is found[0] for one in found)


def test_a_copy_has_a_value_of_its_own() -> None:
    model = Model()
    first = model.session
    copy = pickle.loads(pickle.dumps(model))
    assert copy.session is not first
    assert model.session is first


def test_a_forked_process_computes_its_own_value() -> None:
    model = Model()
    assert model.session is not None
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        _ = model.session
        os.write(writer, str(len(model.loaded)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"2"
