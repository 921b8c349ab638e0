"""``bo-invert serve``, ``watch`` and ``token``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bo_invert.cli.options import Storage
from bo_invert.cli.output import say, show
from bo_invert.errors import InvalidInputError
from bo_invert.service.access_tokens import Access, TokenFile, default_file

TokenOption = Annotated[
    Path | None,
    typer.Option("--tokens", help="Token file; default: ~/.config/bo_invert/tokens.json."),
]


def serve(
    storage: Storage,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free port.")] = 8765,
    expose: Annotated[
        bool, typer.Option("--expose", help="Allow an address that other machines can reach.")
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Host name that requests may use; repeatable."),
    ] = None,
    tokens: TokenOption = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with [problems.NAME] tables.")
    ] = None,
    askers: Annotated[
        int, typer.Option(min=1, help="Largest number of processes that run strategies.")
    ] = 4,
    asks_per_second: Annotated[
        float, typer.Option(min=0.01, help="Rate limit of asks per token.")
    ] = 50.0,
    readers: Annotated[
        int,
        typer.Option(
            min=0, help="Number of processes for reads and large changes; 0: use the server's."
        ),
    ] = 2,
    reads_per_second: Annotated[
        float, typer.Option(min=0.01, help="Rate limit of reads per token.")
    ] = 200.0,
) -> None:
    """Serve the studies of a storage over HTTP, with a dashboard."""
    from bo_invert.service import server  # requires the extra, which --help does not

    hosts = tuple(allowed_host or ())
    server.serve(
        server.ServerSettings(
            storage,
            host,
            port,
            expose,
            hosts,
            tokens,
            config,
            askers,
            asks_per_second,
            readers,
            reads_per_second,
        )
    )


def watch(
    storage: Annotated[
        str, typer.Argument(metavar="STORAGE", help="Database URL or file ending in .db.")
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free port.")] = 0,
    config: Annotated[
        Path | None, typer.Option(help="TOML file of problems that can draw their designs.")
    ] = None,
) -> None:
    """Show a read-only dashboard of the studies in a storage."""
    from bo_invert.service import server

    server.watch(storage, port, config)


def token(
    tokens: TokenOption = None,
    new: Annotated[str | None, typer.Option(metavar="NAME", help="Create a token.")] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Restrict the new token to reading.")
    ] = False,
    revoke: Annotated[str | None, typer.Option(metavar="NAME", help="Delete a token.")] = None,
) -> None:
    """List, create or revoke access tokens of a server."""
    if read_only and new is None:
        raise InvalidInputError("--read-only requires --new NAME")
    file = tokens or default_file()
    known = TokenFile(file)
    if revoke is not None:
        known.revoke(revoke)
        say(f"token {revoke!r} revoked")
    if new is not None:
        print(known.make(new, Access.READ if read_only else Access.WRITE).secret)
    elif revoke is None:
        for one in known.all():
            show(f"{one.name}\t{one.access}\t{one.secret}")
        if not known.all():
            say(f"{file} has no tokens. Create one with: bo-invert token --new NAME")
