"""Who may do what: bearer tokens in a file that only its owner can read."""

from __future__ import annotations

import hmac
import json
import os
import secrets
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from bo_invert.errors import InvalidInputError


class Access(StrEnum):
    """What a token allows."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True)
class Token:
    """One of them.

    Args:
        name: for its owner; no two are the same.
        access: READ for looking, WRITE for everything.
        secret: what goes behind ``Authorization: Bearer``.
    """

    name: str
    access: Access
    secret: str


class Finder(Protocol):
    """Knows tokens."""

    def find(self, secret: str) -> Token | None:
        """The token with this secret."""


class Guest:
    """One token that may look, known to nobody else and gone with the process."""

    def __init__(self) -> None:
        self.token = Token("guest", Access.READ, secrets.token_urlsafe(32))

    def find(self, secret: str) -> Token | None:
        """The token, if this is its secret."""
        return (
            self.token
            if hmac.compare_digest(secret.encode("utf-8", "replace"), self.token.secret.encode())
            else None
        )


def default_file() -> Path:
    """``$BO_INVERT_TOKENS`` if it is set, otherwise ``~/.config/bo_invert/tokens.json``."""
    given = os.environ.get("BO_INVERT_TOKENS")
    return Path(given) if given else Path.home() / ".config" / "bo_invert" / "tokens.json"


class Tokens:
    """The tokens in a file. It is made, readable by its owner alone, with the first token.

    Args:
        file: where they are.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def all(self) -> list[Token]:
        """Every token, in the order in which they were made; none where there is no file.

        Raises:
            InvalidInputError: others can read the file, or it is damaged.
        """
        try:
            mode = self.file.stat().st_mode
            content = self.file.read_bytes()
        except FileNotFoundError:
            return []
        if stat.S_IMODE(mode) & 0o077:
            raise InvalidInputError(
                f"others can read the tokens in {self.file}; run: chmod 600 {self.file}"
            )
        try:
            return [
                Token(str(t["name"]), Access(t["access"]), str(t["secret"]))
                for t in json.loads(content)
            ]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise InvalidInputError(
                f"the tokens in {self.file} are damaged ({error}); move the file away"
            ) from error

    def make(self, name: str, access: Access) -> Token:
        """A new token.

        Raises:
            InvalidInputError: the name is taken or empty.
        """
        known = self.all()
        if not name or any(token.name == name for token in known):
            raise InvalidInputError(
                f"a token needs a name of its own, got {name!r}; there are {[t.name for t in known]}"
            )
        token = Token(name, access, secrets.token_urlsafe(32))
        self._write([*known, token])
        return token

    def revoke(self, name: str) -> None:
        """Forget a token. A server that is running forgets it too.

        Raises:
            InvalidInputError: there is none of this name.
        """
        known = self.all()
        kept = [token for token in known if token.name != name]
        if len(kept) == len(known):
            raise InvalidInputError(
                f"no token is named {name!r}; there are {[t.name for t in known]}"
            )
        self._write(kept)

    def find(self, secret: str) -> Token | None:
        """The token with this secret. It takes as long for a wrong one as for a right one."""
        given, found = secret.encode("utf-8", "replace"), None
        for token in self.all():
            if hmac.compare_digest(given, token.secret.encode()):
                found = token
        return found

    def _write(self, tokens: list[Token]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_name(f".{self.file.name}.{secrets.token_hex(4)}")
        rows = [{"name": t.name, "access": str(t.access), "secret": t.secret} for t in tokens]
        with os.fdopen(
            os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as file:
            json.dump(rows, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.file)
