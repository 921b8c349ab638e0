"""Tests of the examples in docs/oracles.md."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bo_invert import registry

#: Numbers of calls there, and here.
FEWER = {20: 12, 15: 10, 10: 6}
PAGE = (Path(__file__).parents[2] / "docs" / "oracles.md").read_text()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        rows = json.loads(self.rfile.read(int(self.headers["content-length"])))["instances"]
        body = json.dumps({"predictions": [{"score": sum(row)} for row in rows]}).encode()
        self.send_response(200 if self.path == "/v1/predict" else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    for needed in ("httpx", "onnx", "onnxruntime", "lightgbm"):
        pytest.importorskip(needed)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {"__name__": "docs"}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        name = re.match(r"# (\S+\.\w+)\n", block)
        if name:  # a file; text in quotes if it is no Python
            body = block[name.end() :]
            Path(name[1]).write_text(
                body if name[1].endswith(".py") else body.strip().strip('"').lstrip()
            )
        else:
            short = block.replace("127.0.0.1:9000", address)
            short = re.sub(r"(?<=\.run\()(?:20|15|10)\b", lambda m: str(FEWER[int(m[0])]), short)
            exec(compile(short, "docs/oracles.md", "exec"), scope)
    for study in (scope["beam"], scope["hot"], scope["remote"], scope["first"], scope["second"]):
        assert study.best is not None
        assert study.spent.failed == 0
    assert scope["beam"].spent.values == FEWER[20]
    assert scope["beam"].best.design["material"] == "oak"
    assert scope["hot"].best.loss < 1.0
    assert scope["remote"].spent.values == FEWER[15]
    assert scope["second"].spent.values == 8
    assert scope["second"].spent.reused > 0


def test_every_adapter_is_on_the_page() -> None:
    for name in registry.names("oracles"):
        assert registry.resolve("oracles", name).__name__ in PAGE, name
