"""Responses of bounded size: pages of items that end at a number of bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from bo_invert.types import JSON

PAGE_BYTES = 2 * 1024 * 1024
"""Bytes after which a page ends. Engineering choice: one item more than this, at least one item,
takes a few hundredths of a second."""
CHUNK = 64 * 1024
"""Bytes sent at once, so that a slow client does not fill the buffer of its connection.
Engineering choice: the limit of the buffer in uvicorn."""
_JSON = "application/json"


class Page:
    """List of items as JSON text, up to ``PAGE_BYTES``."""

    def __init__(self) -> None:
        self._items: list[bytes] = []
        self.size = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def full(self) -> bool:
        """True once no further item belongs to the page."""
        return self.size >= PAGE_BYTES

    def add(self, item: BaseModel | dict[str, JSON]) -> None:
        """Append an item."""
        text = encoded(item)
        self._items.append(text)
        self.size += len(text)

    def response(self, items: str, **fields: JSON) -> Response:
        """Return the response.

        Args:
            items: name of the list.
            fields: further fields of the response.
        """
        rest = json.dumps(fields, allow_nan=False)[1:]
        body = b"".join(
            [
                f'{{"{items}":['.encode(),
                b",".join(self._items),
                f"],{rest}".encode() if fields else b"]}",
            ]
        )
        return Response(body, media_type=_JSON)


def streamed(items: str, content: Iterable[BaseModel], status: int = 200) -> Response:
    """Return a response with a list that is converted while it is sent.

    Args:
        items: name of the list.
        content: items of the list.
        status: status code.
    """

    def parts() -> Iterator[bytes]:
        yield f'{{"{items}":['.encode()
        for number, item in enumerate(content):
            yield (b"," if number else b"") + encoded(item)
        yield b"]}"

    return StreamingResponse(parts(), status, media_type=_JSON)


def encoded(item: BaseModel | dict[str, JSON]) -> bytes:
    """Return an item as JSON text."""
    if isinstance(item, BaseModel):
        return item.model_dump_json().encode()
    return json.dumps(item, allow_nan=False).encode()
