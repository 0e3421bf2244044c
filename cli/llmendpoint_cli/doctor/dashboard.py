"""The dashboard of a stack, which shows the findings of `llmendpoint doctor` about the stack and this machine.

`up` starts it as `python -m llmendpoint_cli.doctor.dashboard STATE_FOLDER OPTIONS`. The options are those of the
dashboard. Without the state folder, the dashboard could not say which programs of the stack have ended, nor with which
options the stack is started again.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import aiohttp

from llmendpoint_cli.doctor.machine import facts_of, wanted_context
from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.state import read_stack
from llmendpoint_common.diagnosis.facts import MachineFacts
from llmendpoint_common.diagnosis.gather import Places
from llmendpoint_dashboard.main import main as run_dashboard


def main(arguments: Sequence[str]) -> int:
    """Run the dashboard of the stack in a state folder, and return the exit code."""
    folders = Folders(Path(arguments[0]))

    async def observe(session: aiohttp.ClientSession, places: Places) -> MachineFacts:
        stack = await asyncio.to_thread(read_stack, folders)
        wanted, by = wanted_context(None, stack)
        ollamas = tuple(replace(ollama, wanted_context=wanted, wanted_by=by) for ollama in places.ollamas)
        return await facts_of(session, replace(places, ollamas=ollamas), folders, stack)

    return run_dashboard(arguments[1:], "llmendpoint dashboard", observe)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
