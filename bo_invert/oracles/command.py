"""External program as an oracle: an executable or a script in any language, without a shell."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from bo_invert.errors import FailedError, InfeasibleError, InvalidInputError, require
from bo_invert.execution.output_capture import last_lines
from bo_invert.execution.process_group import ProcessGroup
from bo_invert.hashing import Digest, file_digest, joined, text_digest
from bo_invert.oracles.base import Oracle, answer_each, time_limit
from bo_invert.oracles.io.json_codec import JsonPath, as_csv, checked_path, with_json
from bo_invert.oracles.io.output_parser import OutputFormat, read_rows
from bo_invert.oracles.io.templates import fill, names_in, values_of
from bo_invert.types import JSON, Design
from bo_invert.user_data import whole_number, whole_numbers

_FILES = ("input", "output", "folder")
"""Placeholders in ``argv`` that name files instead of values."""

_SYSTEM = (
    "/usr/",
    "/bin/",
    "/sbin/",
    "/opt/",
    os.path.join(sys.prefix, ""),
    os.path.join(sys.base_prefix, ""),
)
"""Folders of interpreters, whose content is not part of the oracle."""


class Command(Oracle):
    """Oracle that runs a program for each design or batch and parses its output.

    Each run has its own working directory, which is deleted afterwards, and its own process group.
    The group is killed when the program ends, at the timeout, at an interrupt, and when this
    process dies. Any number of threads and processes may call at once.

    An exit code other than 0, a signal, a timeout or unreadable output costs one attempt. If a
    whole batch fails, each of its designs runs again alone and is billed twice. If single rows are
    unreadable, only these fail.

    Args:
        argv: program and arguments. Placeholders: ``{input}`` and ``{output}`` are the paths of the
            files that the program reads and writes. ``{folder}`` is the working directory.
            ``{temperature}`` or ``{x[0]:.3f}`` is a value of the design, ``{x}`` the design itself
            (not in batches). Arguments that name existing files become absolute paths.
        input: input of the program. ``"json"`` is the design or the list of designs. ``"csv"`` is
            a header line and a line per design. Both go to standard input, or to a file if ``argv``
            has ``{input}``. A ``Path`` is a template file; a dict maps names of files to templates
            (a ``Path`` or text). Filled templates lie in the working directory, and ``{input}`` is
            the first. None is no input.
        output: format of the output. ``"json"``; ``"csv"`` with a header line and a line of numbers
            per design; or a compiled pattern whose named groups are the outputs. For one design the
            last match counts. In a batch each match is a row.
        source: ``"stdout"``, ``"stderr"`` or the name of a file in the working directory. Default:
            the file ``{output}`` if ``argv`` has it, otherwise stdout. JSON may be the last line
            after a log.
        answer: path of the outputs in the JSON, for example ``"result.scores[0]"``, or a dict with
            one path per output.
        timeout: seconds of one run; None for no limit.
        cwd: working directory to share by all runs; ``argv`` then stays unchanged.
        env: changes to the environment; the value None removes a variable.
        batched: one run evaluates several designs.
        outputs: names of the outputs; required for several that the output does not name.
        infeasible: exit codes of designs that can never be evaluated.
        keep: folder for the working directories and the output of failed runs.
        limit: largest output in bytes; of longer output on stdout and stderr, the end is read.

    Raises:
        InvalidInputError: invalid argument, unknown program, or a system without POSIX.
    """

    waits = True

    def __init__(
        self,
        argv: Sequence[str | os.PathLike[str]],
        input: str | Path | Mapping[str, str | Path] | None = "json",
        output: OutputFormat = "json",
        source: str | None = None,
        answer: JsonPath = None,
        timeout: float | None = 600.0,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str | None] | None = None,
        batched: bool = False,
        outputs: Sequence[str] | None = None,
        infeasible: int | Collection[int] = (),
        keep: str | os.PathLike[str] | None = None,
        limit: int = 16_000_000,
    ) -> None:
        require(
            os.name == "posix",
            "Command: the system must be POSIX, for process groups. Use Http or a function.",
        )
        parts = [] if isinstance(argv, str) else list(argv)
        require(
            parts and all(isinstance(part, (str, os.PathLike)) for part in parts),
            f"Command: argv must be a list such as ['solver', '--fast'], got {argv!r}",
        )
        require(
            isinstance(output, re.Pattern) or output in ("json", "csv"),
            f"Command: output must be 'json', 'csv' or re.compile(pattern), got {output!r}",
        )
        require(
            not isinstance(output, re.Pattern) or output.groupindex,
            f"Command: output must have named groups, as in '(?P<drag>\\S+)', got {output!r}",
        )
        require(
            answer is None or output == "json",
            f"Command: answer is a path in JSON and needs output='json', got {output!r}",
        )
        self.cwd = None if cwd is None else os.path.abspath(cwd)
        self.argv = _resolved([os.fspath(part) for part in parts], self.cwd, env)
        self.templates = _templates(input)
        self.input = input if isinstance(input, str) else None
        self.output, self.source, self.answer = output, source, checked_path(answer, "Command")
        self.timeout = time_limit("Command", "timeout", timeout)
        self.limit, self.batched = whole_number("Command", "limit", limit), bool(batched)
        self.env = dict(env or {})
        self.outputs = None if outputs is None else tuple(outputs)
        self.infeasible = frozenset(
            whole_numbers("Command", "infeasible", infeasible, least=-(2**31))
        )
        self.keep = None if keep is None else os.path.abspath(keep)
        self._era = 0
        self._check_placeholders()

    def _check_placeholders(self) -> None:
        require(
            not names_in(self.argv[0]),
            f"Command: argv[0] must not have placeholders, got {self.argv[0]!r}",
        )
        require(
            "input" not in self._named or self.templates or self.input is not None,
            "Command: input must be 'json', 'csv' or a template if argv has {input}, got None",
        )
        require(
            self.source is None or "output" not in self._named,
            "Command: source must not be given if argv has {output}",
        )
        if self.source not in (None, "stdout", "stderr"):
            _inside(str(self.source))
            require(
                self.cwd is None,  # the file could stem from another run
                "Command: source must not be a file in a shared cwd. Write to {output} instead.",
            )
        values = sorted(self._named - {*_FILES})
        cause = "templates" if self.templates else f"placeholders {values} in argv"
        require(
            not self.batched or not (self.templates or values),
            f"Command: batched must be False with {cause}, which hold one design. "
            "Use input='json' or 'csv' for batches.",
        )

    def __call__(self, designs: Sequence[Design]) -> list[Any]:
        """Return a row of outputs, or an ``EvaluationError``, for each design."""
        batches = [designs] if self.batched else [[design] for design in designs]
        return [row for batch in batches for row in answer_each(batch, with_json, self._run)]

    def interrupt(self) -> None:
        self._era += 1

    def _run(self, designs: list[tuple[Any, JSON]]) -> list[Any]:
        """Run the program once for designs and their JSON."""
        with tempfile.TemporaryDirectory(prefix="bo-invert-", ignore_cleanup_errors=True) as folder:
            return self._answered(designs, Path(folder))

    def _answered(self, designs: list[tuple[Any, JSON]], folder: Path) -> list[Any]:
        era = self._era
        argv, given = self._prepared(designs, folder)
        env = {name: v for name, v in {**os.environ, **self.env}.items() if v is not None}
        there = folder if self.cwd is None else Path(self.cwd)
        try:
            ended = ProcessGroup(argv, env, given, there, self.limit)
        except (OSError, ValueError) as error:  # no reason to try each design alone
            return [FailedError(f"{self._program} cannot be started: {error}")] * len(designs)
        ended.run(self.timeout, lambda: self._era != era)
        try:
            rows = self._rows(ended, folder, len(designs))
        except FailedError as error:
            raise FailedError(error.reason + self._keep_files(folder, argv, ended)) from None
        failed = [i for i, row in enumerate(rows) if isinstance(row, FailedError)]
        note = self._keep_files(folder, argv, ended) if failed else ""
        for i in failed:
            rows[i] = FailedError(rows[i].reason + note)
        return rows

    def _prepared(self, designs: list[tuple[Any, JSON]], folder: Path) -> tuple[list[str], bytes]:
        """Write the input files; return the arguments and the standard input."""
        sent = [json_form for _, json_form in designs]
        values: dict[str, Any] = {} if self.batched else values_of(designs[0][0])
        values |= {"output": str(folder / self._output), "folder": str(folder)}
        files = {name: fill(text, values) for name, text in self.templates.items()}
        path, given = next(iter(files), None), b""
        if self.input is not None:
            whole = sent if self.batched else sent[0]
            text = as_csv(sent) if self.input == "csv" else json.dumps(whole)
            if "input" in self._named:
                path = f"input.{self.input}"
                files[path] = text
            else:
                given = text.encode()
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        if path is not None:
            values["input"] = str(folder / path)
        return [self.argv[0], *(fill(part, values) for part in self.argv[1:])], given

    @property
    def _named(self) -> set[str]:
        """Names in the placeholders of ``argv``."""
        return {name for part in self.argv for name in names_in(part)}

    @property
    def _output(self) -> str:
        """Name of the file ``{output}``."""
        return f"output.{self.output}" if isinstance(self.output, str) else "output.txt"

    @property
    def _source(self) -> str:
        """Name of the stream or file that holds the outputs."""
        return self.source or (self._output if "output" in self._named else "stdout")

    def _rows(self, ended: ProcessGroup, folder: Path, count: int) -> list[Any]:
        errors = last_lines(ended.output.text("stderr"))
        end = f"; stderr ends with: {errors}" if errors else ""
        fact = {
            "stopped": "was killed with the run",
            "timeout": f"did not end in {self.timeout or 0:g} s and was killed",
        }.get(ended.stopped_by, ended.exit_text)
        kind = InfeasibleError if ended.code in self.infeasible else FailedError
        if ended.stopped_by or ended.code != 0 or kind is InfeasibleError:
            raise kind(f"{self._program} {fact}{end}")
        try:
            stream = self._source in ("stdout", "stderr")
            file = folder / self._source
            text = ended.output.text(self._source) if stream else _read_file(file, self.limit)
            return read_rows(text, self.output, self.answer, count if self.batched else None)
        except OSError as error:
            why = error.strerror or error
            raise FailedError(
                f"{self._program} wrote no output file {self._source}: {why}{end}"
            ) from None
        except FailedError as error:
            cut = len(ended.output.ends[self._source]) > self.limit
            note = f"; only the last {self.limit} bytes of the output were read" if cut else ""
            raise FailedError(f"{self._program}: {error.reason}{note}{end}") from None

    def _keep_files(self, folder: Path, argv: Sequence[str], ended: ProcessGroup) -> str:
        """Copy the files of a failed run to ``keep``; return a note for its reason."""
        if self.keep is None:
            return ""
        copy = Path(self.keep) / uuid.uuid4().hex[:12]
        try:
            shutil.copytree(folder, copy, symlinks=True)
            for name in ("stdout", "stderr"):
                (copy / f"{name}.txt").write_text(ended.output.text(name), encoding="utf-8")
            (copy / "argv.json").write_text(json.dumps(list(argv)))
        except OSError as error:
            return f" (its files could not be copied: {error})"
        return f" (its files are in {copy})"

    @property
    def _program(self) -> str:
        return os.path.basename(self.argv[0])

    def __repr__(self) -> str:
        return f"Command({self.argv!r})"

    def digest(self) -> Digest | None:
        """Hash the program and the files in its arguments; of an interpreter, only the script."""
        files = [part for part in self.argv if os.path.isfile(os.path.join(self.cwd or "", part))]
        if len(files) > 1 and self.argv[0].startswith(_SYSTEM):
            files = files[1:]
        digests = [file_digest(os.path.join(self.cwd or "", file)) for file in files]
        arguments = [os.path.basename(part) if part in files else part for part in self.argv[1:]]
        rest = text_digest(json.dumps([arguments, self.templates]), "its arguments")
        return joined([*digests, rest])

    def to_json(self) -> JSON:
        templates = {
            name: hashlib.sha256(text.encode()).hexdigest() for name, text in self.templates.items()
        }
        form = (
            {"pattern": self.output.pattern} if isinstance(self.output, re.Pattern) else self.output
        )
        return {
            "type": "command",
            "argv": self.argv,
            "input": templates or self.input,
            "output": form,
            "source": self.source,
            "answer": dict(self.answer) if isinstance(self.answer, Mapping) else self.answer,
            "cwd": self.cwd,
            "env": sorted(self.env),
        }


def _resolved(argv: list[str], cwd: str | None, env: Mapping[str, str | None] | None) -> list[str]:
    """Return the arguments with absolute paths of existing files, unless ``cwd`` is given."""
    require(cwd is None or os.path.isdir(cwd), f"Command: cwd must be a directory, got {cwd!r}")
    program, *rest = argv
    program = os.path.join(cwd or "", program) if os.path.dirname(program) else program
    found = shutil.which(program, path=(env or {}).get("PATH") or None)
    if found is None:
        raise InvalidInputError(
            f"Command: argv[0] must be an executable on the PATH, got {argv[0]!r}"
        )
    if cwd is None:
        rest = [os.path.abspath(part) if os.path.isfile(part) else part for part in rest]
    return [os.path.abspath(found), *rest]


def _templates(given: object) -> dict[str, str]:
    """Return the texts of the templates by the names of the files."""
    if given is None or (isinstance(given, str) and given in ("json", "csv")):
        return {}
    named = {given.name: given} if isinstance(given, Path) else given
    if not isinstance(named, Mapping) or not named:
        raise InvalidInputError(
            "Command: input must be 'json', 'csv', None, the Path of a template or "
            f"{{'name of the file': template}}, got {given!r:.80}"
        )
    templates = {}
    for name, text in named.items():
        _inside(name)
        try:
            templates[name] = (
                text.read_text(encoding="utf-8") if isinstance(text, Path) else str(text)
            )
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"Command: template {text} cannot be read: {error}") from error
    return templates


def _inside(name: str) -> None:
    require(
        name and not os.path.isabs(name) and ".." not in Path(name).parts,
        f"Command: file must lie inside the working directory, got {name!r}",
    )


def _read_file(path: Path, limit: int) -> str:
    """Return the text of a regular file.

    Raises:
        OSError: There is no such file, it is not regular, or it is longer than ``limit`` bytes.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # do not wait for the writer of a pipe
    with open(handle, "rb") as file:
        require(
            stat.S_ISREG(os.fstat(handle).st_mode), f"{path.name} is not a regular file", OSError
        )
        content = file.read(limit + 1)
    require(len(content) <= limit, f"it is longer than {limit} bytes", OSError)
    return content.decode("utf-8", "backslashreplace")
