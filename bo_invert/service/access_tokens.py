"""Bearer tokens in a file that only its owner can read."""

from __future__ import annotations

import hmac
import json
import os
import secrets
import stat
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from bo_invert.errors import InvalidInputError

_FILE = Path("bo_invert", "tokens.json")


class Access(StrEnum):
    """Permission of a token."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True)
class Token:
    """Bearer token.

    Args:
        name: unique name, shown to the operator.
        access: READ for GET requests, WRITE for all.
        secret: value of the header ``Authorization: Bearer``.
    """

    name: str
    access: Access
    secret: str


class TokenLookup(Protocol):
    """Lookup of tokens by their secrets."""

    def find(self, secret: str) -> Token | None:
        """Return the token with this secret."""


class ViewerToken:
    """Read-only token of one process, stored in memory only."""

    def __init__(self) -> None:
        self.token = Token("viewer", Access.READ, secrets.token_urlsafe(32))

    def find(self, secret: str) -> Token | None:
        """Return the token if this is its secret."""
        given = secret.encode("utf-8", "replace")
        return self.token if hmac.compare_digest(given, self.token.secret.encode()) else None


def default_file() -> Path:
    """Return the file of the tokens of this user.

    It is ``$BO_INVERT_TOKENS``, else ``bo_invert/tokens.json`` in ``$XDG_CONFIG_HOME``, else in
    ``~/.config``.
    """
    given = os.environ.get("BO_INVERT_TOKENS")
    if given:
        return Path(given)
    usual = Path.home() / ".config" / _FILE
    folder = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    # The specification ignores relative paths.
    return folder / _FILE if folder.is_absolute() else usual


@dataclass(frozen=True)
class TokenFile:
    """Tokens in a JSON file of mode 600, created with the first token.

    Args:
        file: path of the file.
    """

    file: Path

    def all(self) -> list[Token]:
        """Return all tokens in order of creation; none if there is no file.

        Raises:
            InvalidInputError: other users can read the file, or its contents are invalid.
        """
        try:
            mode = self.file.stat().st_mode
            content = self.file.read_bytes()
        except FileNotFoundError:
            return []
        if stat.S_IMODE(mode) & 0o077:
            raise InvalidInputError(
                f"token file {self.file}: other users can read it; run: chmod 600 {self.file}"
            )
        try:
            return [
                Token(str(row["name"]), Access(row["access"]), str(row["secret"]))
                for row in json.loads(content)
            ]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise InvalidInputError(
                f"token file {self.file}: contents are invalid ({error}); move the file away"
            ) from error

    def make(self, name: str, access: Access) -> Token:
        """Create a token.

        Raises:
            InvalidInputError: the name is empty or in use.
        """
        known = self.all()
        if not name or any(token.name == name for token in known):
            raise InvalidInputError(
                f"token: name must be new and not empty, got {name!r}; "
                f"existing: {[token.name for token in known]}"
            )
        token = Token(name, access, secrets.token_urlsafe(32))
        self._write([*known, token])
        return token

    def revoke(self, name: str) -> None:
        """Delete a token; a running server rejects it from the next request on.

        Raises:
            InvalidInputError: no token has this name.
        """
        known = self.all()
        names = [token.name for token in known]
        if name not in names:
            raise InvalidInputError(f"token: name must be one of {names}, got {name!r}")
        self._write([token for token in known if token.name != name])

    def find(self, secret: str) -> Token | None:
        """Return the token with this secret, in a time that does not depend on the secret."""
        given = secret.encode("utf-8", "replace")
        matches = [one for one in self.all() if hmac.compare_digest(given, one.secret.encode())]
        return matches[-1] if matches else None

    def _write(self, tokens: list[Token]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_name(f".{self.file.name}.{secrets.token_hex(4)}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump([asdict(token) for token in tokens], file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.file)
