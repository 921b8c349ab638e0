"""Waits of a run."""

from __future__ import annotations

import signal
import sys
import threading
from concurrent.futures import Future

import pytest

from bo_invert.study.pacing import wait_for_first


@pytest.mark.skipif(sys.platform == "win32", reason="needs pthread_kill")
def test_a_signal_that_does_not_end_the_wait_is_handled() -> None:
    """Check a signal that another thread receives: the main thread continues to wait."""
    answer: Future[int] = Future()
    late = threading.Timer(30.0, answer.set_result, (0,))
    thread = threading.Timer(0.2, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT))
    late.start()
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        wait_for_first([answer])
    late.cancel()
    assert not answer.done()


def test_no_futures_need_no_wait() -> None:
    assert wait_for_first([]) == set()
