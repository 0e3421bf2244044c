"""HTTP requests without a proxy: each failure is an OSError."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from llmendpoint_cli.direct import open_url
from llmendpoint_cli.stack.health import is_silent, ollama_version, probe
from llmendpoint_cli.upstream import find_ollama, is_simulator, local_models

#: Answers that do not end as HTTP/1.1 says (RFC 9112), or are none. The client of Python has another error for each.
BROKEN = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
    "cut piece": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    "no piece": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    "long line": b"HTTP/1.1 200 OK\r\nX: " + 70_000 * b"x" + b"\r\n\r\n",
    "cut error": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 100\r\n\r\nnot ready",
    "nothing": b"",
}

#: What a probe, which reads a part of the body only, returns if it returns something.
PROBED = {BROKEN["cut"]: (200, "{"), BROKEN["cut error"]: (503, "not ready")}


@contextmanager
def server(answer: bytes) -> Iterator[str]:
    """Run a server that sends `answer` on each connection and closes it, and provide its URL."""

    def serve() -> None:
        while True:
            try:
                with listening.accept()[0] as connection:
                    connection.recv(4096)
                    connection.sendall(answer)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_a_broken_answer_is_an_os_error(answer: bytes) -> None:
    with server(answer) as url, pytest.raises(OSError, match=r".") as failed, open_url(url, 5.0) as response:
        response.read()
    assert "HTTPException" not in repr(failed.value)


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_what_up_and_status_ask_has_an_answer_or_none(answer: bytes) -> None:
    with server(answer) as url:
        found = find_ollama(url)
        assert isinstance(found, str)
        assert found.startswith(f"nothing answers at {url} (")
        assert "Errno" not in found
        assert (local_models(url), ollama_version(url), is_simulator(url), is_silent(url, 5.0)) == (
            [],
            "",
            False,
            False,
        )
        assert probe(url) == PROBED.get(answer)


def test_a_port_on_which_nothing_listens_is_said_without_the_number_of_the_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    assert find_ollama(f"http://127.0.0.1:{port}") == f"nothing answers at http://127.0.0.1:{port} (Connection refused)"
