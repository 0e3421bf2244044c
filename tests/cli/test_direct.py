"""HTTP requests without a proxy: each failure is an OSError."""

from __future__ import annotations

import socket
import threading

import pytest

from llmendpoint_cli.direct import open_url


def test_a_server_that_does_not_speak_http_is_an_os_error() -> None:
    def greet() -> None:
        with server.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(OSError, match="not an HTTP response: BadStatusLine"):
            open_url(f"http://127.0.0.1:{server.getsockname()[1]}/api/tags", 5.0)
        thread.join()
