"""Programs as oracles: input, output and failures."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.execution.process_group import ProcessGroup
from bo_invert.oracles.base import OracleResult

PYTHON = [sys.executable, "-I", "-S", "-c"]
SUM = "import json, sys; print(json.dumps({'y': sum(json.load(sys.stdin))}))"
X = np.array([1.0, 2.5])


def script(code: str, **options: Any) -> bi.Command:
    return bi.Command([*PYTHON, code], **options)


def ask(oracle: bi.Oracle, design: Any = X, outputs: tuple[str, ...] = ("y",)) -> OracleResult:
    (answer,) = oracle.answers([design], outputs)
    return answer


def reason(oracle: bi.Oracle, design: Any = X) -> str:
    """Why a design failed; it must have cost exactly one call."""
    answer = ask(oracle, design)
    assert isinstance(answer.error, bi.FailedError)
    assert answer.y is None
    assert answer.calls == 1
    return answer.error.reason


def until(condition: Callable[[], bool]) -> None:
    for _ in range(400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came true")


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


# What goes in, and what comes out


def test_json_through_pipes() -> None:
    assert ask(script(SUM)).y == [3.5]
    assert ask(
        script("print(json.load(sys.stdin)['b'])".join(["import json, sys; ", ""])),
        {"a": "s", "b": 2},
    ).y == [2.0]
    smiles = "C/C=C\\C 'x\" é"
    answer = ask(script("import json, sys; print(len(json.load(sys.stdin)))"), smiles)
    assert answer.y == [len(smiles)]


def test_files_and_values_in_arguments(tmp_path: Path) -> None:
    program = tmp_path / "sim.py"
    program.write_text(
        "import json, sys\n"
        "given, to, scale = json.load(open(sys.argv[1])), sys.argv[2], float(sys.argv[3])\n"
        "print('noise')\n"
        "json.dump({'y': [v * scale for v in given][0], 'z': given[1]}, open(to, 'w'))\n"
    )
    oracle = bi.Command(
        [sys.executable, program, "{input}", "{output}", "{x[1]:.1f}"], outputs=["y", "z"]
    )
    np.testing.assert_array_equal(ask(oracle, X, ("y", "z")).y, [2.5, 2.5])


def test_a_relative_script_is_found_although_the_program_runs_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here.py").write_text("import os; print(len(os.listdir()))")
    monkeypatch.chdir(tmp_path)
    oracle = bi.Command([sys.executable, "here.py"])
    monkeypatch.chdir("/")
    assert ask(oracle).y == [0.0], "its own directory is empty"
    inside = bi.Command([sys.executable, "here.py"], cwd=tmp_path)
    assert ask(inside).y == [1.0]


def test_templates(tmp_path: Path) -> None:
    template = tmp_path / "case.inp"
    template.write_text("solver { tol 1e-6; }\nT = {temperature:.2f}\nkind = {kind}\n")
    code = (
        "import sys; words = open(sys.argv[1]).read().split(); "
        "print(words[7], open('mesh/n.txt').read(), words[-1])"
    )
    oracle = script(
        code,
        input={"case.inp": template, "mesh/n.txt": "n={n}"},
        output=re.compile(r"(?P<t>\S+) n=(?P<n>\d+) b"),
    )
    oracle.argv.append("{input}")
    design = {"temperature": 300.0, "kind": "b", "n": 12}
    np.testing.assert_array_equal(ask(oracle, design, ("t", "n")).y, [300.0, 12.0])
    single = bi.Command([*PYTHON, "print(open('case.inp').read().count('300.00'))"], input=template)
    assert ask(single, design).y == [1.0]
    assert "got 'temperature'" in reason(single, {"kind": "b"})


@pytest.mark.parametrize(
    ("printed", "output", "source", "values"),
    [
        ("0.25", "json", None, [0.25]),
        (
            'starting [1/2]\\n[info] done\\n{\\"y\\": 0.25, \\"more\\": \\"text\\"}',
            "json",
            None,
            [0.25],
        ),
        ("name, y , z\\nrow, 0.25, 3\\n\\n", "csv", None, [0.25]),
        (
            "drag = 0.5\\nlift = 1.0D-01\\ndrag = 2.5D-01 N\\n",
            re.compile(r"drag = (?P<y>\S+)"),
            None,
            [0.25],
        ),
        ("y: 0.25", re.compile(r"y: (?P<y>.*)"), "stderr", [0.25]),
        ("0.25", "json", "out/result.json", [0.25]),
    ],
)
def test_answers_are_read(
    printed: str, output: Any, source: str | None, values: list[float]
) -> None:
    if source == "out/result.json":
        code = f"import os; os.mkdir('out'); open('out/result.json', 'w').write('{printed}')"
    else:
        code = f"import sys; print('{printed}', file=sys.{source or 'stdout'})"
    assert ask(script(code, output=output, source=source)).y == values


def test_groups_of_one_pattern_in_several_places_and_a_path_into_json() -> None:
    pattern = re.compile(r"drag=(?P<drag>\S+)|lift=(?P<lift>\S+)")
    oracle = script("print('lift=1 drag=2 lift=3')", output=pattern)
    np.testing.assert_array_equal(ask(oracle, X, ("drag", "lift")).y, [2.0, 3.0])
    nested = script('print(\'{"r": {"s": [4, 5]}}\')', answer="r.s[-1]")
    assert ask(nested).y == [5.0]
    assert "no 's' at r.t" not in reason(script('print(\'{"r": {"t": 1}}\')', answer="r.s"))
    assert "no 's' at r, but names ['t']" in reason(
        script('print(\'{"r": {"t": 1}}\')', answer="r.s")
    )


def test_a_study_over_threads_and_processes(tmp_path: Path) -> None:
    counter = tmp_path / "calls"
    code = (
        "import json, sys, os; x = json.load(sys.stdin)\n"
        f"os.write(os.open({str(counter)!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT), b'.')\n"
        "if x['kind'] == 'bad': sys.exit(4)\n"
        "print(abs(x['t'] - 0.3))"
    )
    space = bi.Box({"t": (0.0, 1.0), "kind": bi.Choice(["good", "bad"])})
    for executor in ("threads", "processes"):
        study = bi.Study.create(
            "s", bi.Problem(space, script(code), bi.Minimize()), strategy="random", seed=1
        )
        study.run(12, executor=executor, batch=2)
        assert 0 < study.spent.failed < 12
        assert study.spent.values == 12 == counter.stat().st_size
        counter.unlink()


# What goes wrong: each costs one call


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "import sys; print('a trace', file=sys.stderr); sys.exit(3)",
            "exit code 3; stderr ends with: a trace",
        ),
        ("import os; os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("raise SystemError('x\\033[31m')", "SystemError"),
        ("print('NaN')", "not finite"),
        ("print('[1e999]')", "not finite"),
        ("print('{\"y\": 1.0')", "must be JSON"),
        ("print('<html>sorry</html>')", "'<html>sorry"),
        ("pass", "nothing"),
        ("print('null')", "null"),
        ("print('[' * 100000)", "must be JSON"),
        ("print('9' * 100000)", "JSON"),
        ("print('{\"z\": 1}')", "outputs ['y'] are missing"),
        ("print('[1, 2, 3]')", "must have shape (1,)"),
        ("import sys; sys.stdout.buffer.write(bytes(range(256)))", "must be JSON"),
        ('print(\'{"failed": "no mesh"}\')', "no mesh"),
    ],
)
def test_failures_say_what_was_seen(code: str, words: str) -> None:
    assert words in reason(script(code))


def test_output_that_is_no_number() -> None:
    stars = script("print('drag = ****')", output=re.compile(r"drag = (?P<y>\S+)"))
    assert "'****'" in reason(stars)
    assert "no match of" in reason(
        script("print('lift = 1')", output=re.compile(r"drag = (?P<y>\S+)"))
    )
    assert "must be CSV" in reason(script("print('1.0')", output="csv"))
    assert "per design (1), got 2" in reason(script("print('y\\n1\\n2')", output="csv"))
    assert "no output file result.dat" in reason(script("pass", source="result.dat"))
    assert "not a regular file" in reason(script("import os; os.mkfifo('r')", source="r"))
    assert "longer than 100 bytes" in reason(
        script("open('r', 'w').write('1' * 101)", source="r", limit=100)
    )


def test_infeasible_by_exit_code_and_by_word() -> None:
    for oracle in (
        script("import sys; print('no mesh', file=sys.stderr); sys.exit(7)", infeasible=7),
        script('print(\'{"infeasible": "no mesh"}\')'),
    ):
        answer = ask(oracle)
        assert isinstance(answer.error, bi.InfeasibleError)
        assert "no mesh" in answer.error.reason
        assert answer.calls == 1
    assert "exit code 8" in reason(script("import sys; sys.exit(8)", infeasible=[7]))


def test_a_gigabyte_is_read_and_forgotten() -> None:
    code = (
        "import os\nblock = b'x' * (1 << 20)\n"
        "for _ in range(1024): os.write(1, block)\nos.write(1, b'\\n0.5\\n')"
    )
    oracle = script(code, limit=100_000)
    tracemalloc.start()
    try:
        answer = ask(oracle)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.y == [0.5], "the end is copy, and the last line is the answer"
    assert peak < 20e6
    flooded = script(
        "import os\nfor _ in range(100): os.write(2, b'e' * (1 << 20))\nprint(1.5)", limit=100_000
    )
    assert ask(flooded).y == [1.5]


def test_input_that_is_not_read_and_a_large_design() -> None:
    large = np.zeros(200_000)
    assert ask(script("print(1.0)"), large).y == [1.0]
    assert ask(script("import sys, json; print(len(json.load(sys.stdin)))"), large).y == [200_000]
    assert "nan" in reason(script(SUM), np.array([np.nan]))
    assert "object" in reason(script(SUM), [object()])


@pytest.mark.slow
def test_too_slow_and_deaf_to_sigterm(tmp_path: Path) -> None:
    mine = tmp_path / "pids"
    code = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "deaf = 'import signal, time; signal.signal(15, 1); time.sleep(600)'\n"
        "child = subprocess.Popen([sys.executable, '-c', deaf])\n"
        f"open({str(mine)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "print('half an answer', file=sys.stderr, flush=True)\n"
        "time.sleep(600)"
    )
    message = reason(script(code, timeout=3.0))
    assert "did not end in 3 s" in message
    assert "half an answer" in message
    until(lambda: all(gone(int(pid)) for pid in mine.read_text().split()))


def test_sigterm_comes_first(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time\n"
        "note = lambda what: open(sys.argv[1] + '/' + what, 'w').close()\n"
        "signal.signal(15, lambda *_: (note('licence returned'), sys.exit(0)))\n"
        "note('ready')\n"
        "time.sleep(600)"
    )
    oracle = bi.Command([*PYTHON, code, tmp_path])
    answers: list[OracleResult] = []
    caller = threading.Thread(target=lambda: answers.append(ask(oracle)))
    caller.start()
    until((tmp_path / "ready").exists)
    oracle.interrupt()
    caller.join(30)
    assert (tmp_path / "licence returned").exists()
    assert isinstance(answers[0].error, bi.FailedError)


@pytest.mark.parametrize("leave", ["", "os.setsid()"], ids=["in its group", "a daemon"])
def test_whoever_keeps_the_pipes_open_is_not_waited_for(leave: str, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        f"    {leave or 'pass'}\n"
        "    if os.fork() == 0:\n"
        f"        open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        f"note = {str(note)!r}\n"
        "while not os.path.exists(note) or not open(note).read(): time.sleep(0.01)\n"
        "print(4.0)"
    )
    assert ask(script(code, timeout=60.0)).y == [4.0]
    if not leave or hasattr(os, "pidfd_open"):
        until(lambda: gone(int(note.read_text())))


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    program = tmp_path / "sim"
    program.write_text("#!/bin/sh\necho 1\n")
    with pytest.raises(bi.InvalidInputError, match="must be an executable"):
        bi.Command([program])
    program.chmod(0o755)
    oracle = bi.Command([program])
    assert ask(oracle).y == [1.0]
    program.unlink()
    assert "cannot be started" in reason(oracle)
    batched = bi.Command([sys.executable, "x"], batched=True)
    batched.argv[0] = str(program)
    assert [answer.calls for answer in batched.answers([X, X], ("y",))] == [1, 1], (
        "the program did not start"
    )


# Batches


BATCH = "import json, sys\nrows = json.load(sys.stdin)\n"


def test_a_batch_is_one_run(tmp_path: Path) -> None:
    designs = [np.array([float(i), 1.0]) for i in range(4)]
    note = tmp_path / "runs"
    counted = f"open({str(note)!r}, 'a').write('.')\n"
    for code, options in (
        (BATCH + "print([sum(r) for r in rows])", {}),
        (BATCH + "print(json.dumps({'y': [sum(r) for r in rows]}))", {}),
        (BATCH + "print(json.dumps({'p': [{'y': sum(r)} for r in rows]}))", {"answer": "p[*].y"}),
        (BATCH + "print('y\\n' + '\\n'.join(str(sum(r)) for r in rows))", {"output": "csv"}),
        (BATCH + "[print('y =', sum(r)) for r in rows]", {"output": re.compile(r"y = (?P<y>\S+)")}),
        (("import sys, csv\nrows = csv.DictReader(sys.stdin)\n"
          "print([float(r['x0']) + float(r['x1']) for r in rows])"), {"input": "csv"}),
    ):  # fmt: skip
        answers = script(counted + code, batched=True, **options).answers(designs, ("y",))
        assert [answer.y[0] for answer in answers if answer.y is not None] == [1.0, 2.0, 3.0, 4.0]
        assert [answer.calls for answer in answers] == [1] * 4
        assert note.read_text() == "."
        note.unlink()


def test_a_row_that_cannot_be_read_fails_alone_and_nothing_is_run_again(tmp_path: Path) -> None:
    note = tmp_path / "runs"
    code = (
        BATCH + f"open({str(note)!r}, 'a').write('.')\n"
        "answers = [1.0, None, {'infeasible': 'no mesh'}, float('nan'), 'oops', {'z': 1}, 7.0]\n"
        "print(json.dumps(answers))"
    )
    answers = script(code, batched=True).answers([X] * 7, ("y",))
    assert [answer.y is not None for answer in answers] == [
        True,
        False,
        False,
        False,
        False,
        False,
        True,
    ]
    assert isinstance(answers[2].error, bi.InfeasibleError)
    assert {answer.calls for answer in answers} == {1}
    assert note.read_text() == "."
    short = script("print('x,y\\n1,2\\n3')", output="csv", batched=True).answers([X] * 2, ("y",))
    assert short[0].y == [2.0]
    assert isinstance(short[1].error, bi.FailedError)


def test_a_batch_that_fails_is_asked_again_one_by_one_and_billed_twice() -> None:
    code = BATCH + "if any(r[0] > 2 for r in rows): sys.exit(9)\nprint([r[0] for r in rows])"
    designs = [np.array([float(i)]) for i in range(4)]
    answers = script(code, batched=True, infeasible=9).answers(designs, ("y",))
    assert [answer.y[0] for answer in answers[:3]] == [0.0, 1.0, 2.0]
    assert isinstance(answers[3].error, bi.InfeasibleError)
    assert [answer.calls for answer in answers] == [2, 2, 2, 2]


def test_a_design_that_cannot_be_sent_does_not_spoil_its_batch() -> None:
    oracle = script(BATCH + "print([r[0] for r in rows])", batched=True)
    answers = oracle.answers([np.array([1.0]), np.array([np.inf]), np.array([3.0])], ("y",))
    assert [answer.calls for answer in answers] == [1, 1, 1]
    assert answers[1].error is not None
    assert (answers[0].y, answers[2].y) == ([1.0], [3.0])


# Around it


def test_failures_can_be_looked_at(tmp_path: Path) -> None:
    oracle = script(
        "import sys; open('mesh.log', 'w').write('degenerate'); print('so far'); sys.exit(2)",
        keep=tmp_path,
    )
    message = reason(oracle)
    (copy,) = tmp_path.iterdir()
    assert str(copy) in message
    assert (copy / "mesh.log").read_text() == "degenerate"
    assert (copy / "stdout.txt").read_text() == "so far\n"
    assert json.loads((copy / "argv.json").read_text())[0] == sys.executable
    assert ask(script("print(1)", keep=tmp_path)).y == [1.0]
    assert list(tmp_path.iterdir()) == [copy], "what went well is not copy"


def test_nothing_stays_in_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for code in (SUM, "import sys; sys.exit(1)", "open('f', 'w').write('x' * 1000); print(1)"):
        ask(script(code))
    assert list(tmp_path.iterdir()) == []


def test_environment() -> None:
    code = "import os; print(len(os.environ['ONE']) if 'TWO' not in os.environ else -1.0)"
    os.environ["TWO"] = "2"
    try:
        oracle = script(code, env={"ONE": "secret", "TWO": None})
        assert ask(oracle).y == [6.0]
    finally:
        del os.environ["TWO"]
    assert "secret" not in json.dumps(oracle.to_json()) + repr(oracle)


def test_many_threads_at_once_and_a_pickled_oracle() -> None:
    oracle = pickle.loads(pickle.dumps(script(SUM, output=re.compile(r'"y": (?P<y>[^}]*)'))))
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda i: ask(oracle, np.array([i, 0.5])).y[0], range(24)))
    assert values == [i + 0.5 for i in range(24)]


def test_no_shell_is_involved() -> None:
    oracle = bi.Command([*PYTHON, "import sys; print(len(sys.argv[1]))", "{x}"], input=None)
    evil = "$(touch /tmp/x); `id` | cat > /dev/null && \"quoted\" 'text' *"
    assert ask(oracle, evil).y == [len(evil)]
    assert "null byte" in reason(oracle, "a\0b")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"argv": "solver --fast"}, "argv must be a list"),
        ({"argv": []}, "argv"),
        ({"argv": ["no-such-program-anywhere"]}, "must be an executable"),
        ({"argv": ["{x}"]}, "must be an executable"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "1"}, "timeout"),
        ({"output": "xml"}, "output"),
        ({"output": re.compile("y=(.*)")}, "named groups"),
        ({"output": "csv", "answer": "y"}, "answer"),
        ({"answer": "y[a]"}, "path"),
        ({"input": "yaml"}, "input"),
        ({"input": {"../x": "text"}}, "inside"),
        ({"input": Path("/no/such/template")}, "cannot be read"),
        ({"input": {"f": "{x}"}, "batched": True}, "batch"),
        ({"argv": [sys.executable, "{x[0]}"], "batched": True}, "batch"),
        ({"argv": [sys.executable, "{input}"], "input": None}, "got None"),
        ({"argv": [sys.executable, "{output}"], "source": "f"}, "source must not be given"),
        ({"source": "/etc/passwd"}, "inside"),
        ({"source": "f", "cwd": "/"}, "share"),
        ({"cwd": "/no/such/folder"}, "must be a directory"),
    ],
)
def test_what_cannot_be_meant_is_refused_early(options: dict[str, Any], words: str) -> None:
    with pytest.raises(bi.InvalidInputError, match=words):
        bi.Command(**{"argv": [sys.executable], **options})


# The end of the caller


SLEEPER = (
    "import os, sys, time\n"
    "if os.fork() == 0: os.setsid()\n"
    "open(sys.argv[1] + '/' + str(os.getpid()), 'w').close()\n"
    "time.sleep(600)"
)


def pids(folder: Path) -> list[int]:
    return [int(file.name) for file in folder.iterdir()]


def test_programs_end_with_a_killed_caller(tmp_path: Path) -> None:
    code = (
        "import sys, bo_invert as bi\n"
        f"bi.Command([sys.executable, '-c', {SLEEPER!r}, {str(tmp_path)!r}]).answers([1.0], ('y',))"
    )
    caller = subprocess.Popen([sys.executable, "-c", code])
    try:
        until(lambda: len(pids(tmp_path)) == 2)
    finally:
        caller.kill()
        caller.wait()
    first, second = sorted(pids(tmp_path))
    until(lambda: gone(first) and (gone(second) or not hasattr(os, "pidfd_open")))


def test_programs_end_with_an_interrupted_run(tmp_path: Path) -> None:
    code = (
        "import sys, bo_invert as bi\n"
        f"oracle = bi.Command([sys.executable, '-c', {SLEEPER!r}, {str(tmp_path)!r}])\n"
        "problem = bi.Problem(bi.Box([0.0], [1.0]), oracle, bi.Minimize())\n"
        "study = bi.Study.create('s', problem, strategy='random')\n"
        "study.run(4, executor=sys.argv[1], batch=2)"
    )
    for executor in ("serial", "threads"):
        caller = subprocess.Popen([sys.executable, "-c", code, executor], stderr=subprocess.PIPE)
        try:
            until(lambda: len(pids(tmp_path)) == (2 if executor == "serial" else 4))  # noqa: B023
            caller.send_signal(signal.SIGINT)
            assert b"KeyboardInterrupt" in caller.communicate(timeout=60)[1]
        finally:
            caller.kill()
            caller.wait()
        until(lambda: all(gone(pid) for pid in pids(tmp_path)) or not hasattr(os, "pidfd_open"))
        for file in tmp_path.iterdir():
            file.unlink()


def test_an_interrupt_ends_what_is_under_way(tmp_path: Path) -> None:
    oracle = bi.Command([sys.executable, "-c", SLEEPER, tmp_path])
    answers: list[OracleResult] = []
    caller = threading.Thread(target=lambda: answers.append(ask(oracle)))
    caller.start()
    until(lambda: len(pids(tmp_path)) == 2)
    oracle.interrupt()
    caller.join(30)
    assert not caller.is_alive()
    assert "killed with the run" in str(answers[0].error)
    assert ask(script("print(2)")).y == [2.0]


def test_how_a_program_ended_is_known(tmp_path: Path) -> None:
    ended = ProcessGroup([sys.executable, "-c", "print(5)"], os.environ, folder=tmp_path, limit=100)
    ended.run(60.0)
    assert (ended.code, ended.output.text("stdout"), ended.output.text("stderr")) == (0, "5\n", "")
    assert ended.stopped_by == ""
    ended = ProcessGroup(["/bin/sh", "-c", "kill -15 $$"], {}, b"x" * 200_000, tmp_path)
    ended.run(None)
    assert ended.exit_text == "was killed by SIGTERM (terminated)"
