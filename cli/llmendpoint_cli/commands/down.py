"""`llmendpoint down`: ends what `llmendpoint up` started."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.lock import exclusive
from llmendpoint_cli.stack.stop import Process, find_processes, stop_stack
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import StackError
from llmendpoint_common.process.flags import Flags
from llmendpoint_common.process.units import parse_duration

ENVIRONMENT_PREFIX = "LLMENDPOINT_DOWN_"
_DESCRIPTION = """End everything that `llmendpoint up` started. The proxy lets requests finish first, and programs that
do not end are killed. An Ollama that `up` did not start keeps running. Logs and results of load tests stay."""
_NOTES = """examples:
  llmendpoint down
  llmendpoint down --timeout 2s    do not wait longer for requests

exit codes: 0 nothing runs any more, 1 a process could not be ended, 2 invalid option,
130 interrupted while it waited
"""


def command_line(program: str = "llmendpoint down") -> Flags:
    """Return the options of `down`. `program` is the name in messages."""
    flags = Flags(program, ENVIRONMENT_PREFIX, _DESCRIPTION, _NOTES)
    flags.group("times (250ms, 15s, 1h30m)").option(
        "timeout", parse_duration, None, "time after which what still runs is killed (default: 25s for requests, "
        "and a few seconds for each program)")  # fmt: skip
    return flags


def main(arguments: Sequence[str], program: str = "llmendpoint down") -> int:
    """End the stack, and return the exit code."""
    options = command_line(program).parse(arguments)
    folders = Folders()
    if not folders.root.is_dir():
        print("Nothing runs.")
        return exit_codes.OK
    is_asked = False
    try:
        with exclusive(folders.root):
            is_asked = True
            was_up = stop_stack(folders, lambda sentence: print(sentence, flush=True), options.timeout)
            left = find_processes(folders)
    except KeyboardInterrupt:
        return _interrupted(folders, program, is_asked=is_asked)
    except StackError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code
    if left:
        print(f"{program}: these processes could not be ended: {_names(left)}", file=sys.stderr)
        return exit_codes.ERROR
    print("Nothing runs any more." if was_up else "Nothing runs.")
    return exit_codes.OK


def _interrupted(folders: Folders, program: str, *, is_asked: bool) -> int:
    """Say what still runs. If the supervisor was asked to end it, it continues to do so."""
    left = find_processes(folders)
    text = "nothing runs any more"
    if left:
        state = "were asked to end and still run" if is_asked else "still run, and were not asked to end"
        text = f"these processes {state}: {_names(left)}. `llmendpoint down --timeout 0s` kills them"
    print(f"{program}: interrupted; {text}", file=sys.stderr)
    return exit_codes.INTERRUPTED


def _names(processes: Sequence[Process]) -> str:
    return ", ".join(f"{process.name} (process {process.pid})" for process in processes)
