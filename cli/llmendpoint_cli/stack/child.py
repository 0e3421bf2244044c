"""A child process of the supervisor: its start, its output, its end, and when it is started again."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.identity import MARK, start_ticks
from llmendpoint_cli.stack.logfile import LogFile
from llmendpoint_cli.stack.state import Kind, Phase, ProcessRecord, Program
from llmendpoint_common.process.exit_codes import exit_text
from llmendpoint_common.process.reasons import reason_of

#: Seconds until a crashed program is started again: twice as long each time, up to half a minute.
_FIRST_DELAY, _LONGEST_DELAY = 1.0, 30.0
#: A program that ran this long starts again after the first delay.
_HEALTHY_SECONDS = 60.0
_PIPE_BYTES = 1024 * 1024
_READ_BYTES = 256 * 1024
#: Prefix of the variables with settings of our programs.
_VARIABLES = "LLMENDPOINT_"
_PR_SET_PDEATHSIG = 1


class Child:
    """A program that is kept running. `pid` is 0 while it does not run. Times are those of the monotonic clock."""

    def __init__(self, program: Program, folders: Folders) -> None:
        self.program = program
        self.log = LogFile(folders.logs / f"{program.name}.log")
        self.phase = Phase.ENDED
        self.restarts = 0
        self.exit_code: int | None = None
        self.message = ""
        #: When it is started again, or None.
        self.restart_at: float | None = None
        #: When it is killed, after it was asked to end.
        self.kill_at: float | None = None
        self.pipes: list[int] = []
        self._folders = folders
        self._process: subprocess.Popen[bytes] | None = None
        self._ticks: int | None = None
        self._since = 0.0
        self._started = 0.0
        self._asked_at = 0.0
        self._delay = _FIRST_DELAY

    @property
    def pid(self) -> int:
        """ID of the process, or 0 if none runs."""
        return self._process.pid if self._process else 0

    def start(self) -> int | None:
        """Start the program. Return the end of the pipe with its output, or None if it could not be started."""
        read, write = os.pipe()
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        os.set_blocking(read, False)
        self.restart_at = None
        try:
            # The supervisor has one thread, so code between fork and exec is safe.
            self._process = subprocess.Popen(  # noqa: S603
                self.program.command, stdin=subprocess.DEVNULL, stdout=write, stderr=write, start_new_session=True,
                cwd=self.program.folder or self._folders.root, env=self._environment(),
                preexec_fn=end_with(os.getpid()),  # noqa: PLW1509
                # The models of an Ollama may be shared with other users.
                umask=-1 if self.program.kind is Kind.OLLAMA else 0o077,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            os.close(read)
            self._plan_restart(f"it could not be started: {reason_of(error)}")
            return None
        finally:
            os.close(write)
        self._ticks = start_ticks(self._process.pid)
        self._since, self._started = time.time(), time.monotonic()
        self.phase, self.message = Phase.RUNNING, ""
        self.pipes.append(read)
        return read

    def read(self, pipe: int) -> bool:
        """Copy the output that has arrived to the log. Return False at its end."""
        try:
            data = os.read(pipe, _READ_BYTES)
        except BlockingIOError:
            return True
        self.log.write(data)
        return bool(data)

    def close(self, pipe: int) -> None:
        """Close a pipe."""
        self.pipes.remove(pipe)
        os.close(pipe)

    def collect(self) -> bool:
        """Record the end of the process, if it has ended. Return whether it has ended since the last call."""
        if self._process is None:
            return False
        if not _has_ended(self._process):
            return False
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGTERM)
        self.exit_code = self._process.wait()
        self._process, self.kill_at = None, None
        if self.phase is Phase.STOPPING:
            self.phase = Phase.ENDED
        else:
            self._plan_restart(f"it ended with {exit_text(self.exit_code)}")
        return True

    def stop(self) -> None:
        """Ask the process to end. If it was about to be started again, it is not."""
        self.restart_at = None
        if self._process is None:
            self.phase = Phase.ENDED
        elif self.phase is not Phase.STOPPING:
            self.phase = Phase.STOPPING
            self._asked_at = time.monotonic()
            self.kill_at = self._asked_at + self.program.stop_seconds
            self._process.terminate()
            # A process that was stopped, such as with SIGSTOP, handles SIGTERM only when it continues.
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End the process and its group immediately."""
        if self._process is not None:
            self.kill_at = None
            self.message = f"it did not end within {time.monotonic() - self._asked_at:.0f} s, and was killed"
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def record(self) -> ProcessRecord:
        """Return the content of its state file."""
        program = self.program
        return ProcessRecord(program.name, self.pid, self._ticks, program.command, program.address, self._since,
                             program.kind, self.phase, self.restarts, self.exit_code, self.message)  # fmt: skip

    def _plan_restart(self, message: str) -> None:
        if time.monotonic() - self._started > _HEALTHY_SECONDS:
            self._delay = _FIRST_DELAY
        self.phase, self.message = Phase.RESTARTING, message
        self.restart_at = time.monotonic() + self._delay
        self.restarts += 1
        self._delay = min(2 * self._delay, _LONGEST_DELAY)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_VARIABLES)}
        return {**kept, **self.program.environment, MARK: str(self._folders.root)}


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a child has ended. Its ID is kept until `wait`, so that no other process gets it meanwhile.

    Before Python 3.13, macOS has no `waitid`.
    """
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def end_with(supervisor: int) -> Callable[[], None] | None:
    """Return the function that makes a child get SIGTERM when the supervisor ends, or None on other systems than Linux.

    It runs between fork and exec (prctl(2), PR_SET_PDEATHSIG), which is safe because the supervisor has one thread.
    """
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None, use_errno=True)

    def prepare() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != supervisor:
            os._exit(1)

    return prepare
