"""The start of a stack: it is complete when its own programs answer."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.plan import Plan
from llmendpoint_cli.stack.start import start_stack
from llmendpoint_cli.stack.state import Kind, Program, Stack
from llmendpoint_common.process.errors import StackError
from support.local_stack import local_stack
from support.other_programs import another_server

#: A program that asks a server when it may end, and does not listen itself.
_PROGRAM = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1]); sys.exit('cannot listen')"


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
