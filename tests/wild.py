"""Oracles that misbehave as their design demands. Many processes import this light module."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

import bo_invert as bi


def wild(x: Any) -> Any:
    """Do what the design says."""
    if x == "segfault":
        ctypes.string_at(0)
    elif x == "exit":
        os._exit(3)
    elif x == "abort":
        os.abort()
    elif x == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif x == "loop":
        while True:
            pass
    elif x == "loop in C":  # which holds the interpreter lock
        re.match(r"(a+)+$", "a" * 60 + "b")
    elif x == "nothing fits":
        np.ones(2**36)
    elif x == "grow":
        hoard = []
        while True:
            hoard.append(np.ones(2**20))
    elif x == "infeasible":
        raise bi.InfeasibleError("no mesh")
    elif x == "interrupt":
        raise KeyboardInterrupt
    elif x == "quit":
        sys.exit(4)
    elif x == "raise":
        raise ValueError("bad luck")
    elif x == "shape":
        return [1.0, 2.0]
    elif x == "names":
        return {"z": 1.0}
    elif x == "nan":
        return float("nan")
    elif x == "words":
        print("disk quota exceeded", file=sys.stderr, flush=True)
        os._exit(5)
    return float(os.getpid())


def bowl(x: Any) -> float:
    """Return the value of a quadratic bowl."""
    return float(((x - 0.3) ** 2).sum())


def counted(path: Path) -> int:
    """Record a call in a file durably; return the number of calls."""
    with path.open("a") as calls:
        calls.write("call\n")
        calls.flush()
        os.fsync(calls.fileno())
    return entered(path)


def entered(path: Path) -> int:
    """Return the number of calls in a file."""
    return path.read_text().count("call") if path.exists() else 0
