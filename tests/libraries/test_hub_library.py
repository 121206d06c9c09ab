"""``huggingface_hub`` itself, against a server on this machine in place of the hub."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from paramreuse.checkpoint import write_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Serve one file as the hub does: a HEAD that names commit and checksum, then a GET."""
    file = write_checkpoint(tmp_path / "served.safetensors", {"conv.weight": torch.ones(2, 1, 1)})
    content = file.read_bytes()

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            there = self.path.split("?")[0] == "/org/name/resolve/main/model.safetensors"
            self.send_response(200 if there else 404)
            self.send_header("X-Repo-Commit", COMMIT)
            if not there:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("ETag", '"abcdef"')
            self.send_header("Content-Length", str(len(content) if there else 0))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


CODE = """
import sys
from paramreuse.checkpoint import read_checkpoint
try:
    print(list(read_checkpoint(sys.argv[1])))
except ValueError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
@pytest.mark.libraries
def test_the_library_downloads_once_and_then_needs_no_network(address: str, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="the extra 'hub' is not installed")

    def read(source: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", CODE, source],
            env=os.environ | {"HF_HOME": str(tmp_path / "cache")} | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    assert "cannot be reached" in read("hf://org/name", HF_HUB_OFFLINE="1")
    assert read("hf://org/name", HF_ENDPOINT=address) == "['conv.weight']"
    assert read("hf://org/name", HF_HUB_OFFLINE="1") == "['conv.weight']"
    assert "has no 'unet.safetensors'" in read(
        "hf://org/name/unet.safetensors", HF_ENDPOINT=address
    )
