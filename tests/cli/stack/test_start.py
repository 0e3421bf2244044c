"""The start of a stack: it is complete when its own programs answer."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.plan import Plan
from llmendpoint_cli.stack.start import start_stack
from llmendpoint_cli.stack.state import Kind, Program, Stack
from llmendpoint_common.process.errors import StackError
from support.local_stack import local_stack

#: A program that asks a server when it may end, and does not listen itself.
_PROGRAM = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1]); sys.exit('cannot listen')"


@contextmanager
def another_server() -> Iterator[str]:
    """A server of another program, which answers as ours would. `/end` answers after it was asked for `/livez`."""
    asked = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/livez":
                asked.set()
            else:
                asked.wait(30)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_answer_of_another_program_on_the_port_is_not_that_of_ours(tmp_path: Path) -> None:
    with another_server() as url, local_stack(tmp_path / "state") as local:
        folders = Folders(local.folders.root)
        folders.create()
        program = Program(
            "sidecar", Kind.SIDECAR, (sys.executable, "-c", _PROGRAM, f"{url}/end"), live_url=f"{url}/livez"
        )
        stack = Stack("1", time.time(), {}, (), (program,))
        with pytest.raises(StackError, match="sidecar ended: it ended with exit code 1"):
            start_stack(folders, Plan(stack, {}), lambda _: None)
        assert local.processes() == []
