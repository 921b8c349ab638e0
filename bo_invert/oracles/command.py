"""External program as an oracle: an executable or a script in any language, without a shell."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from bo_invert.errors import FailedError, InfeasibleError, InvalidInputError
from bo_invert.execution.subprocess_run import ProgramResult, read_file, run_program
from bo_invert.hashing import Digest, file_digest, joined, text_digest
from bo_invert.oracles.base import Oracle
from bo_invert.oracles.io.json_codec import JsonPath, as_csv, as_json, checked_path
from bo_invert.oracles.io.output_parser import OutputFormat, read_rows
from bo_invert.oracles.io.templates import fill, names_in, values_of
from bo_invert.types import JSON, Design

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
        if os.name != "posix":
            raise InvalidInputError(
                "Command: the system must be POSIX, for process groups. Use Http or a function."
            )
        if (
            isinstance(argv, str)
            or not len(argv)
            or not all(isinstance(a, (str, os.PathLike)) for a in argv)
        ):
            raise InvalidInputError(
                f"Command: argv must be a list such as ['solver', '--fast'], got {argv!r}"
            )
        if timeout is not None and not (
            isinstance(timeout, (int, float)) and 0 < timeout < math.inf
        ):
            raise InvalidInputError(
                f"Command: timeout must be a number of seconds above 0 or None, got {timeout!r}"
            )
        if not isinstance(output, re.Pattern) and output not in ("json", "csv"):
            raise InvalidInputError(
                f"Command: output must be 'json', 'csv' or re.compile(pattern), got {output!r}"
            )
        if isinstance(output, re.Pattern) and not output.groupindex:
            raise InvalidInputError(
                "Command: output must have named groups, as in r'drag = (?P<drag>\\S+)', "
                f"got {output.pattern!r}"
            )
        if answer is not None and output != "json":
            raise InvalidInputError(
                f"Command: answer is a path in JSON and needs output='json', got {output!r}"
            )
        self.cwd = None if cwd is None else os.path.abspath(cwd)
        self.argv = _resolved([os.fspath(part) for part in argv], self.cwd, env)
        self.templates = _templates(input)
        self.input = input if isinstance(input, str) else None
        self.output, self.source, self.answer = output, source, checked_path(answer, "Command")
        self.timeout, self.limit, self.batched = timeout, int(limit), bool(batched)
        self.env = dict(env or {})
        self.outputs = None if outputs is None else tuple(outputs)
        self.infeasible = frozenset([infeasible] if isinstance(infeasible, int) else infeasible)
        self.keep = None if keep is None else os.path.abspath(keep)
        self._era = 0
        self._check_placeholders()

    def _check_placeholders(self) -> None:
        named = {name for part in self.argv for name in names_in(part)}
        if names_in(self.argv[0]):
            raise InvalidInputError(
                f"Command: argv[0] must not have placeholders, got {self.argv[0]!r}"
            )
        if "input" in named and not self.templates and self.input is None:
            raise InvalidInputError(
                "Command: input must be 'json', 'csv' or a template if argv has {input}, got None"
            )
        if self.source is not None and "output" in named:
            raise InvalidInputError("Command: source must not be given if argv has {output}")
        if self.source not in (None, "stdout", "stderr"):
            _inside(str(self.source))
            if self.cwd is not None:  # the file could stem from another run
                raise InvalidInputError(
                    "Command: source must not be a file in a shared cwd. Write to {output} instead."
                )
        values = sorted(named - {*_FILES})
        if self.batched and (self.templates or values):
            cause = "templates" if self.templates else f"placeholders {values} in argv"
            raise InvalidInputError(
                f"Command: batched must be False with {cause}, which hold one design. Use "
                "input='json' or 'csv' for batches."
            )

    def __call__(self, designs: Sequence[Design]) -> list[Any]:
        """Return a row of outputs, or an ``EvaluationError``, for each design."""
        if self.batched:
            return self._run(list(designs))
        return [row for design in designs for row in self._run([design])]

    def interrupt(self) -> None:
        self._era += 1

    def _run(self, designs: list[Any]) -> list[Any]:
        sendable, rows = as_json(designs)
        if sendable:
            answers = self._answered([designs[i] for i in sendable], list(sendable.values()))
            for i, row in zip(sendable, answers, strict=True):
                rows[i] = row
        return rows

    def _answered(self, designs: list[Any], sent: list[JSON]) -> list[Any]:
        era = self._era
        try:
            folder = Path(tempfile.mkdtemp(prefix="bo-invert-"))
        except OSError as error:
            raise FailedError(f"no working directory for {self._program}: {error}") from None
        ended: ProgramResult | None = None
        try:
            argv, given = self._prepared(designs, sent, folder)
            env = {name: v for name, v in {**os.environ, **self.env}.items() if v is not None}
            there = folder if self.cwd is None else Path(self.cwd)
            try:
                stopped = lambda: self._era != era  # noqa: E731
                ended = run_program(argv, there, env, given, self.timeout, self.limit, stopped)
            except (OSError, ValueError) as error:  # no reason to try each design alone
                return [FailedError(f"{self._program} cannot be started: {error}")] * len(designs)
            rows = self._rows(ended, folder, len(designs))
            if not any(isinstance(row, FailedError) for row in rows):
                return rows
            note = self._keep_files(folder, argv, ended)
            return [
                FailedError(row.reason + note) if isinstance(row, FailedError) else row
                for row in rows
            ]
        except FailedError as error:
            note = "" if ended is None else self._keep_files(folder, argv, ended)
            raise FailedError(error.reason + note) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _prepared(
        self, designs: list[Any], sent: list[JSON], folder: Path
    ) -> tuple[list[str], bytes | None]:
        """Write the input files; return the arguments and the standard input."""
        values: dict[str, Any] = {} if self.batched else values_of(designs[0])
        values |= {"output": str(folder / self._output), "folder": str(folder)}
        files = {name: fill(text, values) for name, text in self.templates.items()}
        path, given = next(iter(files), None), None
        if self.input is not None:
            text = (
                as_csv(sent)
                if self.input == "csv"
                else json.dumps(sent if self.batched else sent[0])
            )
            if self._names_file("input"):
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

    def _names_file(self, which: str) -> bool:
        return any(which in names_in(part) for part in self.argv)

    @property
    def _output(self) -> str:
        """Name of the file ``{output}``."""
        return f"output.{self.output}" if isinstance(self.output, str) else "output.txt"

    def _rows(self, ended: ProgramResult, folder: Path, count: int) -> list[Any]:
        if ended.stopped_by == "timeout":
            raise FailedError(
                f"{self._program} did not end in {self.timeout:g} s and was killed"
                f"{ended.stderr_text}"
            )
        if ended.stopped_by:
            raise FailedError(f"{self._program} was killed with the run")
        if ended.code in self.infeasible:
            raise InfeasibleError(f"{self._program}: {ended.exit_text}{ended.stderr_text}")
        if ended.code != 0:
            raise FailedError(f"{self._program}: {ended.exit_text}{ended.stderr_text}")
        text, cut = self._written(ended, folder)
        try:
            return read_rows(text, self.output, self.answer, count if self.batched else None)
        except FailedError as error:
            note = f"; only the last {self.limit} bytes of the output were read" if cut else ""
            raise FailedError(f"{self._program}: {error.reason}{note}{ended.stderr_text}") from None

    def _written(self, ended: ProgramResult, folder: Path) -> tuple[str, bool]:
        """Return the output text, and whether its beginning is missing."""
        source = self.source or (self._output if self._names_file("output") else "stdout")
        if source in ("stdout", "stderr"):
            stream = ended.stdout if source == "stdout" else ended.stderr
            return stream.decode(
                "utf-8", "backslashreplace"
            ), ended.truncated and source == "stdout"
        try:
            return read_file(folder / source, self.limit).decode("utf-8", "backslashreplace"), False
        except OSError as error:
            why = error.strerror or error
            raise FailedError(
                f"{self._program} wrote no output file {source}: {why}{ended.stderr_text}"
            ) from None

    def _keep_files(self, folder: Path, argv: Sequence[str], ended: ProgramResult) -> str:
        """Copy the files of a failed run to ``keep``; return a note for its reason."""
        if self.keep is None:
            return ""
        copy = Path(self.keep) / uuid.uuid4().hex[:12]
        try:
            shutil.copytree(folder, copy, symlinks=True)
            for name, content in (("stdout", ended.stdout), ("stderr", ended.stderr)):
                (copy / f"{name}.txt").write_bytes(content)
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
        text = json.dumps([arguments, self.templates])
        return joined([*digests, text_digest(text, "its arguments")])

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
    path = (env or {}).get("PATH") or None
    found = shutil.which(
        os.path.join(cwd or "", argv[0]) if os.path.dirname(argv[0]) else argv[0], path=path
    )
    if found is None:
        raise InvalidInputError(
            f"Command: argv[0] must be an executable on the PATH, got {argv[0]!r}"
        )
    if cwd is not None:
        if not os.path.isdir(cwd):
            raise InvalidInputError(f"Command: cwd must be a directory, got {cwd!r}")
        return [os.path.abspath(found), *argv[1:]]
    return [
        os.path.abspath(found),
        *(os.path.abspath(a) if os.path.isfile(a) else a for a in argv[1:]),
    ]


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
    if not name or os.path.isabs(name) or ".." in Path(name).parts:
        raise InvalidInputError(
            f"Command: file must lie inside the working directory, got {name!r}"
        )
