"""Identity of workers: boot, PID namespace, process id and start time; if unknown, the lease."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import bo_invert as bi
from bo_invert.storage import worker_id
from bo_invert.storage.worker_id import is_gone, is_unseen, new_worker, this_worker

LINUX = Path("/proc/self/stat").exists()
DEAD = 2**22 + 1
"""Process id above the largest one of Linux."""


def renamed(**parts: str) -> str:
    """Return the name of this worker with other parts."""
    where, pid, start = this_worker().rsplit(":", 2)
    host, place = where.split("@")
    boot, space = place.split(".") if LINUX else (place, "")
    known = {"host": host, "boot": boot, "space": space, "pid": pid, "start": start} | parts
    joined = ".".join(filter(None, (known["boot"], known["space"])))
    return f"{known['host']}@{joined}:{known['pid']}:{known['start']}"


@pytest.mark.skipif(not LINUX, reason="needs /proc")
@pytest.mark.parametrize(
    ("parts", "gone", "unseen"),
    [
        ({}, False, False),
        ({"start": "1"}, True, False),
        ({"pid": str(DEAD)}, True, False),
        ({"host": "renamed", "pid": str(DEAD)}, True, False),
        ({"host": "renamed"}, False, False),
        ({"boot": "0123456789ab", "pid": str(DEAD)}, False, True),
        ({"boot": "0123456789ab", "start": "1"}, False, True),
        ({"space": "1", "pid": str(DEAD)}, False, True),
        ({"space": "1", "start": "1"}, False, True),
    ],
)
def test_only_processes_of_this_boot_and_namespace_are_known_to_be_gone(
    parts: dict[str, str], gone: bool, unseen: bool
) -> None:
    for suffix in ("", "/3"):
        assert is_gone(renamed(**parts) + suffix) is gone
        assert is_unseen(renamed(**parts) + suffix) is unseen


@pytest.mark.parametrize("name", ["lab-2", "me:1:1", "", "a@b", "@:", "x:y:z/1"])
def test_chosen_names_are_never_gone(name: str) -> None:
    assert not is_gone(name)


def test_names_of_earlier_versions_are_known_by_their_host() -> None:
    host = worker_id._host()
    assert is_gone(f"{host}:{DEAD}:7")
    assert not is_gone(f"another-{host}:{DEAD}:7")
    assert not is_unseen(f"{host}:{DEAD}:7")


@pytest.mark.skipif(not LINUX, reason="needs /proc")
@pytest.mark.parametrize(
    ("function", "hidden"),
    [("_status", lambda pid: []), ("_shows_own_processes", lambda: False)],
)
def test_a_process_whose_start_cannot_be_read_counts_as_alive(
    function: str, hidden: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, other = renamed(), renamed(start="1")
    monkeypatch.setattr(worker_id, function, hidden)
    assert not is_gone(name)
    assert not is_gone(other), "the lease decides"
    assert is_gone(renamed(pid=str(DEAD)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_process_is_a_worker_of_its_own() -> None:
    """Check that the attempts of a parent survive a run of its child."""
    study = bi.Study.create("s", bi.Problem(bi.Box([0.0], [1.0]), None, bi.Minimize()), "random")
    mine = study.journal.worker
    assert study.journal.worker == mine
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, study.journal.worker.encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    theirs = os.read(reading, 1000).decode()
    os.close(reading)
    assert theirs.rsplit(":", 2)[0] == mine.rsplit(":", 2)[0]
    assert theirs.split(":")[1] == str(child)
    assert is_gone(theirs)
    assert not is_gone(mine)


def can_unshare(*options: str) -> bool:
    command = ["unshare", *options, "true"]
    return (
        bool(shutil.which("unshare"))
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )


NAMESPACES = [
    pytest.param(options, id="+".join(option.strip("-") for option in options))
    for options in (("--pid", "--fork", "--mount-proc"), ("--pid", "--fork"))
]
"""A container has a ``/proc`` of its own; without it, ``/proc`` shows the processes outside."""
NAMES = """
import sys
from bo_invert.storage.worker_id import is_gone, this_worker
print(this_worker(), is_gone(sys.argv[1]), is_gone(this_worker()), flush=True)
input()
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", NAMESPACES)
def test_processes_of_two_namespaces_are_alive_for_each_other(options: tuple[str, ...]) -> None:
    if not can_unshare(*options):
        pytest.skip("PID namespaces are not permitted")
    with subprocess.Popen(
        ["unshare", *options, sys.executable, "-c", NAMES, new_worker()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as inside:  # fmt: skip
        assert inside.stdout is not None
        theirs, ours_is_gone, theirs_is_gone = inside.stdout.readline().split()
        assert (ours_is_gone, theirs_is_gone) == ("False", "False")
        assert not is_gone(theirs)
        assert theirs.split(":")[1] == "1", "process ids overlap"
        inside.communicate("\n")


RUN = """
import os, sys, time
import bo_invert as bi

folder = sys.argv[1]

def oracle(x):
    handle = os.open(folder + "/calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, b"call\\n")
    while not os.path.exists(folder + "/go"):
        time.sleep(0.01)
    return float(x[0])

problem = bi.Problem(bi.Box([0.0], [1.0]), oracle, bi.Minimize(), name="s")
bi.Study.create("s", problem, "random", 0, f"sqlite:///{folder}/runs.db", exist_ok=True).run(6)
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", NAMESPACES)
def test_containers_with_one_host_name_share_a_budget(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    if not can_unshare(*options):
        pytest.skip("PID namespaces are not permitted")
    command = ["unshare", *options, sys.executable, "-c", RUN, str(tmp_path)]
    calls = tmp_path / "calls"

    def begin(begun: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command)
        deadline = time.monotonic() + 120.0
        while not calls.exists() or len(calls.read_text().splitlines()) < begun:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return process

    # Each starts while the calls of the others run, and would see none of their processes.
    processes = [begin(1), begin(2), begin(3)]
    (tmp_path / "go").touch()
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    study = bi.Study.open("s", f"sqlite:///{tmp_path}/runs.db")
    assert len(calls.read_text().splitlines()) == study.spent.values == len(study.trials) == 6
    assert study.spent.lost == 0
