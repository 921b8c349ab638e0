"""A program as an oracle: an executable or a script in any language. No shell is involved."""

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
from bo_invert.execution.subprocess_run import Ended, read_file, run_program
from bo_invert.hashing import Digest, file_digest, joined, text_digest
from bo_invert.oracles.base import Oracle
from bo_invert.oracles.io.json_codec import Where, as_csv, as_json, checked_where
from bo_invert.oracles.io.output_parser import Form, read_rows
from bo_invert.oracles.io.templates import fill, names_in, values_of
from bo_invert.types import JSON

_OURS = ("input", "output", "folder")
"""Placeholders in ``argv`` that name files, not values."""

_SYSTEM = (
    "/usr/",
    "/bin/",
    "/sbin/",
    "/opt/",
    os.path.join(sys.prefix, ""),
    os.path.join(sys.base_prefix, ""),
)
"""Where programs lie that the system brought."""


class Command(Oracle):
    """Runs a program for every design, or for a batch of them, and reads its answer.

    Each call has a working directory of its own, which is deleted afterwards, and a process group of its own. When the
    program ends, when its time is up, when the run is interrupted or this process dies, all that is left of the group
    is killed. Any number of threads and processes may call at once.

    Whatever goes wrong costs the attempt it happened in and nothing else: an exit code other than 0, a signal, no
    answer in time, output that cannot be read. If a whole batch fails, each of its designs is asked again alone and
    billed twice; if single rows cannot be read, only these fail.

    Args:
        argv: program and arguments. ``{input}`` and ``{output}`` stand for the paths of the files the program reads and
            writes, ``{folder}`` for the working directory, ``{temperature}`` or ``{x[0]:.3f}`` for values of the design
            (``{x}`` is the design itself; not in batches). Arguments that name existing files are made absolute.
        input: ``"json"`` (the design, or the list of designs) or ``"csv"`` (a line of names, a line per design), on
            standard input, or in a file if ``argv`` has ``{input}``; a ``Path`` of a template, or a dict from names of
            files to templates (a ``Path``, or the text), whose placeholders are filled and which then lie in the
            working directory, ``{input}`` being the first; None for nothing.
        output: how the answer is written: ``"json"``, ``"csv"`` (a line of names, then numbers, a line per design), or
            a compiled pattern whose named groups are outputs (of one design, the last match counts; of a batch, every
            match is a row).
        source: where it is written: ``"stdout"``, ``"stderr"`` or the name of a file in the working directory; default:
            the file ``{output}`` if ``argv`` has it, otherwise stdout. Of JSON behind a log, the last line counts.
        answer: where in the JSON the outputs are: a path such as ``"result.scores[0]"``, or one per output.
        timeout: seconds for one run of the program, of however many designs; None for any time.
        cwd: run there instead of in a directory of its own; ``argv`` is then left as it is.
        env: added to the environment of this process; None as a value takes a variable away.
        batched: one run answers many designs.
        outputs: names of the outputs; needed when there are several and they have no names in the answer.
        infeasible: exit codes that say that a design cannot be evaluated at all.
        keep: a folder in which working directories of failed runs are kept, with what was printed, for a look at them.
        limit: bytes that are read of an answer. Of longer ones on stdout or stderr, the end is kept.

    Raises:
        InvalidInputError: an argument cannot be what was meant, there is no such program, or the system is not POSIX.
    """

    waits = True

    def __init__(
        self,
        argv: Sequence[str | os.PathLike[str]],
        input: str | Path | Mapping[str, str | Path] | None = "json",
        output: Form = "json",
        source: str | None = None,
        answer: Where = None,
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
                "Command: needs the process groups of a POSIX system; use Http or a function here"
            )
        if (
            isinstance(argv, str)
            or not len(argv)
            or not all(isinstance(a, (str, os.PathLike)) for a in argv)
        ):
            raise InvalidInputError(
                f"Command: argv is a list such as ['solver', '--fast'] (no shell), got {argv!r}"
            )
        if timeout is not None and not (
            isinstance(timeout, (int, float)) and 0 < timeout < math.inf
        ):
            raise InvalidInputError(
                f"Command: timeout is a number of seconds above 0, or None, got {timeout!r}"
            )
        if not isinstance(output, re.Pattern) and output not in ("json", "csv"):
            raise InvalidInputError(
                f"Command: output is 'json', 'csv' or re.compile(pattern), got {output!r}"
            )
        if isinstance(output, re.Pattern) and not output.groupindex:
            raise InvalidInputError(
                f"Command: {output.pattern!r} has no named groups, as in r'drag = (?P<drag>\\S+)'"
            )
        if answer is not None and output != "json":
            raise InvalidInputError(
                "Command: answer is a path into JSON, and output is something else"
            )
        self.cwd = None if cwd is None else os.path.abspath(cwd)
        self.argv = _resolved([os.fspath(part) for part in argv], self.cwd, env)
        self.templates = _templates(input)
        self.input = input if isinstance(input, str) else None
        self.output, self.source, self.answer = output, source, checked_where(answer, "Command")
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
                f"Command: the program itself cannot depend on the design: {self.argv[0]!r}"
            )
        if "input" in named and not self.templates and self.input is None:
            raise InvalidInputError(
                "Command: argv has {input}, but input=None; say 'json', 'csv' or a template"
            )
        if self.source is not None and "output" in named:
            raise InvalidInputError(
                "Command: the answer is either in {output}, which argv has, or in source=..."
            )
        if self.source not in (None, "stdout", "stderr"):
            _inside(str(self.source))
            if (
                self.cwd is not None
            ):  # what an earlier or another run left there would pass for an answer
                raise InvalidInputError(
                    "Command: in a cwd that runs share, let the program write to {output}, not source=..."
                )
        if self.batched and (self.templates or named - {*_OURS}):
            what = (
                "templates"
                if self.templates
                else f"placeholders {sorted(named - {*_OURS})} in argv"
            )
            raise InvalidInputError(
                f"Command: {what} hold one design; a batch goes in as input='json' or 'csv'"
            )

    def __call__(self, designs: Sequence[Any]) -> list[Any]:
        """A row of outputs for each design; one that cannot be read is a verdict instead."""
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
            raise FailedError(f"no directory to run {self._program} in: {error}") from None
        ended: Ended | None = None
        try:
            argv, given = self._prepared(designs, sent, folder)
            env = {name: v for name, v in {**os.environ, **self.env}.items() if v is not None}
            there = folder if self.cwd is None else Path(self.cwd)
            try:
                stopped = lambda: self._era != era  # noqa: E731
                ended = run_program(argv, there, env, given, self.timeout, self.limit, stopped)
            except (
                OSError,
                ValueError,
            ) as error:  # nothing was asked: no reason to try each design alone
                return [FailedError(f"{self._program} cannot be started: {error}")] * len(designs)
            rows = self._rows(ended, folder, len(designs))
            kept = (
                self._keep(folder, argv, ended)
                if any(isinstance(row, FailedError) for row in rows)
                else ""
            )
            return [
                FailedError(row.reason + kept) if isinstance(row, FailedError) else row
                for row in rows
            ]
        except FailedError as verdict:
            kept = "" if ended is None else self._keep(folder, argv, ended)
            raise FailedError(verdict.reason + kept) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _prepared(
        self, designs: list[Any], sent: list[JSON], folder: Path
    ) -> tuple[list[str], bytes | None]:
        """The arguments, and what goes to standard input. Writes the files."""
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
        """The file that ``{output}`` stands for."""
        return f"output.{self.output}" if isinstance(self.output, str) else "output.txt"

    def _rows(self, ended: Ended, folder: Path, count: int) -> list[Any]:
        if ended.why == "timeout":
            raise FailedError(
                f"{self._program} gave no answer in {self.timeout:g} s, and was ended{ended.complaint}"
            )
        if ended.why:
            raise FailedError(f"{self._program} was ended with the run")
        if ended.code in self.infeasible:
            raise InfeasibleError(f"{self._program}: {ended.sentence}{ended.complaint}")
        if ended.code != 0:
            raise FailedError(f"{self._program}: {ended.sentence}{ended.complaint}")
        text, cut = self._written(ended, folder)
        try:
            return read_rows(text, self.output, self.answer, count if self.batched else None)
        except FailedError as verdict:
            note = (
                f"; of what it printed, only the last {self.limit} bytes were kept" if cut else ""
            )
            raise FailedError(f"{self._program}: {verdict.reason}{note}{ended.complaint}") from None

    def _written(self, ended: Ended, folder: Path) -> tuple[str, bool]:
        """What the answer is to be read from, and whether its beginning is missing."""
        source = self.source or (self._output if self._names_file("output") else "stdout")
        if source in ("stdout", "stderr"):
            stream = ended.stdout if source == "stdout" else ended.stderr
            return stream.decode("utf-8", "backslashreplace"), ended.cut and source == "stdout"
        try:
            return read_file(folder / source, self.limit).decode("utf-8", "backslashreplace"), False
        except OSError as error:
            why = error.strerror or error
            raise FailedError(
                f"{self._program} left no answer in {source}: {why}{ended.complaint}"
            ) from None

    def _keep(self, folder: Path, argv: Sequence[str], ended: Ended) -> str:
        if self.keep is None:
            return ""
        kept = Path(self.keep) / uuid.uuid4().hex[:12]
        try:
            shutil.copytree(folder, kept, symlinks=True)
            for name, content in (("stdout", ended.stdout), ("stderr", ended.stderr)):
                (kept / f"{name}.txt").write_bytes(content)
            (kept / "argv.json").write_text(json.dumps(list(argv)))
        except OSError as error:
            return f" (its files could not be kept: {error})"
        return f" (its files are in {kept})"

    @property
    def _program(self) -> str:
        return os.path.basename(self.argv[0])

    def __repr__(self) -> str:
        return f"Command({self.argv!r})"

    def digest(self) -> Digest | None:
        """Of the program and of the files among its arguments; an interpreter is told by its script alone."""
        files = [part for part in self.argv if os.path.isfile(os.path.join(self.cwd or "", part))]
        if len(files) > 1 and self.argv[0].startswith(_SYSTEM):
            files = files[1:]
        told = [file_digest(os.path.join(self.cwd or "", file)) for file in files]
        words = [os.path.basename(part) if part in files else part for part in self.argv[1:]]
        return joined([*told, text_digest(json.dumps([words, self.templates]), "its arguments")])

    def to_json(self) -> JSON:
        templates = {
            name: hashlib.sha256(text.encode()).hexdigest() for name, text in self.templates.items()
        }
        form = (
            {"pattern": self.output.pattern} if isinstance(self.output, re.Pattern) else self.output
        )
        return {
            "type": "command", "argv": self.argv, "input": templates or self.input, "output": form,
            "source": self.source, "answer": self.answer if not isinstance(self.answer, Mapping) else dict(self.answer),
            "cwd": self.cwd, "env": sorted(self.env),
        }  # fmt: skip


def _resolved(argv: list[str], cwd: str | None, env: Mapping[str, str | None] | None) -> list[str]:
    """The arguments, with files named from here made absolute if the program will run elsewhere."""
    path = (env or {}).get("PATH") or None
    found = shutil.which(
        os.path.join(cwd or "", argv[0]) if os.path.dirname(argv[0]) else argv[0], path=path
    )
    if found is None:
        raise InvalidInputError(
            f"Command: no program {argv[0]!r} can be run; is it on the PATH, and executable?"
        )
    if cwd is not None:
        if not os.path.isdir(cwd):
            raise InvalidInputError(f"Command: cwd={cwd!r} is no directory")
        return [os.path.abspath(found), *argv[1:]]
    return [
        os.path.abspath(found),
        *(os.path.abspath(a) if os.path.isfile(a) else a for a in argv[1:]),
    ]


def _templates(given: Any) -> dict[str, str]:
    """Names of files in the working directory, and their text with placeholders."""
    if given is None or (isinstance(given, str) and given in ("json", "csv")):
        return {}
    named = {given.name: given} if isinstance(given, Path) else given
    if not isinstance(named, Mapping) or not named:
        raise InvalidInputError(
            f"Command: input is 'json', 'csv', None, the Path of a template, or {{'name of the file': template}}, got "
            f"{given!r:.80}"
        )
    templates = {}
    for name, text in named.items():
        _inside(name)
        try:
            templates[name] = (
                text.read_text(encoding="utf-8") if isinstance(text, Path) else str(text)
            )
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(
                f"Command: the template {text} cannot be read: {error}"
            ) from error
    return templates


def _inside(name: str) -> None:
    if not name or os.path.isabs(name) or ".." in Path(name).parts:
        raise InvalidInputError(
            f"Command: {name!r} is no name of a file inside the working directory"
        )
