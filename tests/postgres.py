"""A PostgreSQL server for tests: on loopback, in a folder of its own, gone with the tests."""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def programs() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``; None where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    folders = (
        [Path(found).resolve().parent]
        if found
        else [Path(p) for p in glob.glob("/usr/lib/postgresql/*/bin")]
    )
    return folders[-1] if folders else None


@contextmanager
def server() -> Iterator[str]:
    """A URL of a database ``postgres`` that is empty and may be written to."""
    folder = programs()
    assert folder is not None
    home = Path(tempfile.mkdtemp(prefix="pg-"))
    data = home / "data"
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(home, "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = (
        f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={home} "
        "-c shared_buffers=16MB"
    )

    made = [
        *_as_other(),
        str(folder / "initdb"),
        "-D",
        str(data),
        "-U",
        "tester",
        "-A",
        "trust",
        "-E",
        "UTF8",
    ]
    subprocess.run([*made, "--locale=C"], check=True, stdout=subprocess.DEVNULL, cwd=home)
    try:
        _control(data, "-l", str(home / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres"
        finally:
            _control(data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def stopped(url: str) -> Iterator[None]:
    """Stop the server of this URL for the duration; it closes all connections."""
    port = url.rpartition(":")[2].split("/")[0]
    files = [Path(file) for file in glob.glob(f"{tempfile.gettempdir()}/pg-*/data/postmaster.pid")]
    (data,) = [file.parent for file in files if port in file.read_text().split()]
    _control(data, "-m", "fast", "stop")
    yield
    options = (
        f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={data.parent}"
    )
    _control(data, "-l", str(data.parent / "log"), "-o", options, "start")


def _as_other() -> list[str]:
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


def _control(data: Path, *arguments: str) -> None:
    folder = programs()
    assert folder is not None
    command = [*_as_other(), str(folder / "pg_ctl"), "-D", str(data), "-w", "-t", "60", *arguments]
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=data.parent
    )
