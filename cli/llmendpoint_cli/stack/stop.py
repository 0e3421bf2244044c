"""Ends a stack: asks its supervisor, waits until the sidecars have drained, and kills what does not end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from llmendpoint_cli.stack.ending import EndWatch
from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.health import supervisor_runs
from llmendpoint_cli.stack.identity import is_running, marked, send, start_ticks, wait_until_ended
from llmendpoint_cli.stack.state import (
    Phase,
    ProcessRecord,
    Stack,
    read_process,
    read_processes,
    read_stack,
    remove_state,
)
from llmendpoint_cli.stack.supervisor import SUPERVISOR, supervisor_command
from llmendpoint_common.process.exit_codes import exit_text

Say = Callable[[str], None]
#: Time for the supervisor itself, beside that of its programs.
_SUPERVISOR_SECONDS = 5.0
_KILL_SECONDS = 5.0
_LOOK_SECONDS = 0.25


class Process(NamedTuple):
    """A process that belongs to the stack."""

    name: str
    pid: int
    ticks: int | None
    command: tuple[str, ...] = ()


def stop_stack(folders: Folders, say: Say, seconds: float | None = None) -> bool:
    """End all processes of the stack, and remove its state files. Return whether there was anything to end.

    If `seconds` is set, programs that still run after this time are killed. Otherwise each program has its own time.
    """
    stack = read_stack(folders)
    found = find_processes(folders)
    watch = EndWatch(folders, stack, say, seconds)
    if supervisor_runs(folders) or any(process.name == SUPERVISOR for process in found):
        _stop_supervisor(stack, found, seconds, watch)
    records = read_processes(folders)
    left = find_processes(folders)
    for process in left:
        _end(process, say, _patience(seconds))
    _report(stack, records, {process.name for process in left} | watch.killed, say)
    remove_state(folders)
    return bool(found)


def kill_stack(folders: Folders) -> None:
    """Kill all processes of the stack, without waiting for requests, and remove its state files."""
    stop_stack(folders, lambda _: None, seconds=0.0)


def find_processes(folders: Folders) -> list[Process]:
    """Return the processes of the stack that run: those in the state files, and on Linux also those without a file.

    The supervisor is the first one, because it would start the others again.
    """
    found: dict[int, Process] = {}
    for record in read_processes(folders).values():
        if is_running(record.pid, record.start_ticks, record.command):
            found[record.pid] = Process(record.name, record.pid, record.start_ticks, record.command)
    for pid in marked(folders.root):
        ticks = start_ticks(pid)
        if ticks is not None and pid not in found:
            found[pid] = Process(_name(folders, pid), pid, ticks)
    return sorted(found.values(), key=lambda process: (process.name != SUPERVISOR, process.name, process.pid))


def _stop_supervisor(stack: Stack | None, found: list[Process], seconds: float | None, watch: EndWatch) -> None:
    supervisors = [process for process in found if process.name == SUPERVISOR]
    limit = _seconds(stack) if seconds is None else seconds
    for process in supervisors:
        _ask(process)
    deadline = time.monotonic() + limit
    for process in supervisors:
        if _ends_before(deadline, process, watch):
            continue
        # The second signal kills the programs.
        send(process.pid, process.ticks, signal.SIGTERM, process.command)
        if not wait_until_ended(process.pid, process.ticks, _patience(seconds), process.command):
            send(process.pid, process.ticks, signal.SIGKILL, process.command)
            wait_until_ended(process.pid, process.ticks, _KILL_SECONDS, process.command)


def _ends_before(deadline: float, process: Process, watch: EndWatch) -> bool:
    """Wait for the end of a supervisor, and watch its programs in the meantime. Return whether it has ended."""
    while (left := deadline - time.monotonic()) > 0:
        if wait_until_ended(process.pid, process.ticks, min(left, _LOOK_SECONDS), process.command):
            return True
        watch.look()
    return wait_until_ended(process.pid, process.ticks, 0.0, process.command)


def _patience(seconds: float | None) -> float:
    """Return how long a process may take after a signal that does not wait for requests."""
    return _KILL_SECONDS if seconds is None else min(_KILL_SECONDS, max(seconds, 0.5))


def _end(process: Process, say: Say, seconds: float) -> None:
    """End a process that no supervisor ended. After `seconds`, it is killed."""
    if not _ask(process):
        return
    if wait_until_ended(process.pid, process.ticks, seconds, process.command):
        say(f"{process.name}: process {process.pid} was left over, and has ended")
        return
    send(process.pid, process.ticks, signal.SIGKILL, process.command)
    wait_until_ended(process.pid, process.ticks, _KILL_SECONDS, process.command)
    say(f"{process.name}: process {process.pid} was left over, did not end, and was killed")


def _ask(process: Process) -> bool:
    """Ask a process to end, and return whether it got the signal. A process that was stopped is continued."""
    is_sent = send(process.pid, process.ticks, signal.SIGTERM, process.command)
    send(process.pid, process.ticks, signal.SIGCONT, process.command)
    return is_sent


def _report(stack: Stack | None, records: dict[str, ProcessRecord], left: set[str], say: Say) -> None:
    for program in reversed(stack.programs if stack else ()):
        record = records.get(program.name)
        if record is None or program.name in left or record.phase is not Phase.ENDED:
            continue
        say(f"{program.name}: {record.message or f'ended with {exit_text(record.exit_code or 0)}'}")


def _seconds(stack: Stack | None) -> float:
    """Return how long the stages of a stack may take together."""
    return _SUPERVISOR_SECONDS + sum(program.stop_seconds for program in (stack.programs if stack else ())) + 30.0


def _name(folders: Folders, pid: int) -> str:
    """Return the name of a process without a readable file."""
    try:
        words = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")
    except OSError:
        return f"process {pid}"
    is_supervisor = tuple(words[1:4]) == supervisor_command(folders)[1:]
    return SUPERVISOR if is_supervisor else " ".join(words[:3]).strip() or f"process {pid}"


def supervisor_of(folders: Folders) -> ProcessRecord | None:
    """Return the record of the supervisor, if its process runs."""
    record = read_process(folders, SUPERVISOR)
    if record is not None and is_running(record.pid, record.start_ticks, record.command):
        return record
    return None
