"""Other people's libraries, kept from talking over a study."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(library: str) -> Iterator[None]:
    """Drops what a library says to this thread, errors excepted; its loggers and levels stay as they are.

    Args:
        library: name of its logger.
    """
    here = threading.get_ident()
    handlers = logging.getLogger(library).handlers[:]

    def keep(record: logging.LogRecord) -> bool:
        return record.thread != here or record.levelno >= logging.ERROR

    for handler in handlers:
        handler.addFilter(keep)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for handler in handlers:
            handler.removeFilter(keep)
