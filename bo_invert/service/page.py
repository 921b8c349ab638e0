"""The page to watch studies on, as static files; nothing on it comes from other hosts."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from bo_invert.service import http_errors as problems

page = APIRouter(include_in_schema=False)
_FOLDER = Path(__file__).parent / "static"
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_FILES = ("index.html", "page.js", "page.css")


@page.get("/healthz")
async def health() -> JSONResponse:
    """Whether the server is there."""
    return JSONResponse({"status": "ok"})


@page.get("/")
async def index() -> Response:
    """The page."""
    return _file("index.html")


@page.get("/static/{name}")
async def static(name: str) -> Response:
    """One of the page's own files; no other can be named."""
    return _file(name) if name in _FILES else problems.response(404, "there is no such file")


def _file(name: str) -> Response:
    return Response((_FOLDER / name).read_bytes(), media_type=_TYPES[Path(name).suffix])
