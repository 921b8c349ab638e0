"""PNG files and data URIs of pictures, without a plotting library."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.report.runs import Picture, as_picture


def png(picture: Picture) -> bytes:
    """Encode bytes ``(height, width)`` (grey) or ``(height, width, 3)`` (colour) as a PNG file."""
    height, width = picture.shape[:2]
    rows = np.ascontiguousarray(picture, dtype=np.uint8).reshape(height, -1)
    filtered = np.pad(rows, ((0, 0), (1, 0)))  # filter 0: none
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if picture.ndim == 3 else 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 9)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def mosaic(pictures: Sequence[Picture], columns: int) -> Picture:
    """Return pictures of one shape, row by row, as one picture; white fills the last row.

    Args:
        pictures: pictures, bytes ``(height, width[, 3])``.
        columns: number of pictures in a row.
    """
    # A light line separates the pictures.
    width = max(1, pictures[0].shape[0] // 14)
    edges = [(0, width), (0, width), (0, 0)][: pictures[0].ndim]
    framed = [np.pad(one, edges, constant_values=255) for one in pictures]
    framed += [np.full_like(framed[0], 255)] * (-len(framed) % columns)
    rows = [np.concatenate(framed[i : i + columns], axis=1) for i in range(0, len(framed), columns)]
    return np.concatenate(rows, axis=0)


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """Encode bytes as a ``data:`` URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def image_tag(picture: ArrayLike, alt: str, width: int = 112) -> str:
    """Return an ``<img>`` of a picture of numbers in [0, 1] or bytes; ``alt`` must be escaped."""
    finished = str(getattr(picture, "dtype", "")).endswith("uint8")
    shown = np.asarray(picture) if finished else as_picture(picture)
    style = f"width:{width}px;image-rendering:pixelated;border-radius:6px"
    return f'<img src="{data_uri(png(shown))}" alt="{alt}" style="{style}">'
