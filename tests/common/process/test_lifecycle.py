"""How a process ends at the signals that a closed terminal sends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

_PROGRAM = """
import asyncio, os, signal, sys
from llmendpoint_common.process import lifecycle

async def serve(stopping):
    os.kill(os.getpid(), signal.SIGHUP)
    for _ in range(2):
        try:
            await asyncio.wait_for(stopping.wait(), float(sys.argv[1]))
        except TimeoutError:
            return 5
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.05)
    return 3

# What a shell, or nohup(1), leaves to the program.
signal.signal(signal.SIGHUP, signal.Handlers[sys.argv[2]])
sys.exit(lifecycle.run(serve))
"""


def run(seconds: float, handler: signal.Handlers) -> int:
    """Return the exit code of a program that receives SIGHUP three times: 3 if it was asked to stop, 5 if not."""
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(seconds), handler.name], check=False, timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ).returncode  # fmt: skip


def test_a_closed_terminal_asks_a_process_to_stop_however_often_it_is_said() -> None:
    assert run(20, signal.SIG_DFL) == 3


def test_nohup_keeps_a_process_running() -> None:
    assert run(0.2, signal.SIG_IGN) == 5
