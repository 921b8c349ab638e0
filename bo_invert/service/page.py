"""Web page of the server as static files; it loads nothing from other hosts."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from bo_invert.service.http_errors import problem_response

router = APIRouter(include_in_schema=False)
_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    "index.html": "text/html",
    "page.js": "text/javascript",
    "charts.js": "text/javascript",
    "forms.js": "text/javascript",
    "targets.js": "text/javascript",
    "page.css": "text/css",
}
"""Media types of the files that are served; no other file can be requested."""


@router.get("/healthz")
async def health() -> JSONResponse:
    """Return 200 while the server runs."""
    return JSONResponse({"status": "ok"})


@router.get("/")
async def index() -> Response:
    """Return the page."""
    return await static("index.html")


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """Return a file of the page."""
    if name not in _TYPES:
        return problem_response(404, "no such file")
    return Response((_FOLDER / name).read_bytes(), media_type=_TYPES[name])
