"""A registry with a certificate of a private CA, and a proxy through which alone its host name is known."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

HOST = "registry.test"
#: Ollama wants a redirect to another host for each blob.
BLOBS = "blobs.test"
#: Name of a model in the registry.
MODEL = f"{HOST}/library/private:latest"
_CONFIG = json.dumps({"model_format": "gguf", "model_family": "llama"}).encode()
_WEIGHTS = b"not loaded by any test " * 64


class PrivateRegistry(NamedTuple):
    """A running registry: the certificate of its CA, the URL of the proxy, and the hosts that the proxy was asked for."""

    ca: Path
    proxy: str
    asked: list[str]


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


_BY_DIGEST = {_digest(blob): blob for blob in (_CONFIG, _WEIGHTS)}


def _layer(media_type: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


_MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": _layer("application/vnd.docker.container.image.v1+json", _CONFIG),
        "layers": [_layer("application/vnd.ollama.image.model", _WEIGHTS)],
    }
).encode()


class _Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(200, _BY_DIGEST[self.path.rpartition("/")[2]])

    def do_GET(self) -> None:
        if "/manifests/" in self.path:
            self._answer(200, _MANIFEST)
        elif self.headers["Host"] == HOST:
            self._answer(307, b"", Location=f"https://{BLOBS}{self.path}")
        else:
            self._send_range(_BY_DIGEST[self.path.rpartition("/")[2]])

    def _send_range(self, blob: bytes) -> None:
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        self._answer(206, blob[int(first) : int(last or len(blob)) + 1])

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Proxy(http.server.BaseHTTPRequestHandler):
    registry_port: ClassVar[int]
    asked: ClassVar[list[str]]

    def do_CONNECT(self) -> None:
        self.asked.append(self.path.partition(":")[0])
        with socket.create_connection(("127.0.0.1", self.registry_port)) as registry:
            self.send_response(200)
            self.end_headers()
            ends = [self.connection, registry]
            while True:
                for ready in select.select(ends, [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    ends[ends[0] is ready].sendall(data)

    def do_HEAD(self) -> None:
        """Record a request in plain HTTP, and refuse it."""
        self.asked.append(self.path)
        self.send_error(502)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def private_registry(folder: Path) -> Iterator[PrivateRegistry]:
    """Run the registry and the proxy until the block ends. `folder` gets the keys and certificates."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*issue(folder))
    asked: list[str] = []
    with _serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Registry), context) as registry_port:
        handler = type("Proxy", (_Proxy,), {"registry_port": registry_port, "asked": asked})
        with _serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)) as port:
            yield PrivateRegistry(folder / "ca.crt", f"http://127.0.0.1:{port}", asked)


@contextlib.contextmanager
def _serving(server: http.server.ThreadingHTTPServer, context: ssl.SSLContext | None = None) -> Iterator[int]:
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def issue(folder: Path) -> tuple[Path, Path]:
    """Write the certificate of a CA, and return a certificate that it has signed, and its key."""
    key, ca_key = str(folder / "tls.key"), str(folder / "ca.key")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    commands = (
        ["req", "-x509", *curve, "-days", "2", "-subj", "/CN=Private CA", "-keyout", ca_key, "-out", f"{folder}/ca.crt"],
        ["req", *curve, "-subj", f"/CN={HOST}", "-keyout", key, "-out", f"{folder}/tls.csr"],
        ["x509", "-req", "-in", f"{folder}/tls.csr", "-CA", f"{folder}/ca.crt", "-CAkey", ca_key, "-CAcreateserial",
         "-days", "2", "-extfile", f"{folder}/san", "-out", f"{folder}/tls.crt"],
    )  # fmt: skip
    (folder / "san").write_text(f"subjectAltName=DNS:{HOST},DNS:{BLOBS}\n")
    for command in commands:
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    return folder / "tls.crt", Path(key)
