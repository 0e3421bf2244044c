"""A registry on this machine with the scripted model, from which a real Ollama can pull it.

It redirects downloads to another name of this host, as Ollama requires. Without the redirect, or with other bytes than
the digest says, a pull fails.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import NamedTuple

from support.machine.scripted_model import scripted_model

_KINDS = ("good", "served-directly", "corrupt")
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class ModelRegistry(NamedTuple):
    """A running registry."""

    port: int

    def model(self, kind: str) -> str:
        """Return the name of a model: `good`, `served-directly`, `corrupt` or `missing`."""
        return f"127.0.0.1:{self.port}/library/{kind}"


@contextlib.contextmanager
def model_registry() -> Iterator[ModelRegistry]:
    """Run a registry until the block ends."""
    manifests: dict[str, bytes] = {}
    blobs: dict[str, bytes] = {}
    for kind in _KINDS:
        # Each model has its own weights, because Ollama downloads equal ones once.
        made = {_digest(blob): blob for blob in (scripted_model() + kind.encode(), kind.encode(), _config(kind))}
        manifests[kind] = _manifest(made)
        blobs |= made

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            *_, kind, what, name = self.path.split("/")
            if what == "manifests" and kind in manifests:
                self._answer(200, manifests[kind], ("Content-Type", _MANIFEST))
            elif what == "blobs" and name in blobs:
                self._blob(kind, name)
            else:
                self._answer(404, b"{}")

        def _blob(self, kind: str, name: str) -> None:
            is_direct = self.path.startswith("/direct/")
            if self.command == "GET" and not is_direct and kind != "served-directly":
                port = server.server_port
                self._answer(307, b"", ("Location", f"http://localhost:{port}/direct{self.path}"))
                return
            blob = blobs[name]
            data = bytes(len(blob)) if kind == "corrupt" and is_direct else blob
            first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
            part = data[int(first) : int(last) + 1] if last else data
            self._answer(206 if last else 200, part)

        def _answer(self, status: int, body: bytes, *fields: tuple[str, str]) -> None:
            self.send_response(status)
            for name, value in (*fields, ("Content-Length", str(len(body)))):
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Be silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield ModelRegistry(server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _config(kind: str) -> bytes:
    config = {"model_format": "gguf", "model_family": "llama", "model_type": kind, "file_type": "F16"}
    return json.dumps(config).encode()


def _manifest(blobs: dict[str, bytes]) -> bytes:
    weights, template, config = blobs
    layers = [
        _layer("application/vnd.ollama.image.model", weights, blobs),
        _layer("application/vnd.ollama.image.template", template, blobs),
    ]
    settings = _layer("application/vnd.docker.container.image.v1+json", config, blobs)
    return json.dumps({"schemaVersion": 2, "mediaType": _MANIFEST, "config": settings, "layers": layers}).encode()


def _layer(kind: str, digest: str, blobs: dict[str, bytes]) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest, "size": len(blobs[digest])}
