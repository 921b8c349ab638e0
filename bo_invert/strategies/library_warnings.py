"""Warnings and log messages of third-party libraries, silenced during an ask."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(library: str) -> Iterator[None]:
    """Silence the warnings and log messages of a library in this thread, errors excepted.

    Loggers and levels do not change; the handlers of the library's logger receive a filter.

    Args:
        library: name of its logger.
    """
    here = threading.get_ident()
    handlers = logging.getLogger(library).handlers[:]

    def passes(record: logging.LogRecord) -> bool:
        return record.thread != here or record.levelno >= logging.ERROR

    for handler in handlers:
        handler.addFilter(passes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for handler in handlers:
            handler.removeFilter(passes)
