"""The supervisor of the local stack: a process without a terminal that starts the programs and keeps them running.

`up` starts it as `python -m llmendpoint_cli.stack.supervisor STATE_FOLDER`. It reads `stack.json`, writes the output of
the programs to their logs, starts programs that ended again, and keeps the state files. Signals control it:

- SIGHUP: read `stack.json` again, start the programs that are new, and end those that are no longer in it.
- SIGTERM: end all programs in stages, so that the sidecars drain while their upstream still runs, and then itself.
- a second SIGTERM: kill what still runs.

If the supervisor is killed, the kernel sends SIGTERM to its children (on Linux). It has one thread and no event loop of
asyncio, so that it starts within a tenth of a second and uses little memory.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from llmendpoint_cli.stack.child import Child
from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.identity import start_ticks
from llmendpoint_cli.stack.lock import wait_for_lock
from llmendpoint_cli.stack.logfile import LogFile
from llmendpoint_cli.stack.state import (
    Kind,
    Phase,
    ProcessRecord,
    Program,
    Stack,
    read_process,
    read_stack,
    remove_process,
    write_process,
    write_stack,
)
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import StackError
from llmendpoint_common.process.exit_codes import exit_text
from llmendpoint_common.process.folder_lock import try_lock

SUPERVISOR = "supervisor"
#: The stages in which programs end. A sidecar drains while its upstream still runs.
_STAGES = {Kind.TRAFFIC: 0, Kind.DASHBOARD: 1, Kind.PROMETHEUS: 1, Kind.SIDECAR: 2}
_LAST_STAGE = 3
_CHECK_SECONDS = 2.0
#: `status` and others hold the lock for a moment when they test it.
_LOCK_SECONDS = 3.0


def supervisor_command(folders: Folders) -> tuple[str, ...]:
    """Return the command line of the supervisor of a state folder."""
    return (sys.executable, "-m", "llmendpoint_cli.stack.supervisor", str(folders.root))


class Supervisor:
    """The main loop, the programs and the state files."""

    def __init__(self, folders: Folders, stack: Stack) -> None:
        self._folders = folders
        self._stack = stack
        self._children: dict[str, Child] = {}
        self._ending: list[Child] = []
        self._log = LogFile(folders.logs / f"{SUPERVISOR}.log")
        self._selector = selectors.DefaultSelector()
        self._signals: list[int] = []
        self._stopping = False
        self._since = time.time()
        self._ticks = start_ticks(os.getpid())
        self._lock = wait_for_lock(folders.processes, _LOCK_SECONDS)
        self._next_check = 0.0

    def run(self) -> int:
        """Supervise until SIGTERM, and return the exit code."""
        if self._lock is None:
            # Another supervisor runs.
            return exit_codes.ERROR
        self._listen_to_signals()
        self._say(f"started, version {self._stack.version}, process {os.getpid()}")
        self._write_records()
        for program in self._stack.programs:
            self._start(self._add(program))
        while not (self._stopping and self._all_ended()):
            self._turn()
        self._drain_pipes()
        self._say("ended")
        self._write_records()
        return exit_codes.OK

    def _turn(self) -> None:
        """Wait for output, a signal or a time, and handle it."""
        for key, _ in self._selector.select(self._wait_seconds()):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._signals.extend(os.read(key.fd, 4096))
            else:
                child = cast("Child", key.data)
                if not child.read(key.fd):
                    self._close_pipe(child, key.fd)
        for number in self._signals[:]:
            self._signals.remove(number)
            self._on_signal(number)
        self._collect()
        now = time.monotonic()
        for child in self._all():
            if child.kill_at is not None and now >= child.kill_at:
                child.kill()
                self._say(f"{child.program.name}: {child.message}")
            if child.restart_at is not None and now >= child.restart_at:
                self._start(child)
        if self._stopping:
            self._stop_next_stage()
        if now >= self._next_check:
            self._next_check = now + _CHECK_SECONDS
            self._mend()

    def _wait_seconds(self) -> float:
        times = [self._next_check]
        for child in self._all():
            times += [moment for moment in (child.restart_at, child.kill_at) if moment is not None]
        return max(0.0, min(times) - time.monotonic())

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP and not self._stopping:
            self._reload()
        elif number in (signal.SIGTERM, signal.SIGINT):
            if self._stopping:
                for child in self._all():
                    child.stop()
                    child.kill()
            else:
                self._say("stopping")
                self._stopping = True

    def _reload(self) -> None:
        stack = read_stack(self._folders)
        if stack is None:
            self._say("stack.json cannot be read: nothing was changed")
            return
        self._stack = stack
        for name, child in list(self._children.items()):
            if stack.program(name) != child.program:
                del self._children[name]
                self._ending.append(child)
                child.stop()
                self._say(f"{name}: no longer wanted")
        for program in stack.programs:
            if program.name not in self._children:
                self._start(self._add(program))

    def _add(self, program: Program) -> Child:
        child = self._children[program.name] = Child(program, self._folders)
        return child

    def _start(self, child: Child) -> None:
        if self._stopping:
            child.stop()
            return
        pipe = child.start()
        if pipe is not None:
            self._selector.register(pipe, selectors.EVENT_READ, child)
            self._say(f"{child.program.name}: started, process {child.pid}")
        else:
            self._say(f"{child.program.name}: {child.message}")
        self._write_record(child.record())

    def _collect(self) -> None:
        for child in self._all():
            if not child.collect():
                continue
            how = exit_text(child.exit_code or 0)
            again = "" if child.restart_at is None else "; it is started again"
            self._say(f"{child.program.name}: ended with {how}{again}")
            name = child.program.name
            if child in self._ending:
                self._ending.remove(child)
                # The record of a program that replaced this one has the same file.
                if name not in self._children:
                    remove_process(self._folders, name)
            else:
                self._write_record(child.record())

    def _stop_next_stage(self) -> None:
        """Ask the programs of the earliest stage that still has some to end."""
        left = [child for child in self._all() if child.phase is not Phase.ENDED]
        if not left:
            return
        stage = min(_stage(child) for child in left)
        for child in left:
            if _stage(child) == stage and child.phase is not Phase.STOPPING:
                child.stop()
                self._write_record(child.record())

    def _all(self) -> list[Child]:
        return [*self._children.values(), *self._ending]

    def _all_ended(self) -> bool:
        return all(child.phase is Phase.ENDED for child in self._all())

    def _drain_pipes(self) -> None:
        """Read the last output of programs that have ended."""
        for child in self._all():
            for pipe in child.pipes[:]:
                while child.read(pipe) and _is_readable(pipe):
                    pass
                self._close_pipe(child, pipe)

    def _close_pipe(self, child: Child, pipe: int) -> None:
        self._selector.unregister(pipe)
        child.close(pipe)

    def _mend(self) -> None:
        """Write state files that are damaged or gone, and output that could not be written."""
        for log in (self._log, *(child.log for child in self._all())):
            log.flush()
        if self._stopping:
            return
        self._keep_lock()
        with contextlib.suppress(OSError):
            if read_stack(self._folders) is None:
                write_stack(self._folders, self._stack)
        for record in (self._record(), *(child.record() for child in self._children.values())):
            if read_process(self._folders, record.name) != record:
                self._write_record(record)

    def _keep_lock(self) -> None:
        """Create the state folder again if it was removed, and lock it."""
        with contextlib.suppress(OSError, StackError):
            folder = self._folders.processes
            if self._lock is not None and folder.exists() and os.path.samestat(os.fstat(self._lock), folder.stat()):
                return
            self._folders.create()
            if self._lock is not None:
                os.close(self._lock)
            self._lock = try_lock(folder)

    def _record(self) -> ProcessRecord:
        pid = os.getpid()
        phase = Phase.STOPPING if self._stopping else Phase.RUNNING
        command = supervisor_command(self._folders)
        return ProcessRecord(SUPERVISOR, pid, self._ticks, command, "", self._since, Kind.SUPERVISOR, phase)

    def _write_records(self) -> None:
        self._write_record(self._record())
        for child in self._all():
            self._write_record(child.record())

    def _write_record(self, record: ProcessRecord) -> None:
        with contextlib.suppress(OSError):
            write_process(self._folders, record)

    def _listen_to_signals(self) -> None:
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, _ignore)
        self._selector.register(read, selectors.EVENT_READ, None)

    def _say(self, sentence: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._log.write(f"{now} {sentence}\n".encode())


def _stage(child: Child) -> int:
    return _STAGES.get(child.program.kind, _LAST_STAGE)


def _ignore(*_: object) -> None:
    """Handle a signal. Python has already written its number to the wake-up descriptor."""


def _is_readable(pipe: int) -> bool:
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(0))


def main() -> int:
    """Run the supervisor of the state folder in the command line."""
    folders = Folders(Path(sys.argv[1]))
    stack = read_stack(folders)
    if stack is None:
        return exit_codes.ERROR
    try:
        return Supervisor(folders, stack).run()
    except BaseException:
        LogFile(folders.logs / f"{SUPERVISOR}.log").write(traceback.format_exc().encode())
        raise


if __name__ == "__main__":
    sys.exit(main())
