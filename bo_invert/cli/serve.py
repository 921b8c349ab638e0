"""``bo-invert serve``, ``watch`` and ``token``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bo_invert.cli.options import Storage
from bo_invert.cli.output import say, show
from bo_invert.errors import InvalidInputError

TokenOption = Annotated[
    Path | None,
    typer.Option(
        "--tokens", help="File with the tokens; default: ~/.config/bo_invert/tokens.json."
    ),
]


def serve(
    storage: Storage,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8765,
    expose: Annotated[
        bool, typer.Option("--expose", help="An address that others can reach is meant.")
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name by which others call this server; repeatable."),
    ] = None,
    tokens: TokenOption = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with [problems.NAME] tables.")
    ] = None,
    askers: Annotated[int, typer.Option(min=1, help="Processes that ask strategies.")] = 1,
    asks_per_second: Annotated[
        float, typer.Option(min=0.01, help="Rate limit, for each token.")
    ] = 50.0,
) -> None:
    """Serve the studies in a storage over HTTP, with a page to watch them on."""
    from bo_invert.service.server import ServerSettings
    from bo_invert.service.server import serve as run

    names = tuple(allowed_host or ())
    run(ServerSettings(storage, host, port, expose, names, tokens, config, askers, asks_per_second))


def watch(
    storage: Annotated[
        str,
        typer.Argument(
            metavar="STORAGE", help="sqlite:///runs.db, runs.db or postgresql+psycopg://..."
        ),
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 0,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with problems that can draw their designs.")
    ] = None,
) -> None:
    """Look at the studies in a storage on a page, while others work on them; nothing is ever written."""
    from bo_invert.service.server import watch as run

    run(storage, port, config)


def token(
    tokens: TokenOption = None,
    new: Annotated[str | None, typer.Option(metavar="NAME", help="Make a token.")] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="The new one may only look.")
    ] = False,
    revoke: Annotated[
        str | None, typer.Option(metavar="NAME", help="Forget a token, at once.")
    ] = None,
) -> None:
    """Show, make or revoke the tokens of a server on this machine."""
    from bo_invert.service.tokens import Access, TokenFile, default_file

    if read_only and new is None:
        raise InvalidInputError("--read-only is for a new token; write --new NAME --read-only")
    file = tokens or default_file()
    known = TokenFile(file)
    if revoke is not None:
        known.revoke(revoke)
        say(f"token {revoke!r} is forgotten")
    if new is not None:
        print(known.make(new, Access.READ if read_only else Access.WRITE).secret)
    elif revoke is None:
        for one in known.all():
            show(f"{one.name}\t{one.access}\t{one.secret}")
        if not known.all():
            say(f"there are no tokens in {file}; bo-invert token --new NAME makes one")
