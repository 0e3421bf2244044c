"""An admission webhook of a test: an HTTPS server on loopback, and its registration at a real API server."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from support.tls import issue


class Webhook:
    """Denies with `sentence`, or does not answer as long as `hangs` is true."""

    def __init__(self) -> None:
        self.sentence = ""
        self.hangs = False
        self.calls = 0
        self.released = threading.Event()


def _handler(webhook: Webhook) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            webhook.calls += 1
            if webhook.hangs:
                webhook.released.wait(30)
            answer: dict[str, Any] = {"uid": review["request"]["uid"], "allowed": not webhook.sentence}
            if webhook.sentence:
                answer["status"] = {"code": 403, "message": webhook.sentence}
            body = json.dumps(
                {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}
            ).encode()
            try:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                return  # The API server has given up.

        def log_message(self, *_: Any) -> None:
            """Write nothing."""

    return Handler


@contextmanager
def serve_webhook(folder: Path) -> Iterator[tuple[Webhook, dict[str, Any]]]:
    """Serve a webhook. Yields it and the `clientConfig` with which the API server calls it."""
    webhook = Webhook()
    cert, key = issue(folder, "webhook")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(webhook))
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    bundle = base64.b64encode(cert.read_bytes()).decode()
    try:
        yield webhook, {"url": f"https://127.0.0.1:{server.server_port}/", "caBundle": bundle}
    finally:
        webhook.released.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


def registration(name: str, namespace: str, client: dict[str, Any], *, timeout: int) -> dict[str, Any]:
    """Return a ValidatingWebhookConfiguration for StatefulSets in one namespace. The timeout is in seconds."""
    rule = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["statefulsets"],
    }
    hook = {
        "name": "gate.example.com", "clientConfig": client, "rules": [rule], "sideEffects": "None", "failurePolicy": "Fail",
        "admissionReviewVersions": ["v1"], "timeoutSeconds": timeout,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
    }  # fmt: skip
    return {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name}, "webhooks": [hook]}  # fmt: skip
