"""A pod in front of a registry: a port with a certificate of a private CA, and a proxy that alone knows its host name.

The file is the program too: `python private_gateway.py UPSTREAM`. The log has a line for each host that a client asked
the proxy for.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.on_cluster.cluster import Namespace

#: The host name of the registry. It is in no DNS.
HOST = "registry.test"
PROXY_PORT = 3128
_TLS_PORT = 5443
_FOLDER = "/certificates"


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def _connect(client: socket.socket, address: tuple[str, int]) -> None:
    with client, socket.create_connection(address) as server:
        back = threading.Thread(target=_copy, args=[server, client])
        back.start()
        _copy(client, server)
        back.join()


def _serve_proxy(client: socket.socket) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        head += client.recv(4096)
    method, target, _ = head.split(maxsplit=2)
    print(method.decode(), target.decode(), flush=True)
    if method == b"CONNECT" and target.startswith(HOST.encode()):
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        _connect(client, ("127.0.0.1", _TLS_PORT))
    else:
        client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        client.close()


def _run(upstream: str) -> None:
    host, _, port = upstream.partition(":")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(f"{_FOLDER}/tls.crt", f"{_FOLDER}/tls.key")
    proxy, tls = (socket.create_server(("", number)) for number in (PROXY_PORT, _TLS_PORT))

    def accept_tls() -> None:
        while True:
            client = context.wrap_socket(tls.accept()[0], server_side=True, do_handshake_on_connect=False)
            threading.Thread(target=_connect, args=[client, (host, int(port))], daemon=True).start()

    threading.Thread(target=accept_tls, daemon=True).start()
    while True:
        threading.Thread(target=_serve_proxy, args=[proxy.accept()[0]], daemon=True).start()


def start_private_gateway(namespace: Namespace, upstream: str, image: str, certificate: tuple[Path, Path]) -> str:
    """Run the pod in a namespace, and return the URL of the proxy. `certificate` is the certificate and its key."""
    labels = {"app": "gateway"}
    files = {"gateway.py": Path(__file__), "tls.crt": certificate[0], "tls.key": certificate[1]}
    data = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "gateway"}, "stringData": data})
    service = {"selector": labels, "ports": [{"port": PROXY_PORT}]}
    namespace.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "gateway"}, "spec": service})
    metadata = {"name": "gateway", "labels": labels}
    namespace.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": _pod(upstream, image)})
    return f"http://gateway.{namespace.name}.svc.cluster.local:{PROXY_PORT}"


def _pod(upstream: str, image: str) -> dict[str, Any]:
    container = {
        "name": "gateway",
        "image": image,
        "command": ["python", f"{_FOLDER}/gateway.py", upstream],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "readinessProbe": {"tcpSocket": {"port": _TLS_PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "files", "mountPath": _FOLDER}],
    }
    return {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 64000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "files", "secret": {"secretName": "gateway"}}],
        "terminationGracePeriodSeconds": 1,
    }


if __name__ == "__main__":
    _run(sys.argv[1])
