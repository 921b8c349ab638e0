"""What docs/oracles.md shows works as it stands there."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import bo_invert as bi

PAGE = (Path(__file__).parent.parent / "docs" / "oracles.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M))


def blocks(section: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", SECTIONS[section], re.S)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        rows = json.loads(self.rfile.read(int(self.headers["content-length"])))["instances"]
        said = json.dumps({"predictions": [{"score": sum(row)} for row in rows]}).encode()
        self.send_response(200 if self.path == "/v1/predict" else 404)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("section", [name for name in SECTIONS if blocks(name)])
def test_examples_run(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {"bi": bi, "__name__": "docs"}
    if section != "A program":
        exec("import numpy as np", scope)
    needed = blocks("A program") if section == "Known answers" else []
    for block in [*needed, *blocks(section)]:
        name = re.match(r"# (\S+\.\w+)\n", block)
        if name:  # a file, and a text in quotes if it is no Python
            body = block[name.end() :]
            Path(name[1]).write_text(body if name[1].endswith(".py") else body.strip().strip('"').lstrip())
        else:
            code = block.replace("127.0.0.1:9000", address)
            exec(compile(code, f"docs/oracles.md: {section}", "exec"), scope)
    studies = [value for value in scope.values() if isinstance(value, bi.Study)]
    problem = scope["problem"]
    assert isinstance(problem, bi.Problem)
    for study in studies:
        assert study.best is not None
        assert study.spent.failed == 0
    if section == "A program":
        beam = next(study for study in studies if study.name != "heat")
        assert beam.spent.values == 30
        assert beam.best.design["material"] == "oak"
    if section == "Known answers":
        assert scope["second"].spent.attempts > scope["second"].spent.values == 8
