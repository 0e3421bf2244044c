"""`llmendpoint up --foreground`: stays until a signal, and ends the stack with it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.lock import exclusive
from llmendpoint_cli.stack.signals import one_at_a_time
from llmendpoint_cli.stack.stop import kill_stack, stop_stack
from llmendpoint_common.process import exit_codes

Say = Callable[[str], None]


def stay(folders: Folders, supervisor: subprocess.Popen[bytes], show: Callable[[], None], say: Say) -> int:
    """Call `show`, and wait for SIGINT, SIGTERM or SIGHUP, which end the stack. Return the exit code.

    A second signal kills what still runs. If the stack ends by itself, its exit code is returned.
    """
    with one_at_a_time() as again:
        try:
            show()
            code = supervisor.wait()
        except KeyboardInterrupt:
            return _end(folders, supervisor, say, again)
    # `llmendpoint down` of another terminal ends the supervisor with 0.
    return exit_codes.OK if code == 0 else exit_codes.ERROR


def _end(folders: Folders, supervisor: subprocess.Popen[bytes], say: Say, again: Callable[[], None]) -> int:
    """End the stack, and return the exit code. `again` lets one more signal interrupt this."""

    def say_if_possible(sentence: str) -> None:
        # The terminal may be gone.
        with contextlib.suppress(OSError):
            say(sentence)

    say_if_possible("ending everything, after requests have finished; press Ctrl-C again to cut them off")
    try:
        again()
        with exclusive(folders.root):
            stop_stack(folders, say_if_possible)
        supervisor.wait()
    except KeyboardInterrupt:
        say_if_possible("killing what still runs")
        kill_stack(folders)
        supervisor.wait()
        return exit_codes.INTERRUPTED
    return exit_codes.OK
