"""The start of a stack: it is complete when its own programs answer."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.plan import Plan
from llmendpoint_cli.stack.start import start_stack
from llmendpoint_cli.stack.state import Kind, Program, Stack
from llmendpoint_common.process.errors import StackError
from support.machine.local_stack import local_stack
from support.machine.other_programs import another_server

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


def test_an_interruption_while_the_supervisor_is_being_started_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisors: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def interrupted(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        supervisors.append(start(*arguments, **options))
        signal.raise_signal(signal.SIGINT)
        return supervisors[0]

    with local_stack(tmp_path / "state") as local:
        folders = Folders(local.folders.root)
        folders.create()
        monkeypatch.setattr(subprocess, "Popen", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start_stack(folders, Plan(Stack("1", time.time(), {}, (), ()), {}), lambda _: None)
        monkeypatch.undo()
        assert [supervisor.returncode is not None for supervisor in supervisors] == [True]
        assert local.processes() == []
