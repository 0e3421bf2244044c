"""A registry in a pod that passes another registry's models on slowly, so that a pull takes a known time.

The file is the program too: `python slow_registry.py UPSTREAM SECONDS`, with the variable POD_IP. `/sent` answers how
many bytes of large blobs were sent, and `/size` how many they have.
"""

from __future__ import annotations

import http.server
import os
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.on_cluster.cluster import Namespace

PORT = 5000
#: Smaller blobs, such as the template, are sent at once.
_LARGE = 100_000
_PIECES = 200
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class _Handler(http.server.BaseHTTPRequestHandler):
    upstream = ""
    seconds = 0.0
    sent = 0
    size = 0

    def do_HEAD(self) -> None:
        """Answer with the size of a blob or manifest."""
        self._answer(b"", len(self._fetch()))

    def do_GET(self) -> None:
        """Answer with a manifest, a redirect to a blob, or a blob."""
        if self.path in ("/sent", "/size"):
            self._answer(str(_Handler.sent if self.path == "/sent" else _Handler.size).encode())
        elif "/blobs/" in self.path and not self.path.startswith("/direct"):
            # Ollama wants a redirect to another host.
            self._answer(b"", status=307, Location=f"http://{os.environ['POD_IP']}:{PORT}/direct{self.path}")
        else:
            self._send()

    def _fetch(self) -> bytes:
        path = self.path.removeprefix("/direct")
        request = urllib.request.Request(f"http://{self.upstream}{path}", headers={"Accept": _MANIFEST})
        with urllib.request.urlopen(request, timeout=30) as response:
            return bytes(response.read())

    def _send(self) -> None:
        whole = self._fetch()
        wanted = self.headers.get("Range")
        if not wanted or len(whole) < _LARGE:
            self._answer(whole)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        body = whole[int(first) : int(last) + 1]
        self._answer(b"", len(body), status=206)
        _Handler.size = len(whole)
        step = len(whole) // _PIECES + 1
        for start in range(0, len(body), step):
            self.wfile.write(body[start : start + step])
            _Handler.sent += len(body[start : start + step])
            time.sleep(self.seconds / _PIECES)

    def _answer(self, body: bytes, length: int | None = None, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)


def start_slow_registry(namespace: Namespace, upstream: str, seconds: float, image: str) -> str:
    """Run the registry in a namespace, and return its host and port. A large blob takes this time."""
    program = {"slow_registry.py": Path(__file__).read_text(encoding="utf-8")}
    labels = {"app": "slow-registry"}
    namespace.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "program"}, "data": program})
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "slow-registry"},
            "spec": {"selector": labels, "ports": [{"port": PORT}]},
        }
    )
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "slow-registry", "labels": labels},
            "spec": _pod(upstream, seconds, image),
        }
    )
    namespace.run("wait", "--for=condition=Ready", "--timeout=2m", "pod/slow-registry")
    return f"slow-registry.{namespace.name}.svc.cluster.local:{PORT}"


def _pod(upstream: str, seconds: float, image: str) -> dict[str, Any]:
    security = {"runAsNonRoot": True, "runAsUser": 64000, "seccompProfile": {"type": "RuntimeDefault"}}
    address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    container = {
        "name": "registry",
        "image": image,
        "command": ["python", "/program/slow_registry.py", upstream, str(seconds)],
        "env": [address],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "program", "mountPath": "/program"}],
    }
    volumes = [{"name": "program", "configMap": {"name": "program"}}]
    return {
        "securityContext": security,
        "containers": [container],
        "volumes": volumes,
        "terminationGracePeriodSeconds": 1,
    }


if __name__ == "__main__":
    _Handler.upstream, _Handler.seconds = sys.argv[1], float(sys.argv[2])
    http.server.ThreadingHTTPServer(("", PORT), _Handler).serve_forever()
