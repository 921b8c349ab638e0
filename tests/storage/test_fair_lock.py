"""Writers of one process take turns in order of arrival."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from bo_invert.storage.fair_lock import FairLock


def test_turns_are_in_order_of_arrival() -> None:
    lock, order = FairLock(), list[int]()

    def work(number: int) -> None:
        with lock.turn(60.0):
            order.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(20)]
    with lock.turn(0.0):
        for number, thread in enumerate(threads, 1):
            thread.start()
            while len(lock._waiting) < number:
                pass
    for thread in threads:
        thread.join()
    assert order == list(range(20))


def test_a_thread_cannot_take_the_lock_again_before_one_that_waits() -> None:
    lock, order = FairLock(), list[str]()

    def work() -> None:
        with lock.turn(60.0):
            order.append("other")

    with lock.turn(0.0):
        other = threading.Thread(target=work)
        other.start()
        while not lock._waiting:
            pass
    with lock.turn(60.0):
        order.append("again")
    other.join()
    assert order == ["other", "again"]


def test_patience_ends_and_leaves_the_lock_usable() -> None:
    lock, ran = FairLock(), list[str]()
    with ExitStack() as held:
        held.enter_context(lock.turn(0.0))
        with lock.turn(0.01):
            ran.append("out of turn")
    with lock.turn(0.0):
        ran.append("in turn")
    assert ran == ["out of turn", "in turn"]
    assert not lock._held
    assert not lock._waiting
